"""The HTTP application of a node (shell)."""

from __future__ import annotations

import socket
import time

import psutil
import structlog
from aiohttp import web

from localai.api import middleware
from localai.api.address_rules import check_exposure, is_wildcard, reach_of
from localai.api.auth import ExemptRoutes, KeyRing
from localai.api.metrics import METRICS, Metrics, measure
from localai.api.routes import (
    anthropic,
    embeddings,
    generation,
    mcp,
    media,
    metrics,
    model_jobs,
    models,
    monitor,
    ollama,
    openapi,
    pages,
    rerank,
    responses,
    stores,
    swarm,
    system,
    tokens,
    unsupported,
)
from localai.api.routes import (
    settings as settings_routes,
)
from localai.api.server import GuardedRunner, default_limits
from localai.api.site_rules import AllowedOrigins
from localai.api.state import ANSWER_HEADERS, DATABASE, DISPATCH, SETTINGS, STARTED, VERSION
from localai.api.web.headers import SECURITY_HEADERS
from localai.node.database.address import database_address
from localai.node.database.database import Database
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
    admission = _admission(settings)
    counts = Metrics(dispatch) if settings.metrics else None
    app = web.Application(
        client_max_size=settings.upload_limit_bytes or _NO_LIMIT,
        middlewares=[
            middleware.correlate,
            *([measure(counts)] if counts else []),
            middleware.answer_errors,
            middleware.admit(admission),
        ],
    )
    app[middleware.ORIGINS] = admission.origins
    app[ANSWER_HEADERS] = answer_headers(settings)
    app[DISPATCH] = dispatch
    app[SETTINGS] = settings
    app[DATABASE] = Database(database_address(settings.database_url, settings.data_path))
    app.on_cleanup.append(_close_database)  # after the jobs, which end in a cleanup context
    app[STARTED] = int(time.time())
    app[VERSION] = program_version()
    app.on_response_prepare.append(middleware.add_headers)
    model_jobs.add_to(app)
    ollama.add_to(app)
    stores.add_to(app)
    mcp.add_to(app)
    media.add_to(app)
    responses.add_to(app)
    anthropic.add_to(app)
    pages.add_to(app)
    for routes in (generation, embeddings, models, system, rerank, tokens, unsupported, swarm, monitor):
        routes.add_routes(app.router)
    if counts is not None:
        app[METRICS] = counts
        dispatch.on_answer = counts.saw_answer
        metrics.add_routes(app.router)
    if settings.runtime_settings:
        settings_routes.add_to(app)
    openapi.add_to(app)
    return app


async def _close_database(app: web.Application) -> None:
    await app[DATABASE].aclose()


def make_runner(dispatch: Dispatch, settings: Settings) -> web.AppRunner:
    """The application behind the limits of its server.

    Raises:
        SetupError: it would be open to everybody on the internet.
    """
    return GuardedRunner(
        make_app(dispatch, settings),
        default_limits(),
        headers=answer_headers(settings),
        max_body_bytes=settings.upload_limit_bytes,
        opaque=settings.protection.opaque_errors,
    )


def answer_headers(settings: Settings) -> dict[str, str]:
    """Headers of every answer of this node."""
    tag = settings.protection.machine_tag
    return {**SECURITY_HEADERS, **({"Machine-Tag": tag} if tag else {})}


def _admission(settings: Settings) -> middleware.Admission:
    protection = settings.protection
    origins = AllowedOrigins(protection.cors_origins if protection.cors else ())
    if protection.cors != bool(protection.cors_origins):
        _LOG.warning("cors_is_off", advice="Give both --cors and --cors-allow-origins to let pages of other sites in.")
    exempt = ExemptRoutes(protection.exempt_routes)
    for pattern in exempt.invalid:
        _LOG.warning("exempted_endpoint_ignored", pattern=pattern, advice="Give a regular expression.")
    return middleware.Admission(
        settings.upload_limit_bytes,
        host_names(settings),
        KeyRing(settings.api_keys),
        exempt,
        origins,
        protection.checks_sites,
    )


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
