"""Meta's WhatsApp error codes, and what each means to us.

Codes and their causes: Meta's error code page for the Cloud API and its published API description. What follows from
each is our decision. Branch on `code` only: titles are declared unstable, HTTP statuses are not documented per code.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

from msgspec import Struct

from antiphon.core.wire import Response
from antiphon.providers.answers import by_status, dig, excerpt, mapping, retry_after, short
from antiphon.providers.contract import (
    AccountFault,
    NotSent,
    Payload,
    Rejected,
    Throttled,
    Unknown,
)

Kind = Literal[
    "fault",  # token, permission, account, billing: the sender stops and a person is told
    "later",  # refused before it was processed, and may work later
    "doubtful",  # an error of Meta's own that does not say what was done
    "pace",  # too fast for the sender
    "pair",  # too fast for this contact
    "rejected",  # this message will never work
    "template",  # this template will work for nobody
    "suppress",  # this address will not work
    "withdrawn",  # the contact stopped marketing
]


class Verdict(Struct, frozen=True):
    """What a code means."""

    kind: Kind
    remedy: str = ""
    suppress_for: timedelta | None = None
    after: timedelta | None = None


def _each(verdict: Verdict, *codes: int) -> dict[int, Verdict]:
    return dict.fromkeys(codes, verdict)


VERDICTS: Mapping[int, Verdict] = {
    **_each(Verdict("fault", "the access token is invalid or has expired: enter a new one"), 0, 190),
    **_each(Verdict("fault", "the token lacks a permission"), 3, 10, *range(200, 300)),
    **_each(Verdict("doubtful"), 1),
    **_each(Verdict("later"), 2, 131016, 131057),
    **_each(Verdict("later"), 131000),
    **_each(Verdict("pace"), 4, 613, 80007, 130429, 133016),
    **_each(Verdict("pair", after=timedelta(seconds=4)), 131056),
    **_each(Verdict("fault", "Meta limits this number for low quality: resume by hand, hours later"), 131048),
    **_each(Verdict("fault", "Meta limits this number for violating templates"), 131064),
    **_each(Verdict("fault", "the account is restricted for a violation of policy"), 368, 131031),
    # a whole sender is not stopped for one country: the others still work
    **_each(Verdict("rejected", "this account may not write to this country"), 130497),
    **_each(Verdict("fault", "there is a problem with payment in the Meta business account"), 131042, 131044),
    **_each(
        Verdict("fault", "the number's registration or display name must be repaired"), 131045, 131037, 133010
    ),
    **_each(Verdict("fault", "access was denied"), 131005),
    # not on WhatsApp, an old client, terms not accepted: Meta does not say which, so not for ever
    **_each(Verdict("suppress", suppress_for=timedelta(days=30)), 131026),
    **_each(
        Verdict("rejected", "24 hours have passed since the contact wrote: use an approved template"), 131047
    ),
    **_each(Verdict("rejected", "Meta's limit of marketing for this person: not before tomorrow"), 131049),
    **_each(Verdict("withdrawn"), 131050),
    **_each(Verdict("rejected", "the person is part of an experiment of Meta's"), 130472),
    **_each(Verdict("rejected", "a test number may only write to numbers on its list"), 131030),
    **_each(Verdict("rejected", "sender and recipient are the same"), 131021),
    **_each(Verdict("rejected"), 131051, 131052),
    **_each(Verdict("later", after=timedelta(seconds=30)), 131053),
    **_each(Verdict("rejected"), 131008, 131009, 100, 33),
    **_each(Verdict("rejected"), 131062, 131063),
    **_each(Verdict("template"), 132000, 132001, 132005, 132007, 132008, 132012, 132018),
    **_each(Verdict("template", "Meta has paused this template for low quality"), 132015),
    **_each(Verdict("template", "Meta has disabled this template"), 132016),
    **_each(Verdict("template", "the flow of this template is blocked"), 132068),
    **_each(Verdict("later", after=timedelta(hours=1)), 132069),
    **_each(Verdict("rejected"), 135000, 137000),
    **_each(Verdict("rejected"), 139100, 139101, 139102),
    **_each(Verdict("later"), 139103),
}


def outcome_of(response: Response, value: Payload) -> Rejected | Throttled | NotSent | Unknown | AccountFault:
    """What an answer with an `error` object means; by its HTTP status where the code is not known."""
    error = mapping(value.get("error"))
    code, words = error.get("code"), reason_of(error)
    verdict = VERDICTS.get(code) if isinstance(code, int) else None
    if code in (33, 100) and error.get("error_subcode") == 33:
        verdict = Verdict("fault", "the phone number id does not exist, or this token may not use it")
    if verdict is None:
        if error.get("is_transient") is True and 400 <= response.status < 500 and response.status != 429:
            return NotSent(code=short(code) or None, reason=words, payload=excerpt(response))
        return by_status(response, words, short(code) or None)
    # Meta's own failure: only 2, 131016 and 131057 are described as "unavailable, try again"
    if response.status >= 500 and code == 131000:
        verdict = Verdict("doubtful")
    reason = f"{words} ({verdict.remedy})" if verdict.remedy else words
    return _outcome(verdict, str(code), reason, response)


def _outcome(
    verdict: Verdict, code: str, reason: str, response: Response
) -> Rejected | Throttled | NotSent | Unknown | AccountFault:
    payload = excerpt(response)
    after = retry_after(response.headers) or verdict.after
    match verdict.kind:
        case "fault":
            return AccountFault(code=code, reason=reason, payload=payload)
        case "doubtful":
            return Unknown(code=code, reason=reason, payload=payload)
        case "later":
            return NotSent(code=code, reason=reason, after=after, payload=payload)
        case "pace":
            return Throttled(code=code, reason=reason, after=after, payload=payload)
        case "pair":
            return Throttled(code=code, reason=reason, after=after, scope="contact", payload=payload)
        case _:
            return Rejected(
                code=code,
                reason=reason,
                suppress=verdict.kind == "suppress",
                suppress_for=verdict.suppress_for,
                withdraws_consent=verdict.kind == "withdrawn",
                blames=_blamed(verdict.kind),
                payload=payload,
            )


def _blamed(kind: Kind) -> Literal["message", "contact", "template"]:
    if kind == "template":
        return "template"
    return "contact" if kind in ("suppress", "withdrawn") else "message"


def reason_of(error: Payload) -> str:
    """Meta's words: the details if there are any, else the message or the title."""
    details = short(dig(error, "error_data.details"))
    return details or short(error.get("message")) or short(error.get("title")) or "Meta gave no reason"
