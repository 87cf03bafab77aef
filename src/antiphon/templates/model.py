"""Templates, their versions, and what each channel can carry: values and rules."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from antiphon.core.channel import Channel
from antiphon.core.errors import Conflict, FieldError, Invalid
from antiphon.providers.contract import ApprovedTemplate
from antiphon.templates.localize import language_tag

TemplateStatus = Literal["draft", "active", "archived"]
Short = Annotated[str, Meta(min_length=1, max_length=200)]


class Variable(Struct, frozen=True, omit_defaults=True):
    """What a template is filled with beside what is known of every contact.

    `sample` stands for it in previews. Without a value, `default` takes its place; where there is none either and
    it is `required`, the message fails with that reason instead of leaving with a hole.
    """

    sample: Any = None
    required: bool = True
    default: str | None = None
    description: str | None = None


class ApprovedParameter(Struct, frozen=True, omit_defaults=True):
    """One parameter of a provider's approved template; `value` is filled like any text."""

    value: Annotated[str, Meta(max_length=2000)]
    kind: Literal["text", "image", "video", "document"] = "text"
    name: str | None = None
    filename: str | None = None


class ApprovedButton(Struct, frozen=True, omit_defaults=True):
    """The parameter of one button, counted from 0."""

    value: Annotated[str, Meta(max_length=2000)]
    index: Annotated[int, Meta(ge=0, le=9)] = 0
    sub_type: Literal["quick_reply", "url", "copy_code"] = "url"


class Approved(Struct, frozen=True, omit_defaults=True):
    """A template that the provider has approved: its name there, its language there, its parameters in order.

    A parameter that is only a text is one of kind `text`; a button that is only a text is a link's.
    """

    name: Annotated[str, Meta(min_length=1, max_length=512)]
    language: Annotated[str, Meta(min_length=2, max_length=20)]
    header: Annotated[list[str | ApprovedParameter], Meta(max_length=10)] = []
    body: Annotated[list[str | ApprovedParameter], Meta(max_length=100)] = []
    buttons: Annotated[list[str | ApprovedButton], Meta(max_length=10)] = []

    def parameters(self, place: Literal["header", "body"]) -> list[ApprovedParameter]:
        """The parameters of the header or of the body, in order."""
        return [ApprovedParameter(p) if isinstance(p, str) else p for p in getattr(self, place)]

    def button_parameters(self) -> list[ApprovedButton]:
        """The buttons' parameters; one without an index of its own stands where it is in the list."""
        return [ApprovedButton(b, index) if isinstance(b, str) else b for index, b in enumerate(self.buttons)]


class Content(Struct, frozen=True, kw_only=True):
    """What one version says."""

    subject: str | None = None
    text: str | None = None
    html: str | None = None
    approved: Approved | None = None
    variables: dict[str, Variable] = {}


class Template(Struct, frozen=True, kw_only=True):
    """A named content for one channel; what it says is in its versions, one line of them per language."""

    id: UUID
    name: str
    channel: Channel
    description: str | None
    status: TemplateStatus
    default_language: str
    languages: list[str]
    created_at: datetime
    updated_at: datetime

    def check_usable(self) -> None:
        """Raises Conflict where nothing may be sent with it."""
        if self.status != "active":
            raise Conflict(
                "template_not_active",
                f"the template {self.name!r} is {self.status}; only an active template can be used. Activate it first",
            )


class TemplateVersion(Struct, frozen=True, kw_only=True):
    """An immutable revision in one language. Without `template_id` it is a campaign's or a message's own text."""

    org_id: UUID
    id: UUID
    template_id: UUID | None
    language: str
    version: int
    channel: Channel
    subject: str | None
    text: str | None
    html: str | None
    approved: Approved | None
    variables: dict[str, Variable]
    created_by: str
    created_at: datetime

    def __post_init__(self) -> None:
        # a row brings plain texts and jsonb; from here on they are what the types say
        settle = msgspec.structs.force_setattr
        settle(self, "channel", Channel(self.channel))
        settle(self, "approved", msgspec.convert(self.approved, Approved | None))
        settle(self, "variables", msgspec.convert(self.variables, dict[str, Variable]))

    @property
    def content(self) -> Content:
        """What it says, for the next version or a copy."""
        return Content(
            subject=self.subject,
            text=self.text,
            html=self.html,
            approved=self.approved,
            variables=self.variables,
        )


class NewVersion(Content, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the next version of a language says; all of it, not only what differs from the last one."""

    language: str | None = None


class NewTemplate(NewVersion, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A template and its first version, in the organization's language unless another is named."""

    name: Short
    channel: str
    description: str | None = None
    status: TemplateStatus = "active"


class TemplateChanges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may change; what is absent stays. What a template says changes by a new version."""

    name: Short | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    status: TemplateStatus | UnsetType = UNSET
    default_language: str | UnsetType = UNSET


class TemplateDetail(Template, frozen=True, kw_only=True):
    """A template and the newest version of each language."""

    versions: list[TemplateVersion]


class Rendered(Struct, frozen=True):
    """What one message says. `approved` is as the provider's adapter takes it; `text` is then for people to read."""

    subject: str | None
    text: str | None
    html: str | None
    approved: ApprovedTemplate | None = None


class Limits(Struct, frozen=True):
    """How many characters a channel carries in each part; 0 where it has no such part."""

    subject: int
    text: int
    html: int = 0
    parameter: int = 1_024  # of an approved template; Meta's limit


LIMITS: Mapping[Channel, Limits] = MappingProxyType(
    {
        Channel.EMAIL: Limits(subject=255, text=100_000, html=524_288),
        Channel.SMS: Limits(subject=0, text=1_600),  # ten segments; what SMS providers take at most
        Channel.MMS: Limits(subject=64, text=1_600),
        Channel.WHATSAPP: Limits(subject=0, text=4_096),  # Meta's limit of a text message
        Channel.VOICE: Limits(subject=0, text=4_096),
        Channel.PUSH: Limits(subject=200, text=2_000),  # the whole push may have 4 kB
        Channel.MESSENGER: Limits(subject=0, text=2_000),
        Channel.INSTAGRAM: Limits(subject=0, text=1_000),
        Channel.WEBCHAT: Limits(subject=0, text=8_000),
        Channel.HTTP: Limits(subject=255, text=65_536, html=65_536),
    }
)

# Known of every contact and booking, so no template declares them. The values stand for them in previews; they are
# the queue document's.
BUILT_IN: Mapping[str, Variable] = MappingProxyType(
    {
        "firstName": Variable("Max"),
        "lastName": Variable("Mustermann"),
        "email": Variable("max@example.com"),
        "eventName": Variable("SBF Binnen Kurs"),
        "eventDate": Variable("2025-03-15"),
        "eventTime": Variable("09:00"),
        "locationName": Variable("Stettiner Haff"),
        "bookingRef": Variable("BK-2025-0042"),
        "daysUntil": Variable("7"),
        "phone": Variable("+4915112345678"),
        "company": Variable("Example GmbH"),
    }
)


def check_language(text: str, field: str = "language") -> str:
    """The language tag in its one spelling. Raises Invalid for what is none."""
    tag = language_tag(text)
    if tag is None:
        raise Invalid.field(field, "not a language; write it like de, en or pt-BR", text[:40])
    return tag


def check_parts(channel: Channel, content: Content) -> list[FieldError]:
    """What a channel lacks or cannot carry: every wrong part, named."""
    limits, wrong = LIMITS[channel], list[FieldError]()
    for part in ("subject", "text", "html"):
        said = getattr(content, part)
        if said and not getattr(limits, part):
            wrong.append(FieldError(part, f"a template for {channel} has no {part}; leave it out"))
    if content.approved is not None and channel is not Channel.WHATSAPP:
        wrong.append(
            FieldError("approved", f"only WhatsApp has approved templates, not {channel}; leave it out")
        )
    if not (content.text or content.html or content.approved):
        wrong.append(FieldError("text", "a template without a text says nothing; give it one"))
    if channel is Channel.EMAIL and not content.subject:
        wrong.append(FieldError("subject", "an email needs a subject"))
    return wrong
