"""The web application: every feature's routes, one way to answer errors, one set of limits."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Sequence
from typing import Any, cast

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions.base_exceptions import LitestarDeprecationWarning
from litestar.types import ASGIApp, ExceptionHandlersMap

from antiphon.entry import edge, openapi, operations, problems, reference
from antiphon.organizations.access import Services, provide_unit

API = "/api/v1"
MOST_BODY_BYTES = 10 * 1024 * 1024

_FEATURES = (
    "antiphon.organizations.api",
    "antiphon.contacts.api",
    "antiphon.templates.api",
    "antiphon.senders.api",
    "antiphon.messages.api",
    "antiphon.messages.lanes_api",
    "antiphon.campaigns.api",
    "antiphon.insights.api",
    "antiphon.inbox.api",
)
_OUTSIDE = ("antiphon.receiving.api",)


def application(services: Services, more: Sequence[Any] = ()) -> ASGIApp:
    """The whole application, and `more` routes beside it, ready to be served."""
    is_https = services.settings.public_url.startswith("https://")
    return edge.around(litestar_application(services, more), is_https=is_https)


def litestar_application(services: Services | None, more: Sequence[Any] = ()) -> Litestar:
    """The routes, and `more` beside them; without services they can be looked at, not called."""
    features = [router for name in _FEATURES for router in _routers(name)]
    outside = [router for name in _OUTSIDE for router in _routers(name)]
    with warnings.catch_warnings():
        # a plain parameter is a path or query parameter by its name; Litestar 3, which we do not use, wants it marked
        warnings.simplefilter("ignore", LitestarDeprecationWarning)
        return Litestar(
            route_handlers=[
                Router(API, route_handlers=[*features, operations.jobs_router]),
                *outside,
                operations.router,
                reference.get_reference,
                reference.get_reference_asset,
                reference.get_document,
                *more,
            ],
            dependencies={"unit": Provide(provide_unit)},
            exception_handlers=cast("ExceptionHandlersMap", problems.HANDLERS),
            request_max_body_size=MOST_BODY_BYTES,
            openapi_config=openapi.config(),
            state=State({"services": services}),
            logging_config=None,
        )


def _routers(name: str) -> list[Router]:
    if importlib.util.find_spec(name) is None:
        return []
    try:
        module = importlib.import_module(name)
    except (ImportError, AttributeError, NameError, SyntaxError, TypeError):
        return []
    return [*getattr(module, "routers", ()), *([module.router] if hasattr(module, "router") else [])]
