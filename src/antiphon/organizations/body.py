"""Request bodies, read strictly: a text is no number, an unknown field is an error, and every wrong field is named."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, TypeVar, cast, get_args, get_origin

import msgspec
from litestar import Request
from litestar.dto import DTOConfig, MsgspecDTO
from msgspec import inspect
from msgspec.structs import fields

from antiphon.core.errors import BadRequest, FieldError, Invalid, UnsupportedMediaType

Model = TypeVar("Model", bound=msgspec.Struct | Collection[msgspec.Struct])
Decoders = tuple[msgspec.json.Decoder[Any], ...]

MOST_ERRORS = 50
_MOST_ITEMS = 1000
_WHERE = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<where>.*)`)?", re.DOTALL)


class StrictBody(MsgspecDTO[Model]):
    """`@post("/", dto=StrictBody[NewContact], return_dto=None)`: the body must be JSON that is a NewContact.

    `StrictBody[One | Many]` takes the first of them that the body is. Litestar's own machinery is replaced in three
    places: what may stand in the brackets, how bytes become a value, and which schema describes it.
    """

    _by_route: dict[str, Decoders] = {}  # noqa: RUF012 - filled when the routes are made

    def __class_getitem__(cls, annotation: Any) -> Any:
        """The same for every type: the route's own annotation of `data` is what counts."""
        fresh: dict[str, Any] = {"config": DTOConfig(), "model_type": annotation, "_dto_backends": {}}
        return cls if isinstance(annotation, TypeVar) else type(f"StrictBody[{annotation}]", (cls,), fresh)

    @classmethod
    def create_for_field_definition(
        cls, field_definition: Any, handler_id: str, backend_cls: Any = None
    ) -> None:
        """Make the route's decoders."""
        StrictBody._by_route[handler_id] = decoders_for(field_definition.raw)

    @classmethod
    def create_openapi_schema(cls, field_definition: Any, handler_id: str, schema_creator: Any) -> Any:
        """The structs' own schema."""
        return schema_creator.for_field_definition(field_definition)

    def decode_bytes(self, value: bytes) -> Any:
        """The body as its type. Raises 415, 400 or 422, the last with every wrong field."""
        request = cast("Request[Any, Any, Any]", self.asgi_connection)  # pyright: ignore[reportUnknownMemberType]
        _check_content_type(request.headers.get("content-type"))
        return decode(StrictBody._by_route[request.route_handler.handler_id], value)


def _check_content_type(given: str | None) -> None:
    # a form or text/plain can be sent by any web page without asking, so they are not read as JSON
    if given is None or given.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType(
            f"the body must be sent as Content-Type: application/json, not {(given or 'nothing')[:80]}"
        )


def decoders_for(kind: Any) -> Decoders:
    """A decoder for each struct of `One | Many`; one for any other type."""
    structs = [part for part in get_args(kind) if isinstance(part, type) and issubclass(part, msgspec.Struct)]
    kinds = structs if len(structs) > 1 else [kind]
    return tuple(msgspec.json.Decoder(one) for one in kinds)


def decode(decoders: Decoders, text: bytes) -> Any:
    """JSON as the first type that it is. Raises BadRequest for what is no JSON, Invalid naming every wrong field."""
    first: msgspec.ValidationError | None = None
    try:
        for decoder in decoders:
            try:
                return decoder.decode(text)
            except msgspec.ValidationError as error:
                first = first or error
        raw = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest("malformed_json", f"the body is not JSON: {error}") from None
    except RecursionError:
        raise BadRequest("malformed_json", "the body is nested too deeply") from None
    assert first is not None
    wrong: list[FieldError] = []
    _collect(_closest(decoders, raw), raw, "", wrong)
    raise _invalid(wrong or [_field_error("", first)]) from None


def _closest(decoders: Decoders, raw: Any) -> Any:
    """The type that the body was probably meant to be: the one that shares most fields with it."""
    kinds: list[Any] = [decoder.type for decoder in decoders]
    if len(kinds) == 1 or not isinstance(raw, dict):
        return kinds[0]
    given = set(cast("dict[str, Any]", raw))
    return max(kinds, key=lambda kind: len(given & {field.encode_name for field in fields(kind)}))


def _invalid(wrong: list[FieldError]) -> Invalid:
    names = ", ".join(error.field or "the body" for error in wrong[:5])
    more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
    return Invalid(f"wrong: {names}{more}; `errors` says why", wrong)


def _field_error(path: str, error: msgspec.ValidationError) -> FieldError:
    found = _WHERE.fullmatch(str(error))
    assert found is not None
    return FieldError((path + (found["where"] or "")).lstrip("."), found["what"])


def _collect(kind: Any, raw: Any, path: str, wrong: list[FieldError]) -> None:
    """Walk value and type together, so that each field is judged by itself."""
    if len(wrong) >= MOST_ERRORS:
        return
    before = len(wrong)
    struct = _struct_for(kind, raw)
    item = _item_for(kind, raw)
    if struct is not None:
        _collect_fields(struct, raw, path, wrong)
    elif item is not None:
        for index, value in enumerate(raw[:_MOST_ITEMS]):
            _collect(item, value, f"{path}[{index}]", wrong)
    if len(wrong) == before:  # the parts are right, or there are none: is the whole?
        try:
            msgspec.convert(raw, kind)
        except msgspec.ValidationError as error:
            wrong.append(_field_error(path, error))


def _collect_fields(
    struct: type[msgspec.Struct], raw: dict[str, Any], path: str, wrong: list[FieldError]
) -> None:
    declared = fields(struct)
    start = f"{path}." if path else ""
    for field in declared:
        if field.encode_name in raw:
            _collect(field.type, raw[field.encode_name], start + field.encode_name, wrong)
        elif field.required:
            wrong.append(FieldError(start + field.encode_name, "is required"))
    if struct.__struct_config__.forbid_unknown_fields:
        known = {field.encode_name for field in declared}
        unknown = [name for name in raw if name not in known]
        room = max(0, MOST_ERRORS - len(wrong))
        wrong.extend(
            FieldError(start + name[:80], "is not a field of this request") for name in unknown[:room]
        )


def _struct_for(kind: Any, raw: Any) -> type[msgspec.Struct] | None:
    """The untagged struct that an object must be, looking through `X | None | UnsetType`."""
    if not isinstance(raw, dict):
        return None
    info = inspect.type_info(kind)
    choices = info.types if isinstance(info, inspect.UnionType) else (info,)
    structs = [choice for choice in choices if isinstance(choice, inspect.StructType) and choice.tag is None]
    return structs[0].cls if len(structs) == 1 else None


def _item_for(kind: Any, raw: Any) -> Any | None:
    """The type of a list's items, looking through `list[X] | None` and Annotated."""
    if not isinstance(raw, list):
        return None
    if get_origin(kind) is list:
        return get_args(kind)[0]
    found = [item for part in get_args(kind) if (item := _item_for(part, raw)) is not None]
    return found[0] if len(found) == 1 else None
