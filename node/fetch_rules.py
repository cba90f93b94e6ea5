"""Which addresses this node may fetch for a client, and what a ``data:`` URL holds (pure).

A client who names an address makes this machine connect to it: without rules it could reach the router, the metadata
service of a cloud, or a program that trusts this machine. So only addresses of the public internet are allowed, and
networks that the owner names. Addresses that carry another one inside (mapped, 6to4, NAT64) count as that one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias
from urllib.parse import unquote_to_bytes, urlsplit

from localai.mesh.errors import InvalidRequest, TooLarge

Network: TypeAlias = IPv4Network | IPv6Network

_NAT64 = IPv6Network("64:ff9b::/96")
_NEVER: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "100.64.0.0/10",
            "192.0.0.0/24",
            "192.88.99.0/24",
            "224.0.0.0/3",
            "::/96",  # IPv4-compatible, long out of use
            "64:ff9b:1::/48",
            "100::/64",
            "2001::/23",  # Teredo and other special purposes
            "fec0::/10",
            "ff00::/8",
        ),
    )
)
"""Beside what Python knows to be not global, which differs between its versions."""
_MAX_URL_CHARS = 4096


@dataclass(frozen=True, slots=True)
class Media:
    """What was fetched. ``content_type`` is what the sender says, in lower case and without parameters; maybe empty."""

    content_type: str
    data: bytes


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks such as ``192.168.1.0/24``; a lone address is a network of one.

    Raises:
        ValueError: one is none; the text completes "<option> <reason>".
    """
    return tuple(_network(text) for text in texts)


def check_network(text: str) -> None:
    """Accept a network or an address."""
    _network(text)


def _network(text: str) -> Network:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'needs networks such as 192.168.1.0/24, not "{text}"') from None


def is_allowed_address(text: str, networks: Iterable[Network] = ()) -> bool:
    """Whether this node may connect to an IP address for a client; ``networks`` are allowed beside public ones."""
    try:
        address = _innermost(ip_address(text.partition("%")[0]))
    except ValueError:
        return False
    if any(address in network for network in networks):
        return True
    return address.is_global and not any(address in network for network in _NEVER)


def _innermost(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def check_media_url(url: str) -> None:
    """Pass addresses of the web, without a name and password in them.

    Raises:
        InvalidRequest: it is something else.
    """
    try:
        parts = urlsplit(url)
        fits = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
        )
    except ValueError:
        fits = False
    if not fits or len(url) > _MAX_URL_CHARS or not all("!" <= char <= "~" for char in url):
        message = f"The address '{_shown(url)}' cannot be fetched. Give an http://, https:// or data: URL."
        raise InvalidRequest(message, code="invalid_media_url")


def parse_data_url(url: str, max_bytes: int) -> Media | None:
    """What a ``data:`` URL holds; None for another kind of URL.

    Raises:
        InvalidRequest: it is broken.
        TooLarge: it holds more than ``max_bytes``.
    """
    if url[:5].lower() != "data:":
        return None
    head, comma, body = url[5:].partition(",")
    if not comma or len(head) > 200:
        raise InvalidRequest("The data: URL has no comma. Write data:TYPE;base64,DATA.", code="invalid_media_url")
    kind, *parameters = (part.strip().lower() for part in head.split(";"))
    if len(body) > max_bytes * 4:
        raise media_too_large(max_bytes)
    data = unquote_to_bytes(body)
    if "base64" in parameters:
        try:
            data = base64.b64decode(data, validate=True)
        except binascii.Error:
            raise InvalidRequest("The data: URL is not base64. Encode it again.", code="invalid_media_url") from None
    if len(data) > max_bytes:
        raise media_too_large(max_bytes)
    return Media(kind, data)


def media_too_large(max_bytes: int) -> TooLarge:
    """The error for what is longer than ``max_bytes``."""
    return TooLarge(f"The media has more than {max_bytes} bytes. Send something smaller.", code="media_too_large")


def _shown(url: str) -> str:
    return url[:100].encode("ascii", "backslashreplace").decode()
