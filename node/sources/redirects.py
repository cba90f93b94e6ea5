"""Where a request may be sent on to, and what it may carry there (pure)."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from localai.mesh.errors import InvalidRequest, UpstreamFailed
from localai.mesh.secrets import Secret
from localai.node.sources.plan import Headers

REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
URL_SAFE = "%/:?#[]@!$&'()*+,;=-._~"
"""Characters that mean something in an address; all others are percent-encoded."""
_ONE_HOST_ONLY = frozenset({"authorization", "cookie", "proxy-authorization"})
_PORTS = {"http": 80, "https": 443}


def check_download_url(url: str, *, has_hash: bool) -> None:
    """Pass addresses that a file may be fetched from.

    Raises:
        InvalidRequest: another scheme, or plain http for a file whose hash is not known.
    """
    parts = _split(url)
    if parts is None or parts.scheme not in _PORTS or quote(url, safe=URL_SAFE) != url:
        message = f"The address {url[:200]!r} cannot be fetched. Give one that begins with https://, percent-encoded."
        raise InvalidRequest(message, code="invalid_uri")
    if parts.scheme == "http" and not has_hash:
        message = (
            f"The address {url[:200]!r} begins with http://, where anybody on the way can change the file. "
            "Give its SHA-256 too, or an address that begins with https://."
        )
        raise InvalidRequest(message, code="invalid_uri")


def next_url(url: str, location: str) -> str:
    """The address that a redirect from ``url`` leads to.

    Raises:
        UpstreamFailed: it leads nowhere, or from https to something else.
    """
    try:
        joined = urljoin(url, quote(location, safe=URL_SAFE, errors="surrogateescape"))
    except ValueError:
        joined = ""
    parts = _split(joined)
    if not location or parts is None or parts.scheme not in _PORTS:
        raise _bad_redirect(url, "to an address that cannot be fetched", joined)
    if urlsplit(url).scheme == "https" and parts.scheme != "https":
        raise _bad_redirect(url, "from https to plain http, where anybody on the way can change the file", joined)
    return joined


def carried_headers(headers: Headers, first_url: str, url: str) -> dict[str, str]:
    """The headers for ``url``: secrets only on the host they are for, and never over plain http to another machine."""
    may_carry = origin(url) == origin(first_url) and (urlsplit(url).scheme == "https" or _is_loopback(url))
    return {
        name: value.reveal() if isinstance(value, Secret) else value
        for name, value in headers
        if may_carry or not (isinstance(value, Secret) or name.lower() in _ONE_HOST_ONLY)
    }


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme)


def _split(url: str) -> SplitResult | None:
    """The parts of an address; None when it has no host, or is none."""
    try:
        parts = urlsplit(url)
        return parts if parts.hostname and (parts.port is None or parts.port) else None
    except ValueError:
        return None


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bad_redirect(url: str, problem: str, target: str) -> UpstreamFailed:
    host = urlsplit(url).hostname
    message = f"{host} sends the download on {problem}. Report it to that server, or use another source."
    return UpstreamFailed(message, code="bad_redirect", detail=target[:500])
