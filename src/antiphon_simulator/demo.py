"""The demo's day: five hundred people, a phone that sends twenty messages a second, half a minute."""

from __future__ import annotations

from antiphon_simulator.settings import Behavior, Delay, Scenario, Settings

# About ninety people reply; they take these in turn, so that one or two say STOP.
REPLIES = (
    "Yes please",
    "Terima kasih!",
    "How much is it?",
    "Boleh tahu harga?",
    "Great, see you there",
    "Ya, saya berminat",
    "Danke, ich komme gern",
    "Is it still open on Sunday?",
    "谢谢",
    "👍",
    "Can I bring a friend?",
    "Di mana lokasinya?",
    "OK",
    "Gracias, me interesa",
    "Saya datang hari Sabtu",
    "Which branch?",
    "多少钱？",
    "Not today, maybe next week",
    "Merci beaucoup",
    "Please call me",
    "Tolong call saya petang ni",
    "STOP",
    "Do you deliver?",
    "நன்றி",
    "Interested",
    "Wie lange gilt das Angebot?",
    "Ada saiz besar?",
    "Thanks! 😊",
    "Nak dua boleh?",
    "What time do you open?",
    "好的，我会来",
    "Sounds good",
    "Boleh bayar online?",
    "¿Hasta qué hora están abiertos?",
    "Is there a discount for members?",
    "Ok noted",
    "Berapa hari promosi ni?",
    "I already bought one, love it",
    "Hantar ke Ipoh boleh?",
    "Perfect, thank you",
    "Ja, gerne",
    "Can you send the catalogue?",
    "Saya nak satu",
    "Is parking free?",
    "可以订位吗？",
    "See you tomorrow",
    "Baik, terima kasih",
    "Count me in",
)


def settings() -> Settings:
    """About 92 of 100 get it, 60 of 100 of these read it, 18 of 100 reply; half of the news must be asked for."""
    day = Behavior(
        rate=20.0,
        latency=Delay(least=0.02, mean=0.05, most=0.3),
        absent=0.014,
        failed=0.01,
        delivered=0.945,
        read=0.6,
        replied=0.32,
        sent_after=Delay(least=0.1, mean=0.3, most=1.0),
        failed_after=Delay(least=0.5, mean=1.0, most=3.0),
        delivered_after=Delay(least=0.3, mean=1.0, most=4.0),
        read_after=Delay(least=0.5, mean=2.0, most=5.0),
        replied_after=Delay(least=0.8, mean=2.0, most=5.0),
        replies=REPLIES,
        statuses="half",
        duplicates=0.02,
        disorder=0.02,
        webhook_retries=5,
    )
    return Settings(
        scenario=Scenario(seed=2025, wsapme=day, meta=day, keyed=day, smtp=Behavior(absent=0.014))
    )
