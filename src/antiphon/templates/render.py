"""Filling a version with a message's variables. Pure: the same version, variables, language and instant give the
same bytes, so a repeated attempt says the same.

The engine sees only what `syntax` has written anew, and only plain values: text, numbers, true and false, lists and
groups of those. Steps are bounded by fuel, sizes by the limits of `syntax` and of the channel.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, cast
from uuid import UUID

from minijinja import Environment, TemplateError

from antiphon.core.errors import FieldError
from antiphon.providers.contract import ApprovedTemplate, TemplateButton, TemplateParameter
from antiphon.templates import localize, syntax
from antiphon.templates.engine import RenderError, make_engine, missing, only_values
from antiphon.templates.grammar import MAX_INNER_VALUE, MAX_ITEMS, MAX_VALUE, PREFIX, Fault
from antiphon.templates.model import (
    LIMITS,
    Approved,
    ApprovedButton,
    Limits,
    Rendered,
    TemplateVersion,
)

__all__ = ["Compiled", "PartFault", "RenderError", "compile_version", "fill", "render"]

_KEPT = 1_024  # compiled versions
_DEPTH = 4  # values inside values

_ONE_VARIABLE = re.compile(r"\{\{ (\w+) \}\}\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LINE_END = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


class Part(NamedTuple):
    """A piece of a version, as the engine knows it."""

    source: str
    name: str = ""  # in the engine; none for a piece that is only text
    variable: str = ""  # the one variable that is all of the piece


class Parameter(NamedTuple):
    """A parameter of an approved template and where it stands, for messages."""

    place: str
    part: Part
    kind: Literal["text", "image", "video", "document", "payload", "coupon_code"]
    name: str | None = None
    filename: str | None = None


class Compiled(NamedTuple):
    """A version made ready to be filled many times."""

    version: TemplateVersion
    engine: Environment
    parts: Mapping[str, Part]  # subject, text, html
    header: Sequence[Parameter]
    body: Sequence[Parameter]
    buttons: Sequence[tuple[ApprovedButton, Parameter]]
    names: tuple[str, ...]
    engine_names: tuple[tuple[str, str], ...]  # the same, each with how the engine calls it
    instead: Mapping[str, str]  # for a variable without a value
    uses: Mapping[str, tuple[str, int]]  # variable: part and line where it is read first
    bare: frozenset[str]
    worst: int


_compiled: dict[tuple[UUID, UUID], Compiled] = {}
_lock = threading.Lock()


def render(
    version: TemplateVersion, variables: Mapping[str, Any], language: str | None, *, at: datetime
) -> Rendered:
    """Fill a version for one message. `language` decides how dates are written (the version's own when None); `at`
    is the instant that "days until" counts from, and its timezone the one that times in UTC are shown in.

    Raises RenderError. Costs a few microseconds; a version is compiled once.
    """
    compiled = _compiled.get((version.org_id, version.id))
    return fill(compiled or _keep(version), variables, language, at=at)


def fill(
    compiled: Compiled,
    variables: Mapping[str, Any],
    language: str | None,
    *,
    at: datetime,
    limits: Limits | None = None,
) -> Rendered:
    """`render` for a version that is compiled already, for example one that is not saved yet.

    `limits` are the channel's unless others are given.
    """
    version, parts, engine = compiled.version, compiled.parts, compiled.engine
    context = _context(compiled, variables, language or version.language, at)
    limits = limits or LIMITS[version.channel]
    subject = text = html = None
    if (part := parts.get("subject")) is not None:
        subject = _within("subject", _one_line(_say(engine, part, context)), limits.subject)
    if (part := parts.get("text")) is not None:
        text = _within("text", _lines(_say(engine, part, context)), limits.text)
    if (part := parts.get("html")) is not None:
        html = _within("html", _lines(_say(engine, part, context)), limits.html)
    if version.approved is None:
        return Rendered(subject, text, html)
    return Rendered(subject, text, html, _approved(compiled, context, limits.parameter))


def compile_version(version: TemplateVersion) -> Compiled:
    """Read every part by the grammar. Raises `PartFault`, which names each wrong part, its line and the remedy."""
    return _Compiler(version).compiled()


class PartFault(Exception):
    """What is wrong with the parts of a version."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(f"{error.field}, {error.message}" for error in errors))
        self.errors = errors


class _Compiler:
    """One version on its way into an engine of its own: nothing of it is left when the version is forgotten."""

    def __init__(self, version: TemplateVersion) -> None:
        self.version, self.engine = version, make_engine()
        self.faults: list[FieldError] = []
        self.uses: dict[str, tuple[str, int]] = {}
        self.bare: set[str] = set()
        self.worst = 0

    def compiled(self) -> Compiled:
        version, approved = self.version, self.version.approved
        parts = {
            name: self.part(name, source)
            for name, source in (("subject", version.subject), ("text", version.text), ("html", version.html))
            if source
        }
        header, body, buttons = list[Parameter](), list[Parameter](), list[tuple[ApprovedButton, Parameter]]()
        if approved is not None:
            header, body = self.parameters("header", approved), self.parameters("body", approved)
            buttons = [
                (
                    asked,
                    Parameter(
                        f"of button {asked.index}",
                        self.part(f"approved.buttons[{n}]", asked.value),
                        _BUTTON_KINDS[asked.sub_type],
                    ),
                )
                for n, asked in enumerate(approved.button_parameters())
            ]
        if self.faults:
            raise PartFault(self.faults)
        instead = {
            name: variable.default or ""
            for name, variable in version.variables.items()
            if variable.default or not variable.required
        }
        return Compiled(
            version=self.version,
            engine=self.engine,
            parts=parts,
            header=header,
            body=body,
            buttons=buttons,
            names=tuple(self.uses),
            engine_names=tuple((name, f"{PREFIX}{name}") for name in self.uses),
            instead=instead,
            uses=self.uses,
            bare=frozenset(self.bare),
            worst=self.worst,
        )

    def parameters(self, place: Literal["header", "body"], approved: Approved) -> list[Parameter]:
        return [
            Parameter(
                f"{n + 1} of the {place}",
                self.part(f"approved.{place}[{n}]", asked.value),
                asked.kind,
                asked.name,
                asked.filename,
            )
            for n, asked in enumerate(approved.parameters(place))
        ]

    def part(self, name: str, source: str) -> Part:
        try:
            parsed = syntax.parse(source, html=name == "html")
        except Fault as fault:
            self.faults.append(FieldError(name, str(fault)))
            return Part("")
        self.worst += parsed.worst
        self.bare |= parsed.bare
        if parsed.is_deep:
            self.engine.finalizer = only_values
        for use in parsed.uses:
            self.uses.setdefault(use.name, (name, use.line))
        if not parsed.has_tags:
            return Part(parsed.source)
        inside = (
            f"{name}.html" if name == "html" else f"{name}.txt"
        )  # the ending decides whether values are escaped
        try:
            self.engine.add_template(inside, parsed.source)
        except TemplateError as error:
            self.faults.append(FieldError(name, f"line {error.line or 1}: {error.detail or error.kind}"))
        whole = None if name == "html" else _ONE_VARIABLE.match(parsed.source)
        return Part(parsed.source, inside, whole[1] if whole else "")


def _keep(version: TemplateVersion) -> Compiled:
    try:
        compiled = compile_version(version)
    except PartFault as fault:
        raise RenderError(f"the template is not usable: {fault}") from None
    with _lock:
        while len(_compiled) >= _KEPT:
            _compiled.pop(next(iter(_compiled)))
        _compiled[version.org_id, version.id] = compiled
    return compiled


# ---- values in ------------------------------------------------------------------------------------


def _context(compiled: Compiled, variables: Mapping[str, Any], language: str, at: datetime) -> dict[str, Any]:
    context: dict[str, Any] = {"_language": language, "_zone": at.tzinfo}
    for name, engine_name in compiled.engine_names:
        value = variables.get(name)
        if type(value) is str and value:
            context[engine_name] = value if len(value) <= MAX_VALUE else value[:MAX_VALUE]
        elif value is None or value == "":
            if name in compiled.instead:
                context[engine_name] = compiled.instead[name]
            elif (
                name == "daysUntil"
                and (days := localize.days_until(str(variables.get("eventDate")), at)) is not None
            ):
                context[engine_name] = str(days)
        else:
            context[engine_name] = plain = _plain(value)
            if name in compiled.bare:
                only_values(plain)
    if type(day := context.get("v_eventDate")) is str:
        context["_eventDate"] = localize.show_date(day, "long", language, at.tzinfo)
    if type(time := context.get("v_eventTime")) is str:
        context["_eventTime"] = localize.show_time(time, "short", language, at.tzinfo)
    return context


def _plain(value: Any, depth: int = 0) -> Any:
    """A value without anything that could be called or opened. Nothing and the empty text are left out of groups."""
    match value:
        case str():
            return str(value)[: MAX_INNER_VALUE if depth else MAX_VALUE]
        case bool() | float():
            return value
        case int():
            return (
                value if abs(value) < 1 << 53 else str(value)[:MAX_VALUE] if value.bit_length() < 512 else "?"
            )
        case Mapping() if depth < _DEPTH:
            pairs = list(cast("Mapping[Any, Any]", value).items())[:MAX_ITEMS]
            return {f"{PREFIX}{k}": _plain(v, depth + 1) for k, v in pairs if v is not None and v != ""}
        case list() | tuple() if depth < _DEPTH:
            return [_plain(entry, depth + 1) for entry in cast("Sequence[Any]", value)[:MAX_ITEMS]]
        case None:
            return ""
        case _:
            return str(value)[: MAX_INNER_VALUE if depth else MAX_VALUE]


# ---- text out -------------------------------------------------------------------------------------


def _say(engine: Environment, part: Part, context: dict[str, Any]) -> str:
    if not part.name:
        return part.source
    if part.variable and type(value := context.get(part.variable)) is str:
        return value
    try:
        return engine.render_template(part.name, **context)
    except TemplateError as error:
        raise RenderError(_why(error, part)) from None


def _why(error: TemplateError, part: Part) -> str:
    match error.kind:
        case "UndefinedError":
            return missing(_name_at(part.source, error.range))
        case "OutOfFuel":
            return "the template takes too many steps; shorten its list or its loop"
        case _:
            return f"the template cannot be filled: {(error.detail or error.kind)[:200]}"


def _name_at(source: str, place: tuple[int, int] | None) -> str:
    """The variable at a place that the engine names in bytes; at a filter it is the one before it."""
    before = source.encode()[: place[1] if place else 0].decode(errors="replace")
    found = re.match(r"\W*_?([A-Za-z][\w.]*)", before.rpartition("{{")[2])
    return re.sub(rf"(^|\.){PREFIX}", r"\1", found[1]) if found else ""


def _within(part: str, text: str, limit: int) -> str:
    if len(text) > limit:
        raise RenderError(
            f"the {part} has {len(text):,} characters; this channel takes at most {limit:,}. Shorten it"
        )
    return text


def _one_line(text: str) -> str:
    """Nothing that could end a header field or begin another."""
    return text if text.isprintable() else _BLANK.sub(" ", text).strip()


def _lines(text: str) -> str:
    """Line ends as \\n, and no other control characters but the tab."""
    if _CONTROL.search(text) is None:
        return text
    return _CONTROL.sub("", _LINE_END.sub("\n", text))


def _approved(compiled: Compiled, context: dict[str, Any], longest: int) -> ApprovedTemplate:
    approved, engine = compiled.version.approved, compiled.engine
    assert approved is not None
    return ApprovedTemplate(
        name=approved.name,
        language=approved.language,
        header=tuple(
            _parameter(asked, _say(engine, asked.part, context), longest) for asked in compiled.header
        ),
        body=tuple(_parameter(asked, _say(engine, asked.part, context), longest) for asked in compiled.body),
        buttons=tuple(
            TemplateButton(
                index=button.index,
                sub_type=button.sub_type,
                parameter=_parameter(asked, _say(engine, asked.part, context), longest),
            )
            for button, asked in compiled.buttons
        ),
    )


def _parameter(asked: Parameter, value: str, longest: int) -> TemplateParameter:
    if (
        "  " in value or not value.isprintable()
    ):  # Meta refuses line ends, tabs and runs of spaces in a parameter
        value = _BLANK.sub(" ", value)
    value = value.strip()
    if not value:
        raise RenderError(f"parameter {asked.place} is empty, which WhatsApp refuses; give it a default")
    if len(value) > longest:
        _within(f"parameter {asked.place}", value, longest)
    return TemplateParameter(kind=asked.kind, value=value, name=asked.name, filename=asked.filename)


_BUTTON_KINDS: Mapping[str, Literal["payload", "text", "coupon_code"]] = {
    "quick_reply": "payload",
    "url": "text",
    "copy_code": "coupon_code",
}
