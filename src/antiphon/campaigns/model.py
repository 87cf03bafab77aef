"""What a campaign is, and which moves are legal. Pure: each verb returns the new value or raises Conflict."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NoReturn
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from antiphon.contacts.audience import Audience
from antiphon.core.channel import Channel, Purpose
from antiphon.core.errors import Conflict, FieldError, Invalid

Kind = Literal["campaign", "blast"]
Status = Literal["draft", "scheduled", "active", "paused", "completed", "canceled", "archived"]
Priority = Literal["low", "normal", "high", "urgent"]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Word = Annotated[str, Meta(min_length=1, max_length=100)]

RUNNING: frozenset[Status] = frozenset({"active", "paused"})
MOST_AT_ONCE = 1_000
LONGEST_VARIABLES = 16_384  # bytes of JSON
LONGEST_TEXT = 100_000


class Campaign(Struct, frozen=True, kw_only=True):
    """One message to an audience. A blast is the kind with a tag and a follow-up stage.

    `planned` is how many messages there are, once `is_expanded` says that the whole audience is in the ledger.
    """

    id: UUID
    kind: Kind
    name: str
    tag: str | None
    follow_up_stage: str | None
    category: str | None
    priority: Priority
    purpose: Purpose
    status: Status
    status_reason: str
    channel: Channel
    sender_id: UUID
    template_id: UUID | None
    template_version_id: UUID | None
    audience: Audience
    variables: dict[str, Any]
    rate: float | None
    scheduled_for: datetime | None
    latest_start: datetime | None
    launched_at: datetime | None
    completed_at: datetime | None
    canceled_at: datetime | None
    planned: int
    is_expanded: bool
    source_campaign_id: UUID | None
    source_stage: str | None
    tags: list[str]
    expected_revenue: Decimal | None
    conversion_goal: str | None
    created_by: str
    created_at: datetime
    updated_at: datetime

    def __post_init__(self) -> None:
        # a row brings plain texts and jsonb; from here on they are what the types say
        settle = msgspec.structs.force_setattr
        settle(self, "purpose", Purpose(self.purpose))
        settle(self, "channel", Channel(self.channel))
        settle(self, "audience", msgspec.convert(self.audience, Audience))

    def check_draft(self, verb: str) -> None:
        """Raises Conflict unless it is a draft."""
        if self.status != "draft":
            self._refuse(verb, "only a draft can be changed; make a follow-up or a new one instead")

    def check_deletable(self) -> None:
        """Raises Conflict while it is scheduled or running."""
        if self.status in ("scheduled", "active", "paused"):
            self._refuse("deleted", "cancel it first")

    def schedule(self, at: datetime, latest_start: datetime | None, now: datetime) -> Campaign:
        """To start at a time; a scheduled one gets another. Raises Conflict, and Invalid for times that cannot be."""
        if self.status not in ("draft", "scheduled"):
            self._refuse("scheduled", "only a draft, or one that is scheduled, gets a time")
        if at <= now:
            raise Invalid.field("at", "is past; leave it out to start now", at.isoformat())
        last = latest_start or self.latest_start
        if last is not None and last < at:
            raise Invalid.field(
                "latest_start", "is before the start; nothing would be sent", last.isoformat()
            )
        return self._become("scheduled", now, scheduled_for=at.astimezone(UTC), latest_start=last)

    def unschedule(self, now: datetime) -> Campaign:
        """Back to a draft, so that it can be changed."""
        if self.status != "scheduled":
            self._refuse("taken back", "only a scheduled one can")
        return self._become("draft", now, scheduled_for=None)

    def launch(self, latest_start: datetime | None, now: datetime) -> Campaign:
        """Start now: a draft, or a scheduled one before its time."""
        if self.status not in ("draft", "scheduled"):
            self._refuse("launched", _INSTEAD_OF_LAUNCH[self.status])
        last = latest_start or self.latest_start
        if last is not None and last <= now:
            raise Invalid.field("latest_start", "is past; nothing would be sent", last.isoformat())
        return self._become("active", now, launched_at=now, scheduled_for=None, latest_start=last)

    def start(self, now: datetime) -> Campaign:
        """What becomes of it when its time has come: active, or canceled when the latest start has passed."""
        if self.latest_start is not None and now > self.latest_start:
            why = f"the latest start, {_told(self.latest_start)}, had passed when it could start at {_told(now)}"
            return self._become("canceled", now, why, canceled_at=now)
        if self.status in RUNNING:
            return self
        if self.status != "scheduled":
            self._refuse("started", "only a scheduled one starts by itself")
        return self._become("active", now, launched_at=now)

    def pause(self, now: datetime, reason: str = "") -> Campaign:
        """Hold back what has not left yet."""
        if self.status == "scheduled":
            self._refuse("paused", "it has not started; take it back or cancel it")
        if self.status != "active":
            self._refuse("paused", "only an active one can")
        return self._become("paused", now, reason)

    def resume(self, now: datetime) -> Campaign:
        """Go on from where it stood. Who resumes one that has hardly begun wants it to start, however late it is."""
        if self.status != "paused":
            self._refuse("resumed", "only a paused one can")
        return self._become("active", now, latest_start=self.latest_start if self.is_expanded else None)

    def cancel(self, now: datetime, reason: str = "") -> Campaign:
        """End it: what has not left will not leave."""
        if self.status == "draft":
            self._refuse("canceled", "delete the draft instead")
        if self.status not in ("scheduled", "active", "paused"):
            self._refuse("canceled", "nothing of it waits any more")
        return self._become("canceled", now, reason, canceled_at=now)

    def complete(self, planned: int, held: int, now: datetime) -> Campaign:
        """Every recipient is settled; those held in doubt are named."""
        if self.status not in RUNNING or not self.is_expanded:
            self._refuse("completed", "only one whose whole audience is in the ledger can")
        why = f"{held} in doubt: decide about each, as sent or as failed, or send again" if held else ""
        return self._become("completed", now, why, completed_at=now, planned=planned)

    def give_up_start(self, reason: str, now: datetime) -> Campaign:
        """Its audience could not be brought into the ledger: paused, until a person resumes it. Any other stays."""
        if self.is_expanded or self.status not in ("scheduled", "active", "paused"):
            return self
        return self._become("paused", now, reason, launched_at=self.launched_at or now)

    def _become(self, status: Status, now: datetime, reason: str = "", **changes: Any) -> Campaign:
        return msgspec.structs.replace(self, status=status, status_reason=reason, updated_at=now, **changes)

    def _refuse(self, verb: str, remedy: str) -> NoReturn:
        raise Conflict(
            f"{self.kind}_{self.status}",
            f"the {self.kind} {self.name!r} is {self.status} and cannot be {verb}: {remedy}",
        )


_INSTEAD_OF_LAUNCH: dict[Status, str] = {
    "active": "it is under way",
    "paused": "resume it",
    "completed": "make a follow-up or a new one",
    "canceled": "make a follow-up or a new one",
    "archived": "make a new one",
}


def _told(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")


class Said(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said: what a template says, or a text of its own. `samples` are values for the variables that the own
    text uses beyond a contact's usual ones; it is tried out with them before it is kept."""

    template: (
        Annotated[str, Meta(min_length=1, max_length=200, description="a template's id or name")] | None
    ) = None
    subject: Annotated[str, Meta(max_length=998)] | None = None
    text: Annotated[str, Meta(max_length=LONGEST_TEXT)] | None = None
    html: Annotated[str, Meta(max_length=524_288)] | None = None
    samples: dict[str, Any] = {}

    @property
    def is_given(self) -> bool:
        """Whether anything is said at all."""
        return self.template is not None or self.has_own_text

    @property
    def has_own_text(self) -> bool:
        """Whether it brings words of its own."""
        return self.subject is not None or self.text is not None or self.html is not None


class NewCampaign(Said, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A campaign as it is given."""

    kind: Kind | None = None
    name: Name | None = None
    tag: Name | None = None
    follow_up_stage: Word | None = None
    category: Word | None = None
    priority: Priority = "normal"
    purpose: Purpose = Purpose.MARKETING
    sender: Annotated[str, Meta(min_length=1, max_length=200, description="a sender's id or name")]
    audience: Audience = msgspec.field(default_factory=Audience)
    variables: dict[str, Any] = {}
    rate: str | float | None = None
    tags: Annotated[list[Word], Meta(max_length=50)] = []
    expected_revenue: Decimal | None = None
    conversion_goal: Name | None = None


class CampaignChanges(Said, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may change of a draft; what is absent stays, null empties. New content replaces the old one whole."""

    name: Name | UnsetType = UNSET
    tag: Name | UnsetType | None = UNSET
    follow_up_stage: Word | UnsetType | None = UNSET
    category: Word | UnsetType | None = UNSET
    priority: Priority | UnsetType = UNSET
    purpose: Purpose | UnsetType = UNSET
    sender: Annotated[str, Meta(min_length=1, max_length=200)] | UnsetType = UNSET
    audience: Audience | UnsetType = UNSET
    variables: dict[str, Any] | UnsetType = UNSET
    rate: str | float | UnsetType | None = UNSET
    tags: Annotated[list[Word], Meta(max_length=50)] | UnsetType = UNSET
    expected_revenue: Decimal | UnsetType | None = UNSET
    conversion_goal: Name | UnsetType | None = UNSET


class NewRecipient(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One person of a campaign's own list: an address or a contact's id, what fills the text for them, or the whole
    text for them."""

    to: Annotated[str, Meta(min_length=1, max_length=320)]
    variables: dict[str, Any] = {}
    text: Annotated[str, Meta(min_length=1, max_length=LONGEST_TEXT)] | None = None


class FollowUp(Said, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The next one, made from a stage of this one. What is absent is as it was; without a template or text of its own
    it says the same again."""

    stage: str
    reasons: Annotated[list[Word], Meta(max_length=50)] = []
    name: Name | None = None
    tag: Name | None = None
    follow_up_stage: Word | None = None
    sender: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    variables: dict[str, Any] | None = None
    rate: str | float | None = None


class Added(Struct, frozen=True, kw_only=True):
    """What became of people given for a list: how many are new on it, how many were there already (the first stays),
    and what is wrong with the others, by their place."""

    added: int
    repeated: int
    wrong: list[FieldError]


class Removed(Struct, frozen=True, kw_only=True):
    """How many people were taken off a list."""

    removed: int


class MadeFollowUp(Struct, frozen=True, kw_only=True):
    """A follow-up, as a draft, and how many people are on its list."""

    campaign: Campaign
    recipients: int


class Close(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose sale is closed: one of the three, and how it is known."""

    contact_id: UUID | None = None
    to: (
        Annotated[str, Meta(min_length=1, max_length=320, description="phone number or email address")] | None
    ) = None
    message_id: UUID | None = None
    reason: Annotated[str, Meta(min_length=1, max_length=500)] = "sale closed"


class Preview(Struct, frozen=True, kw_only=True):
    """Whom it would reach if it were launched now, and why not the others. `seconds` is how long that would take."""

    recipients: int
    reachable: int
    no_address: int
    inactive: int
    suppressed: int
    no_consent: int
    seconds: float | None = None


# ---- follow-ups ----------------------------------------------------------------------------------

# From whom the next one is made: the ledger's stages that a word means. A funnel stage means those stuck at it.
FOLLOW_UP_STAGES: dict[str, tuple[str, ...]] = {
    "sent": ("sent",),
    "delivered": ("delivered",),
    "read": ("read", "clicked"),
    "not_read": ("sent", "delivered"),
    "not_replied": ("sent", "delivered", "read", "clicked"),
    "replied": ("replied",),
    "closed": ("closed",),
    "failed": ("failed", "bounced"),
    "skipped": ("skipped",),
    "canceled": ("canceled",),
    "unknown": ("unknown",),
}


def follow_up_stages(word: str) -> list[str]:
    """The ledger's stages that a follow-up's word means. Raises Invalid naming the words there are."""
    stages = FOLLOW_UP_STAGES.get(word.strip().lower().replace("-", "_").replace(" ", "_"))
    if stages is None:
        raise Invalid.field(
            "stage", f"is not one to follow up; use one of {', '.join(FOLLOW_UP_STAGES)}", word[:80]
        )
    return list(stages)


_NUMBERED = re.compile(r"(.*?)(\d+)\s*\Z", re.DOTALL)


def next_follow_up_stage(last: str | None) -> str:
    """`Follow-up 1` after `Initial`, `Follow-up 2` after that."""
    found = _NUMBERED.match(last or "")
    return f"{found[1]}{int(found[2]) + 1}"[:100] if found else "Follow-up 1"
