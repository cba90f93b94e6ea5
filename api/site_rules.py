"""What web pages of other sites may do with this node through a browser (pure).

Two rules: a page elsewhere may not change anything here (cross-site request forgery), and may read answers only if
its origin is allowed (CORS). Both look at headers that browsers set and pages cannot: programs send neither ``Origin``
nor ``Sec-Fetch-Site`` and are never affected. Browsers leave ``Sec-Fetch-Site`` out for plain http on other machines,
so ``Origin`` decides there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from localai.api.auth import KEY_HEADERS
from localai.mesh.errors import Forbidden

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN = frozenset({"same-origin", "none"})
_METHODS = "GET, HEAD, PUT, PATCH, POST, DELETE"
_EXPOSED = "X-Correlation-ID, X-LocalAI-Node, X-LocalAI-Route, Retry-After"
_MAX_AGE_S = 600
_MAX_ORIGIN_CHARS = 500


class AllowedOrigins:
    """Origins whose pages may use this node: exact ones, ones with ``*`` and ``?``, or ``*`` for all."""

    def __init__(self, origins: Iterable[str] = ()) -> None:
        cleaned = [origin.strip().rstrip("/").lower() for origin in origins]
        self.everybody = "*" in cleaned
        self._exact = frozenset(cleaned)
        self._patterns = [_pattern(origin) for origin in cleaned if set(origin) & set("*?")]

    def __bool__(self) -> bool:
        return bool(self._exact)

    def has(self, origin: str) -> bool:
        """Whether pages of ``origin``, as a browser names it, are allowed."""
        origin = origin.lower()
        if len(origin) > _MAX_ORIGIN_CHARS:
            return False
        if self.everybody or origin in self._exact:
            return True
        return any(pattern.fullmatch(origin) for pattern in self._patterns)


def check_site(method: str, headers: Mapping[str, str], origins: AllowedOrigins) -> None:
    """Refuse a request that could change something and that a page of another site has sent.

    A key in a header proves that the page had permission to send it. ``headers`` must find names in any case.

    Raises:
        Forbidden: it was such a page.
    """
    if method in _SAFE_METHODS and headers.get("Upgrade", "").lower() != "websocket":
        return
    origin = headers.get("Origin")
    site = headers.get("Sec-Fetch-Site")
    if origin is None and site is None:
        return
    if site is not None and site.lower() in _OWN:
        return
    if any(name in headers for name in KEY_HEADERS):
        return
    if origin is not None and (origins.has(origin) or (site is None and _is_same(origin, headers.get("Host", "")))):
        return
    raise Forbidden(
        "Pages of other sites may not use this node. Allow the site with --cors and --cors-allow-origins, or send an "
        "API key in a header.",
        code="other_site",
    )


def cors_headers(origin: str | None, origins: AllowedOrigins) -> dict[str, str]:
    """Headers that let the page of an origin read an answer; none for programs and for pages without permission."""
    if not origins:
        return {}
    if origins.everybody:
        return {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": _EXPOSED}
    if origin is None or not origins.has(origin):
        return {"Vary": "Origin"}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": _EXPOSED,
        "Vary": "Origin",
    }


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser asks for permission before it sends what a page wants it to send."""
    return method == "OPTIONS" and "Origin" in headers and "Access-Control-Request-Method" in headers


def preflight_headers(headers: Mapping[str, str], origins: AllowedOrigins) -> dict[str, str]:
    """What the page may send, beside :func:`cors_headers`; nothing without permission."""
    if not origins.has(headers.get("Origin", "")):
        return {}
    answer = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Max-Age": str(_MAX_AGE_S),
    }
    if wanted := headers.get("Access-Control-Request-Headers"):
        answer["Access-Control-Allow-Headers"] = _printable(wanted)
    if headers.get("Access-Control-Request-Private-Network") == "true":
        answer["Access-Control-Allow-Private-Network"] = "true"
    return answer


def _pattern(origin: str) -> re.Pattern[str]:
    special = {"*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(special.get(char) or re.escape(char) for char in origin))


def _is_same(origin: str, host: str) -> bool:
    """Whether an origin names the host that the request was sent to; the scheme is unknown behind a proxy."""
    try:
        parts = urlsplit(origin)
        default = {"http": ":80", "https": ":443"}.get(parts.scheme)
    except ValueError:
        return False
    if default is None:
        return False
    named = parts.netloc.lower()
    return bool(named) and named.removesuffix(default) == host.strip().lower().removesuffix(default)


def _printable(text: str) -> str:
    return "".join(char for char in text if " " <= char <= "~")
