"""STOP, START and HELP: what a whole message of one such word means, in many languages. Pure.

The message must be the word and nothing else: "STOP 12345" and "please stop by tomorrow" are sentences, "stop!" and
" «Stop». " are the word. Case, accents, punctuation and emoji do not matter. END, QUIT, CANCEL, REVOKE, OPT OUT and
UNSUBSCRIBE are those that carriers and the American rules (47 CFR 64.1200(a)(10)) name; RET is the Turkish law's.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from enum import StrEnum

LONGEST = 60
"""Characters; a longer message is no keyword, whatever it begins with."""


class Keyword(StrEnum):
    """What a person wants who writes it."""

    STOP = "stop"
    START = "start"
    HELP = "help"


_STOP = """
    stop · stopall · stop all · quit · end · revoke · opt out · optout · cancel · unsubscribe · unsub · remove me
    · please stop · stop please · stop it · stop messages · stop promotions · stop texting me · unsubscribe me
    · stopp · stoppen · abmelden · abmeldung · abbestellen · austragen · keine werbung · bitte stoppen
    · arret · arrêt · arrêter · arrêtez · stop pub · désabonner · se désabonner · désinscrire · désinscription
    · baja · dar de baja · darme de baja · darse de baja · alto · detener · cancelar · cancelar suscripción · no más
    · ferma · fermare · disiscrivi · disiscrivimi · cancellami · annulla · basta
    · parar · pare · sair · descadastrar · remover · cancelar inscrição
    · afmelden · uitschrijven · opzeggen · stoppen aub
    · wypisz · wypisz mnie · rezygnuję · zrezygnuj · anuluj · koniec
    · berhenti · henti · hentikan · batal · batal langganan · jangan hantar lagi
    · berhenti langganan · stop langganan · unreg
    · dur · durdur · iptal · ret · abonelikten çık · listeden çık
    · توقف · أوقف · إيقاف · قف · إلغاء · إلغاء الاشتراك
    · стоп · отписаться · отписка · отмена
    · avsluta · avregistrera · avmeld · afmeld · lopeta · στοπ · διακοπή · रोकें · बंद · हटाएं
    · 停止 · 退订 · 退訂 · 取消订阅 · 取消訂閱 · 停止配信 · 配信停止 · 수신거부 · 중지 · หยุด · ยกเลิก
"""

_START = """
    start · unstop · resume · subscribe · resubscribe · opt in · optin
    · anmelden · wieder anmelden · starten
    · démarrer · reprendre · réabonner · s'abonner
    · alta · dar de alta · iniciar · reanudar · suscribir · suscribirme
    · inizia · riprendi · iscrivimi
    · iniciar · retomar · inscrever · começar
    · aanmelden · inschrijven
    · zapisz · zapisz mnie · wznów
    · mula · mulai · langgan · daftar
    · başla · başlat · devam
    · ابدأ · اشتراك · استئناف
    · старт · подписаться · 开始 · 訂閱 · 订阅 · 시작
"""

_HELP = """
    help · info · help me · hilfe · aide · ayuda · información · aiuto · ajuda · hulp · pomoc · bantuan · tolong
    · yardım · مساعدة · помощь · 帮助 · 幫助 · ヘルプ · 도움말
"""


def plain(text: str) -> str:
    """Letters and digits in lower case without accents, words divided by one space."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    kept = (
        letter
        if letter.isalnum()
        else ""
        if unicodedata.category(letter) in ("Mn", "Mc", "Cf") or letter in "'’"
        else " "
        for letter in decomposed
    )
    return " ".join("".join(kept).replace("ı", "i").split())


WORDS: Mapping[Keyword, str] = {Keyword.STOP: _STOP, Keyword.START: _START, Keyword.HELP: _HELP}
_MEANING: Mapping[str, Keyword] = {
    plain(word): keyword for keyword, words in WORDS.items() for word in words.split("·")
}


def find(text: str | None) -> Keyword | None:
    """The keyword that a message is, or None for every message that says something else."""
    if not text or len(text) > LONGEST:
        return None
    return _MEANING.get(plain(text))
