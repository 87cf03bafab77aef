"""The API reference at /docs: Swagger UI from the installed package, so that it works without a network."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from litestar import MediaType, Request, Response, get

from antiphon.core.errors import NotFound
from antiphon.entry import openapi
from antiphon.organizations.access import public

# Swagger UI sets style attributes while it runs; scripts come from our own files only
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

_PAGE = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Antiphon API</title>
<link rel="icon" href="/docs/assets/favicon-32x32.png">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
</head>
<body>
<div id="reference"></div>
<noscript>This page needs JavaScript; the document itself is <a href="/openapi.json">openapi.json</a>.</noscript>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/assets/start.js"></script>
</body>
</html>
"""

_START = b"""SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  docExpansion: "none",
  persistAuthorization: false,
  validatorUrl: null,
});
"""

_TYPES = {"js": "text/javascript", "css": "text/css", "png": "image/png"}
_FROM_PACKAGE = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")


@get("/docs", include_in_schema=False, sync_to_thread=False, **public())
def get_reference() -> Response[bytes]:
    """The page, which loads the document by itself."""
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return Response(_PAGE, media_type=MediaType.HTML, headers=headers)


@get("/openapi.json", include_in_schema=False, sync_to_thread=False, **public())
def get_document(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The OpenAPI document."""
    document = openapi.encode(openapi.document(request.app))
    return Response(document, media_type=MediaType.JSON, headers={"Cache-Control": "no-cache"})


@get("/docs/assets/{name:str}", include_in_schema=False, sync_to_thread=False, **public())
def get_reference_asset(name: str) -> Response[bytes]:
    """One of the few files that the page needs."""
    asset = _asset(name)
    if asset is None:
        raise NotFound("asset", name)
    headers = {"Cache-Control": "max-age=86400"}
    return Response(asset, media_type=_TYPES[name.rpartition(".")[2]], headers=headers)


@cache
def _asset(name: str) -> bytes | None:
    if name == "start.js":
        return _START
    return files("swagger_ui").joinpath("static", name).read_bytes() if name in _FROM_PACKAGE else None
