"""The HTTP application of a node (shell)."""

from __future__ import annotations

import socket
import time

import psutil
import structlog
from aiohttp import web

from localai.api import middleware
from localai.api.address_rules import check_exposure, is_wildcard, reach_of
from localai.api.routes import generation, model_jobs, models, pages, swarm, system
from localai.api.state import DISPATCH, SETTINGS, STARTED, VERSION
from localai.node.dispatch import Dispatch
from localai.node.settings import Settings
from localai.node.version import program_version

_LOG = structlog.get_logger()
_NO_LIMIT = 2**63


def make_app(dispatch: Dispatch, settings: Settings) -> web.Application:
    """The application, ready to be run.

    Raises:
        SetupError: it would be open to everybody on the internet.
    """
    reach = reach_of(listening_addresses(settings.address.host))
    warning = check_exposure(reach, has_keys=bool(settings.api_keys), allow_anonymous=settings.allow_anonymous)
    if warning is not None:
        _LOG.warning("open_to_others", reach=reach, advice=warning)
    app = web.Application(
        client_max_size=settings.upload_limit_bytes or _NO_LIMIT,
        middlewares=[
            middleware.correlate,
            middleware.answer_errors,
            middleware.limit_body(settings.upload_limit_bytes),
            middleware.require_host(host_names(settings)),
            middleware.require_key(settings.api_keys),
        ],
    )
    app[DISPATCH] = dispatch
    app[SETTINGS] = settings
    app[STARTED] = int(time.time())
    app[VERSION] = program_version()
    app.on_response_prepare.append(middleware.add_headers)
    model_jobs.add_to(app)
    for routes in (generation, models, system, swarm, pages):
        routes.add_routes(app.router)
    return app


def listening_addresses(host: str) -> list[str]:
    """IP addresses under which ``host`` can be reached: of every interface for a wildcard."""
    found = sorted({str(place[4][0]) for place in socket.getaddrinfo(host or "0.0.0.0", None)})
    if not any(map(is_wildcard, found)):
        return found
    families = (socket.AF_INET, socket.AF_INET6)
    cards = psutil.net_if_addrs().values()
    return [card.address for addresses in cards for card in addresses if card.family in families]


def host_names(settings: Settings) -> frozenset[str]:
    """Names this node answers to beside IP addresses and localhost."""
    own = socket.gethostname().lower()
    return frozenset({own, f"{own}.local", settings.address.host.lower(), *settings.allowed_hosts} - {""})
