"""The OpenAPI document: made from the routes, completed with what every route may answer, and committed.

python -m antiphon.entry.openapi           writes openapi.json
python -m antiphon.entry.openapi --check   fails when the file is stale
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Request
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, License, SecurityScheme, Tag
from litestar.types.internal_types import PathParameterDefinition

from antiphon.entry.problems import MEDIA_TYPE

FILE = "openapi.json"
METHODS = ("get", "post", "put", "patch", "delete")
UNSAFE = ("post", "put", "patch", "delete")

DESCRIPTION = """\
Send an API key with every request: `Authorization: Bearer ak_…`, or `X-API-Key: ak_…`.

Errors are `application/problem+json` with a stable `code`; `errors` names every wrong field. Lists take `limit` and
`cursor`; `next` of a page is the cursor of the one after it. Times are RFC 3339; Unix milliseconds are accepted. Every
unsafe request takes an `Idempotency-Key`: the same request again within 24 hours gets the first answer, without a
second effect. Another organization's id is answered like one that does not exist.
"""

TAGS = (
    Tag("Organization", "The organization, its API keys and its audit log"),
    Tag("Contacts", "People, their addresses and their consent"),
    Tag("Groups", "Contacts gathered by hand"),
    Tag("Suppressions", "Addresses that must not be used, and why"),
    Tag("Imports", "Contacts from files"),
    Tag("Templates", "Content per channel and language, in immutable versions"),
    Tag("Senders", "Provider accounts, and the numbers and addresses we send from"),
    Tag("Messages", "The ledger: every message, out and in, and what became of it"),
    Tag("Campaigns", "One message to an audience"),
    Tag("Insights", "How far the messages of campaigns got"),
    Tag("Jobs", "Background work and how far it is"),
    Tag("Operations", "Health and figures"),
)

_FILES = {
    "import_contacts": ("text/csv", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
}
"""Routes that read their body by themselves, and what it may be."""

_PROBLEMS = {
    400: "The request cannot be read",
    401: "No API key, or one that is not in force",
    403: "The key's scopes do not include this",
    404: "It does not exist in this organization",
    405: "The method is not possible here",
    409: "Not possible in the present state",
    413: "Too many bytes",
    415: "Not application/json",
    422: "Some fields are wrong; `errors` names them all",
    503: "The database is away or too busy; `Retry-After` says when to come back",
}


class Document(OpenAPIRenderPlugin):
    """The document, as it is committed, where Litestar would show its own: at /openapi/openapi.json."""

    def __init__(self) -> None:
        super().__init__(path="/openapi.json", media_type=MediaType.JSON)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The document's bytes."""
        return encode(complete(openapi_schema))


def config() -> OpenAPIConfig:
    """What Litestar needs to know."""
    key = "An API key: ak_…"
    return OpenAPIConfig(
        title="Antiphon",
        version=version("antiphon"),
        description=DESCRIPTION,
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        use_handler_docstrings=True,
        operation_id_creator=_operation_id,
        tags=list(TAGS),
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer", description=key),
                "apiKey": SecurityScheme(
                    type="apiKey", name="X-API-Key", security_scheme_in="header", description=key
                ),
            }
        ),
        path="/openapi",
        render_plugins=[Document()],
    )


def _operation_id(
    handler: HTTPRouteHandler, _method: object, path: list[str | PathParameterDefinition]
) -> str:
    """The handler's name; what campaigns and blasts share is named after each."""
    name = handler.handler_name
    if "blasts" not in path or "blast" in name:
        return name
    return name.replace("campaign", "blast") if "campaign" in name else f"{name}_of_blast"


def document(app: Litestar) -> dict[str, Any]:
    """The whole document of an application."""
    return complete(app.openapi_schema.to_schema())


def complete(schema: dict[str, Any]) -> dict[str, Any]:
    """Add to each operation the problems that it may answer with, and the Idempotency-Key of unsafe ones."""
    done: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(schema))
    schemas = done.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = _PROBLEM_SCHEMA
    done["components"]["parameters"] = {"IdempotencyKey": _IDEMPOTENCY_KEY}
    for path, item in done["paths"].items():
        for method in METHODS:
            if method in item:
                _complete_operation(item[method], path, method)
    return done


def _complete_operation(operation: dict[str, Any], path: str, method: str) -> None:
    statuses = {400, 422, 503}
    if "x-permission" in operation:
        statuses |= {401, 403}
    if "{" in path:
        statuses.add(404)
    if method in UNSAFE:
        statuses |= {404, 409, 413}
        if "x-permission" in operation:
            operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/IdempotencyKey"})
    if (kinds := _FILES.get(operation["operationId"])) is not None:
        file = {"schema": {"type": "string", "format": "binary"}}
        operation["requestBody"] = {"required": True, "content": dict.fromkeys(kinds, file)}
    elif "requestBody" in operation:
        statuses.add(415)
    responses: dict[str, Any] = operation.setdefault("responses", {})
    responses.pop("400", None)  # Litestar's own shape, which we never answer with
    for status in sorted(statuses):
        responses.setdefault(str(status), _problem_response(_PROBLEMS[status]))
    operation["responses"] = dict(sorted(responses.items()))


def _problem_response(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "What went wrong: `code` is stable and made for programs, `detail` is for the person who reads it.",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}, "value": {}},
            },
        },
        "request_id": {"type": "string"},
    },
}

_IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same request with the same key gets the first answer, without a second effect, for 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


def encode(schema: dict[str, Any]) -> bytes:
    """The document as the committed file has it."""
    return msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"


def render() -> bytes:
    """The document of this program, without anything running."""
    from antiphon.entry import web

    return encode(document(web.litestar_application(None)))


def write(folder: Path) -> Path:
    """Write the file; returns where."""
    path = folder / FILE
    path.write_bytes(render())
    return path


def is_current(folder: Path) -> bool:
    """Whether the file says what the program does."""
    path = folder / FILE
    return path.exists() and path.read_bytes() == render()


def main(arguments: list[str]) -> int:
    """Write or check the file in the working folder; the exit code."""
    if "--check" not in arguments:
        print(f"wrote {write(Path())}")
        return 0
    if is_current(Path()):
        return 0
    print(f"{FILE} does not say what the program does; write it anew: make openapi", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
