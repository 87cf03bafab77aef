"""What Meta demands of a request to `/{version}/{phone number id}/messages`, checked field by field.

Text and template messages and read receipts are played; other types are refused as not supported (131051).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any, cast

import msgspec

from antiphon_simulator.book import Book
from antiphon_simulator.settings import Template
from antiphon_simulator.wire import Answer, Caller, Refusal, Sending, as_json

HTTP_STATUS = {
    **dict.fromkeys((0, 190), 401),
    **dict.fromkeys((10, 200, 368, 131005, 131031), 403),
    132001: 404,
    **dict.fromkeys((4, 613, 80007, 130429, 131056), 429),
    **dict.fromkeys((1, 2, 131000), 500),
    131016: 503,
}
FIELDS = frozenset(
    {
        "messaging_product",
        "recipient_type",
        "to",
        "recipient",
        "type",
        "text",
        "template",
        "context",
        "biz_opaque_callback_data",
        "recipient_identity_key_hash",
    }
)
PHONE = re.compile(r"\+?[1-9]\d{6,14}")
SCOPED_ID = re.compile(r"[A-Z]{2}\.[A-Za-z0-9]{1,128}")
PARAMETER_SPACE = re.compile(r"[\n\t]| {5}")
TEXT_MOST, CALLBACK_MOST, PARAMETER_MOST = 4096, 512, 1024

Json = dict[str, Any]


class Wrong(Exception):  # it reads better where it is raised
    """A rule that the request breaks, by Meta's code."""

    def __init__(self, code: int, title: str, details: str) -> None:
        super().__init__(details)
        self.code, self.title, self.details = code, title, details


def failure(
    code: int, message: str, details: str, *, status: int | None = None, retry_after: str = ""
) -> Answer:
    """An error object as the Graph API writes it."""
    error: Json = {
        "message": f"(#{code}) {message}",
        "type": "OAuthException",
        "code": code,
        "error_data": {"messaging_product": "whatsapp", "details": details},
        "fbtrace_id": f"A{os.urandom(8).hex()}",
    }
    if code in (1, 2, 4, 131000, 131016, 130429):
        error["is_transient"] = True
    headers = {"Retry-After": retry_after} if retry_after else None
    return as_json(status or HTTP_STATUS.get(code, 400), {"error": error}, headers)


def understand(book: Book, caller: Caller) -> Sending | Refusal | Answer:
    """A message to send, or a read receipt, or what is wrong with it."""
    account = caller.parts["phone_number_id"]
    recipient = ""
    try:
        _authorize(book, caller, account)
        body = _object(caller)
        recipient = str(body.get("to") or body.get("recipient") or "")
        if body.get("status") == "read":
            return _read_receipt(body)
        return _sending(book, account, body)
    except Wrong as wrong:
        answer = failure(wrong.code, wrong.title, wrong.details)
        return Refusal(str(wrong.code), wrong.details, answer, account=account, recipient=recipient)


def _authorize(book: Book, caller: Caller, account: str) -> None:
    scheme, _, token = caller.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or not token.strip():
        raise Wrong(190, "Invalid OAuth access token", "Authorization must be Bearer and a token")
    found = book.find_account("meta", account)
    if found is None:
        raise Wrong(100, "Unsupported post request", f"Object with ID '{account}' does not exist")
    if found.token and found.token != token:
        raise Wrong(190, "Invalid OAuth access token", "Cannot parse access token")


def _object(caller: Caller) -> Json:
    if not caller.headers.get("content-type", "").startswith("application/json"):
        raise Wrong(100, "Invalid parameter", "Content-Type must be application/json")
    try:
        found = msgspec.json.decode(caller.body)
    except msgspec.DecodeError as problem:
        raise Wrong(100, "Invalid parameter", f"The body is not JSON: {problem}") from None
    return _dict(found, "the body")


def _read_receipt(body: Json) -> Answer:
    _only(body, {"messaging_product", "status", "message_id", "typing_indicator"}, "the body")
    _product(body)
    _text(body.get("message_id"), "message_id")
    return as_json(200, {"success": True})


def _sending(book: Book, account: str, body: Json) -> Sending:
    _only(body, FIELDS, "the body")
    _product(body)
    if body.get("recipient_type", "individual") not in ("individual", "group"):
        raise Wrong(131009, "Parameter value is not valid", "recipient_type must be individual or group")
    recipient = _recipient(body)
    reference = body.get("biz_opaque_callback_data", "")
    if not isinstance(reference, str) or len(reference) > CALLBACK_MOST:
        raise Wrong(
            131009, "Parameter value is not valid", "biz_opaque_callback_data: at most 512 characters"
        )
    if "context" in body:
        _text(_dict(body["context"], "context").get("message_id"), "context.message_id")
    match body.get("type", "text"):
        case "text":
            text = _text_message(body)
            return Sending(account, recipient, text, reference, free_text=True, category="service")
        case "template":
            text, category = _template_message(book, body)
            return Sending(account, recipient, text, reference, category=category)
        case other:
            raise Wrong(131051, "Message type unknown", f"type {other!r} is not supported here")


def _product(body: Json) -> None:
    if body.get("messaging_product") != "whatsapp":
        raise Wrong(
            100, "The parameter messaging_product is required.", "messaging_product must be 'whatsapp'"
        )


def _recipient(body: Json) -> str:
    to, scoped = body.get("to"), body.get("recipient")
    if to is None and scoped is None:
        raise Wrong(100, "The parameter to is required.", "one of to and recipient is required")
    if isinstance(to, str) and PHONE.fullmatch(to):
        return to
    if to is None and isinstance(scoped, str) and SCOPED_ID.fullmatch(scoped):
        return scoped
    raise Wrong(131009, "Parameter value is not valid", f"to {to!r}: must be a phone number in digits")


def _text_message(body: Json) -> str:
    if "template" in body:
        raise Wrong(100, "Invalid parameter", "template beside type text")
    text = _dict(body.get("text"), "text")
    _only(text, {"body", "preview_url"}, "text")
    written = _text(text.get("body"), "text.body")
    if len(written) > TEXT_MOST:
        raise Wrong(100, "Invalid parameter", f"text.body has {len(written)} characters, at most {TEXT_MOST}")
    if not isinstance(text.get("preview_url", False), bool):
        raise Wrong(100, "Invalid parameter", "text.preview_url must be a boolean")
    return written


def _template_message(book: Book, body: Json) -> tuple[str, str]:
    if "text" in body:
        raise Wrong(100, "Invalid parameter", "text beside type template")
    asked = _dict(body.get("template"), "template")
    _only(asked, {"name", "language", "components"}, "template")
    name = _text(asked.get("name"), "template.name")
    language = _text(_dict(asked.get("language"), "template.language").get("code"), "template.language.code")
    template = book.templates.get((name, language))
    if template is None:
        raise Wrong(
            132001,
            "Template name does not exist in the translation",
            f"template name ({name}) does not exist in {language}",
        )
    if template.status == "paused":
        raise Wrong(132015, "Template is paused", f"template {name} is paused")
    if template.status == "disabled":
        raise Wrong(132016, "Template is disabled", f"template {name} is disabled")
    values = list(_components(template, asked.get("components", [])))
    return f"[{name}/{language}] " + " | ".join(values), template.category


def _components(template: Template, components: Any) -> Iterable[str]:
    """The values of all parameters, once each is what the template takes at that place."""
    if not isinstance(components, list):
        raise Wrong(131009, "Parameter value is not valid", "template.components must be a list")
    bodies: list[Json] = []
    headers: list[Json] = []
    buttons: dict[int, Json] = {}
    for component in (_dict(one, "a component") for one in cast("list[Any]", components)):
        _only(component, {"type", "sub_type", "index", "parameters"}, "a component")
        match component.get("type"):
            case "body":
                bodies.append(component)
            case "header":
                headers.append(component)
            case "button":
                buttons[_index(component.get("index"))] = component
            case other:
                raise Wrong(131009, "Parameter value is not valid", f"component type {other!r}")
    if len(bodies) > 1 or len(headers) > 1:
        raise Wrong(131009, "Parameter value is not valid", "a component is given twice")
    yield from _header(template, headers)
    yield from _parameters("body", template.body, bodies, kind="text")
    yield from _buttons(template, buttons)


def _header(template: Template, components: list[Json]) -> Iterable[str]:
    if template.header in ("none", "text"):
        return _parameters("header", template.header_parameters, components, kind="text")
    return _parameters("header", 1, components, kind=template.header)


def _buttons(template: Template, buttons: dict[int, Json]) -> Iterable[str]:
    if set(buttons) != set(range(len(template.buttons))):
        raise _count("buttons", len(buttons), len(template.buttons))
    for index, sub_type in enumerate(template.buttons):
        component = buttons[index]
        if component.get("sub_type") != sub_type:
            raise Wrong(
                132012, "Parameter format does not match", f"button {index} is of sub_type {sub_type}"
            )
        kind = {"quick_reply": "payload", "url": "text", "copy_code": "coupon_code"}[sub_type]
        yield from _parameters(f"button {index}", 1, [component], kind=kind)


def _parameters(place: str, wanted: int | tuple[str, ...], components: list[Json], kind: str) -> list[str]:
    given: list[Json] = []
    for component in components:
        parameters = component.get("parameters", [])
        if not isinstance(parameters, list):
            raise Wrong(131009, "Parameter value is not valid", f"{place}: parameters must be a list")
        given += [_dict(one, f"{place}: a parameter") for one in cast("list[Any]", parameters)]
    count = wanted if isinstance(wanted, int) else len(wanted)
    if len(given) != count:
        raise _count(place, len(given), count)
    if not isinstance(wanted, int):
        names = [parameter.get("parameter_name") for parameter in given]
        if sorted(map(str, names)) != sorted(wanted):
            raise Wrong(
                132012, "Parameter format does not match", f"{place}: names {names}, wanted {list(wanted)}"
            )
    return [_value(place, parameter, kind) for parameter in given]


def _value(place: str, parameter: Json, kind: str) -> str:
    _only(parameter, {"type", "parameter_name", kind}, f"{place}: a parameter")
    if parameter.get("type") != kind:
        raise Wrong(
            132012,
            "Parameter format does not match",
            f"{place}: expected {kind}, got {parameter.get('type')!r}",
        )
    value = parameter.get(kind)
    if kind in ("image", "video", "document"):
        media = _dict(value, f"{place}.{kind}")
        _only(media, {"id", "link", "filename"}, f"{place}.{kind}")
        return _text(media.get("id") or media.get("link"), f"{place}.{kind}.link")
    text = _text(value, f"{place}.{kind}")
    if kind == "text" and PARAMETER_SPACE.search(text):
        raise Wrong(
            100,
            "Invalid parameter",
            f"{place}: no new-line or tab characters, nor more than 4 consecutive spaces",
        )
    if len(text) > PARAMETER_MOST:
        raise Wrong(132005, "Translated text too long", f"{place}: {len(text)} characters")
    return text


def _count(place: str, given: int, wanted: int) -> Wrong:
    details = f"{place}: number of localizable_params ({given}) does not match the expected number of params ({wanted})"
    return Wrong(132000, "Number of parameters does not match the expected number of params", details)


def _index(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).isdecimal():
        raise Wrong(131009, "Parameter value is not valid", f"button index {value!r}")
    return int(value)


def _dict(value: Any, where: str) -> Json:
    if not isinstance(value, dict):
        raise Wrong(
            131008 if value is None else 131009, "Parameter value is not valid", f"{where} must be an object"
        )
    return cast("Json", value)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Wrong(131008, "Required parameter is missing", f"{where} is required, got {value!r}")
    return value


def _only(value: Json, known: Iterable[str], where: str) -> None:
    if unknown := sorted(set(value) - set(known)):
        raise Wrong(100, "Invalid parameter", f"Unexpected key {unknown[0]!r} in {where}")
