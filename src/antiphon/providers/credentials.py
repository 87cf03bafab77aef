"""Credentials of a provider account: frozen structs whose fields say how they are asked for and kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

Text = Annotated[str, Meta(min_length=1, max_length=4000)]


def secret(label: str, help: str = "") -> Meta:  # noqa: A002 - the word on the form
    """Mark a field as one that is encrypted, never shown again and never logged."""
    return Meta(title=label, description=help, extra={"secret": True})


def plain(label: str, help: str = "") -> Meta:  # noqa: A002
    """Mark a field that may be shown."""
    return Meta(title=label, description=help, extra={"secret": False})


class Credentials(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What opens an account. `repr`, `str` and logs show no secret, whatever is done with the value."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in redacted(self).items())
        return f"{type(self).__name__}({shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return list(redacted(self).items())


C = TypeVar("C", bound=Credentials)


class CredentialField(Struct, frozen=True, kw_only=True):
    """One field of a credentials form."""

    name: str
    label: str
    help: str
    kind: Literal["text", "number", "choice"]
    secret: bool
    required: bool
    default: str | int | None
    choices: tuple[str, ...] = ()


def fields(kind: type[Credentials]) -> tuple[CredentialField, ...]:
    """The form of a credentials type, in the order of its declaration."""
    described = msgspec.inspect.type_info(kind)
    assert isinstance(described, msgspec.inspect.StructType)
    return tuple(_field(field) for field in described.fields)


def redacted(credentials: Credentials) -> dict[str, Any]:
    """The values by name, every secret that is set replaced by asterisks."""
    return {
        field.name: "***"
        if field.secret and getattr(credentials, field.name)
        else getattr(credentials, field.name)
        for field in fields(type(credentials))
    }


def read(kind: type[C], given: Mapping[str, Any] | bytes) -> C:
    """Credentials from a form (an empty field is one left out) or from their stored JSON.

    Raises `msgspec.ValidationError`, which names the wrong field and never its value.
    """
    if isinstance(given, bytes):
        return msgspec.json.decode(given, type=kind)
    return msgspec.convert({name: value for name, value in given.items() if value != ""}, kind, strict=False)


def stored(credentials: Credentials) -> bytes:
    """The JSON that is encrypted and kept; `read` is its inverse."""
    return msgspec.json.encode(credentials)


def _field(field: msgspec.inspect.Field) -> CredentialField:
    described: Any = field.type
    schema: dict[str, str] = {}
    extra: dict[str, bool] = {}
    if isinstance(described, msgspec.inspect.Metadata):
        marked: Any = described  # the library's own types are looser than what `secret` and `plain` put there
        schema, extra, described = marked.extra_json_schema or {}, marked.extra or {}, described.type
    choices: tuple[str, ...] = ()
    if isinstance(described, msgspec.inspect.LiteralType):
        choices = tuple(str(value) for value in described.values)
    is_number = isinstance(described, msgspec.inspect.IntType)
    return CredentialField(
        name=field.name,
        label=schema.get("title", field.name),
        help=schema.get("description", ""),
        kind="choice" if choices else "number" if is_number else "text",
        secret=extra.get("secret", False),
        required=field.required,
        default=None if field.required else field.default,
        choices=choices,
    )
