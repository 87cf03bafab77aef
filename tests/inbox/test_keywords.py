"""What counts as STOP, START or HELP, and what does not."""

from __future__ import annotations

import pytest

from antiphon.inbox.keywords import LONGEST, Keyword, find

STOP = [
    "STOP", "stop", "Stop.", " Stop. ", "stop!", "STOP!!!", "stop\n", "\tSTOP\r\n", "«Stop»", "“STOP”", "*STOP*",
    "'stop'", "STOP 🛑", "🙏 stop", "ＳＴＯＰ", "s\u0301top", "st\u200bop",
    "STOPALL", "stop all", "STOP  ALL", "QUIT", "End", "REVOKE",
    "OPT OUT", "opt-out", "OPTOUT", "Cancel", "UNSUBSCRIBE", "unsub", "Please stop", "Stop promotions",
    "STOPP", "Abmelden", "abbestellen!", "Austragen",
    "ARRÊT", "arret", "ARRÊTER", "Désabonner", "desabonner", "arre\u0302t",
    "BAJA", "Dar de baja", "No más", "cancelar",
    "Disiscrivimi", "basta", "FERMA",
    "PARAR", "sair", "Descadastrar",
    "Afmelden", "uitschrijven", "WYPISZ", "Rezygnuję", "rezygnuje",
    "BERHENTI", "berhenti.", "Batal", "UNREG",
    "DURDUR", "İPTAL", "iptal", "IPTAL", "RET", "abonelikten çık",
    "توقف", "إيقاف", "ايقاف", "إلغاء", "الغاء", "СТОП", "отписаться", "退订", "取消訂閱", "停止", "रोकें",
]  # fmt: skip
START = [
    "START", "start", "Start!", "UNSTOP", "Resume", "subscribe", "opt in", "OPT-IN", "Anmelden", "Démarrer",
    "s'abonner", "s’abonner", "ALTA", "Iscrivimi", "aanmelden", "Zapisz", "MULA", "mulai", "Başla", "BAŞLAT",
    "ابدأ", "اشتراك", "старт",
]  # fmt: skip
HELP = [
    "HELP", "help?", "Info", "Hilfe", "AIDE", "ayuda", "Aiuto", "ajuda", "hulp", "POMOC", "Bantuan", "tolong", "Yardım",
    "YARDIM", "مساعدة",
]  # fmt: skip
NEITHER = [
    "STOP 12345", "12345 STOP", "STOP1", "please stop by tomorrow", "don't stop", "the bus stop", "stop stop",
    "s t o p", "STOPPED", "nonstop", "bustop", "stopwatch", "I want to unsubscribe from this", "cancel my booking",
    "End of March",
    "start date?", "restart", "can you help me with my order", "helpful", "info@example.com", "yes", "no", "ok", "ja",
    "retour", "batal tempahan saya", "la fin", "durum", "finally", "abmelden bitte erst nächste Woche", "endlich",
    "", "   ", "!!!", "🛑", "…", "\u200b", "stop" + " " * LONGEST + ".", "x" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("text", STOP)
def test_stop_in_whatever_language_case_and_punctuation(text: str) -> None:
    assert find(text) is Keyword.STOP


@pytest.mark.parametrize("text", START)
def test_start(text: str) -> None:
    assert find(text) is Keyword.START


@pytest.mark.parametrize("text", HELP)
def test_help(text: str) -> None:
    assert find(text) is Keyword.HELP


@pytest.mark.parametrize("text", NEITHER, ids=lambda text: text[:30])
def test_a_sentence_a_number_beside_it_or_nothing_is_no_keyword(text: str) -> None:
    assert find(text) is None


def test_no_text_is_no_keyword() -> None:
    assert find(None) is None


def test_no_word_means_two_things() -> None:
    """STOP wins where a language's word could be both; the lists should not need that."""
    from antiphon.inbox import keywords

    listed = [
        (keywords.plain(word), keyword)
        for keyword, words in keywords.WORDS.items()
        for word in words.split("·")
    ]
    meanings: dict[str, set[Keyword]] = {}
    for word, keyword in listed:
        assert word
        meanings.setdefault(word, set()).add(keyword)
    assert {word for word, found in meanings.items() if len(found) > 1} == set()
