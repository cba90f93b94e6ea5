"""Which node answered, as response headers (shell).

For clients on this machine and for authenticated ones; for others only when the settings say so. A node is named by the
end of its peer id, never by its host name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from aiohttp import web

from localai.api.state import SETTINGS
from localai.mesh.errors import InvalidRequest
from localai.node.dispatch import OnRoute, Route

NODE_HEADER = "X-LocalAI-Node"
ROUTE_HEADER = "X-LocalAI-Route"
LOCAL_ONLY_HEADER = "X-LocalAI-Local-Only"
_YES = frozenset({"true", "1", "yes"})
_NO = frozenset({"", "false", "0", "no"})
_ROUTE = web.RequestKey("route", Route)


def is_local_only(headers: Mapping[str, str]) -> bool:
    """Whether a request must not leave this node.

    Raises:
        InvalidRequest: the header has a value that is neither yes nor no.
    """
    value = headers.get(LOCAL_ONLY_HEADER, "").strip().lower()
    if value not in _YES | _NO:
        raise InvalidRequest(f"The header {LOCAL_ONLY_HEADER} has an unknown value. Send 'true' or 'false'.")
    return value in _YES


def keep_route(request: web.Request) -> OnRoute:
    """Takes down who answers a request, the last try being the one that counts."""

    def keep(route: Route) -> None:
        request[_ROUTE] = route

    return keep


def route_headers(request: web.Request) -> dict[str, str]:
    """The headers to send; none when nothing was routed, this node is alone, or the client may not know."""
    route = request.get(_ROUTE)
    if route is None or not route.node:
        return {}
    settings = request.app[SETTINGS]
    if not (settings.show_route or settings.api_keys or _is_local(request.remote)):
        return {}
    return {NODE_HEADER: route.node, ROUTE_HEADER: render_route(route)}


def render_route(route: Route) -> str:
    """How the choice was made, for people: ``peer; expected=1.2s; candidates=2; attempt=1``."""
    kind = "local" if route.is_local else "peer"
    return f"{kind}; expected={route.expected_s:.2f}s; candidates={route.candidates}; attempt={route.attempt}"


def _is_local(remote: str | None) -> bool:
    try:
        address = ipaddress.ip_address(remote or "")
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
