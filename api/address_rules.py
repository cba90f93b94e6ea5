"""Who may reach this node: the address it listens on, and the names it answers to (pure)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Set
from typing import Literal

from localai.mesh.errors import Forbidden, SetupError

Reach = Literal["loopback", "private", "public"]
_SHARED = ipaddress.ip_network("100.64.0.0/10")
"""Carrier-grade NAT and many home VPNs; Python counts it as neither private nor global."""


def reach_of(addresses: Iterable[str]) -> Reach:
    """The widest reach of some IP addresses (a zone such as ``%eth0`` is allowed); loopback for none."""
    reaches = {_reach(ipaddress.ip_address(address.partition("%")[0])) for address in addresses}
    if "public" in reaches:
        return "public"
    return "private" if "private" in reaches else "loopback"


def _reach(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Reach:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return "loopback"
    if address.is_private or address.is_link_local or (address.version == 4 and address in _SHARED):
        return "private"
    return "public"


def is_wildcard(address: str) -> bool:
    """True for the addresses that stand for every interface."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return parsed.is_unspecified or (mapped is not None and mapped.is_unspecified)


def check_exposure(reach: Reach, *, has_keys: bool, allow_anonymous: bool) -> str | None:
    """A warning for the log, or None when there is nothing to say.

    Raises:
        SetupError: anybody on the internet could use the node.
    """
    if reach == "loopback" or has_keys:
        return None
    if reach == "private":
        return "Everybody in this network can use the node. Set LOCALAI_API_KEY to ask for a key."
    if allow_anonymous:
        return "Everybody on the internet can use the node, as --allow-anonymous asks for."
    raise SetupError(
        "This address is reachable from the internet and no API key is set. Set LOCALAI_API_KEY, listen on "
        "127.0.0.1, or add --allow-anonymous if that is what you want.",
        code="public_address",
    )


def check_host(host: str, names: Set[str]) -> None:
    """Refuse a ``Host`` header that no honest client of this node sends: a page elsewhere whose name points here.

    IP addresses, localhost and ``*.localhost`` are always right, since they cannot be rebound; ``names`` are this
    machine's names and those the owner allowed, in lower case.

    Raises:
        Forbidden: the name is not one of ours.
    """
    name = host_name(host)
    if name in names or name == "localhost" or name.endswith(".localhost") or _is_address(name):
        return
    if not name:
        raise Forbidden("The request names no host. Send a Host header.", code="host_not_allowed")
    shown = name[:100].encode("ascii", "backslashreplace").decode()  # headers may hold bytes that are no text
    raise Forbidden(
        f"This node does not answer to the host name '{shown}'. Start it with --allowed-hosts {shown} if that is its "
        "name.",
        code="host_not_allowed",
    )


def host_name(host: str) -> str:
    """The name in a Host header: lower case, without port, brackets and final dot."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
