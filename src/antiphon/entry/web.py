"""The web application: every feature's routes, one way to answer errors, one set of limits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any, cast

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions.base_exceptions import LitestarDeprecationWarning
from litestar.types import ASGIApp, ExceptionHandlersMap

from antiphon.campaigns import api as campaigns
from antiphon.contacts import api as contacts
from antiphon.contacts import suppressions_api
from antiphon.entry import edge, openapi, operations, problems, reference
from antiphon.insights import api as insights
from antiphon.messages import api as messages
from antiphon.messages import lanes_api as lanes
from antiphon.messages import withdrawal
from antiphon.organizations import api as organizations
from antiphon.organizations.access import Services, provide_unit
from antiphon.receiving import api as receiving
from antiphon.senders import api as senders
from antiphon.templates import api as templates

API = "/api/v1"
MOST_BODY_BYTES = 10 * 1024 * 1024

FEATURES = (organizations, contacts, templates, senders, messages, lanes, campaigns, insights)
"""The modules whose `router` or `routers` are below /api/v1."""


def application(services: Services, more: Sequence[Any] = ()) -> ASGIApp:
    """The whole application, and `more` routes beside it, ready to be served."""
    is_https = services.settings.public_url.startswith("https://")
    return edge.around(litestar_application(services, more), is_https=is_https)


def litestar_application(services: Services | None, more: Sequence[Any] = ()) -> Litestar:
    """The routes, and `more` beside them; without services they can be looked at, not called."""
    routers = [router for feature in FEATURES for router in _routers(feature)]
    routers += suppressions_api.make_routers(withdrawal.suppress, withdrawal.record_consent)
    with warnings.catch_warnings():
        # a plain parameter is a path or query parameter by its name; Litestar 3, which we do not use, wants it marked
        warnings.simplefilter("ignore", LitestarDeprecationWarning)
        return Litestar(
            route_handlers=[
                Router(API, route_handlers=[*routers, operations.jobs_router]),
                receiving.router,
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


def _routers(feature: ModuleType) -> list[Router]:
    """Most features have one router, some have several."""
    one: Router | None = getattr(feature, "router", None)
    several: Sequence[Router] = getattr(feature, "routers", ())
    return [*([one] if one else []), *several]
