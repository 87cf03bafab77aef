"""A blast's funnel as a picture in the terminal: bars, counts, shares, who is stuck where, why others are not in it.

The same lines whether a person looks or a test.
"""

from __future__ import annotations

import msgspec
from rich.text import Text

from antiphon.campaigns.model import Campaign
from antiphon.messages.explain import SKIPS
from antiphon.messages.funnel import Funnel, Rung

WIDTH = 78
BAR = 36  # columns
NAME = 11
_EIGHTHS = " ▏▎▍▌▋▊▉"
_STYLES = {"sent": "blue", "delivered": "cyan", "read": "green", "clicked": "green", "replied": "magenta",
           "closed": "yellow"}  # fmt: skip
_ALWAYS = {"sent", "delivered", "read", "replied"}
_RARE = {"clicked"}  # shown when somebody stands there: whoever replied counts as having clicked


class Example(msgspec.Struct, frozen=True):
    """What a provider said of one message that stands for a reason."""

    stage: str
    reason: str
    said: str


def draw(campaign: Campaign, funnel: Funnel, examples: list[Example], note: str = "") -> Text:
    """The whole picture."""
    lines = [_title(campaign), Text()]
    lines += [_rung(rung) for rung in funnel.stages if _is_shown(rung)]
    beside = _beside(funnel, examples)
    if beside:
        lines += [Text(), *beside]
    if note:
        lines += [Text(), Text(note, style="dim")]
    return Text("\n").join(lines)


def _title(campaign: Campaign) -> Text:
    title = Text(campaign.tag or campaign.name, style="bold")
    if campaign.follow_up_stage:
        title.append(f" · {campaign.follow_up_stage}", style="not bold")
    title.append(f" · {campaign.status}", style="not bold")
    if campaign.status_reason:
        title.append(f" ({campaign.status_reason})", style="not bold")
    return title


def _is_shown(rung: Rung) -> bool:
    return rung.stage in _ALWAYS or bool(rung.stuck if rung.stage in _RARE else rung.reached)


def _rung(rung: Rung) -> Text:
    line = Text(f"{rung.stage:<{NAME}}")
    line.append(_bar(rung.share), style=_STYLES[rung.stage])
    line.append(f" {rung.reached:>7,} {rung.share:>6.1%}")
    if rung.stuck:
        line.append(f"  {rung.stuck:,} stuck", style="dim")
    return line


def _bar(share: float) -> str:
    eighths = round(share * BAR * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(BAR)


def _beside(funnel: Funnel, examples: list[Example]) -> list[Text]:
    """What is not, or not yet, in the funnel."""
    counts = {"scheduled": funnel.scheduled, "failed": funnel.failed, "bounced": funnel.bounced,
              "skipped": funnel.skipped, "canceled": funnel.canceled, "unknown": funnel.unknown}  # fmt: skip
    lines = [Text(f"{'recipients':<{NAME}}{funnel.recipients:>6,}")]
    for stage, count in counts.items():
        if not count:
            continue
        style = "red" if stage in ("failed", "bounced", "unknown") else ""
        lines.append(Text(f"{_word(stage):<{NAME}}{count:>6,}", style=style))
        for why in funnel.reasons.get(stage, []):
            said = next((e.said for e in examples if (e.stage, e.reason) == (stage, why.reason)), "")
            lines.append(Text(f"{'':<{NAME}}{why.count:>6,}  {_why(why.reason, said)}", style="dim"))
    return lines


def _word(stage: str) -> str:
    return "waiting" if stage == "scheduled" else stage


def _why(reason: str, said: str) -> str:
    words = SKIPS.get(reason, reason.replace("_", " "))
    text = f"{words}: {said}" if said else words
    room = WIDTH - NAME - 8
    return text if len(text) <= room else text[: room - 1] + "…"
