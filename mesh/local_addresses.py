"""Where this machine can be reached: addresses of its network interfaces (shell)."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import psutil

MAX_ADDRESSES = 16
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def dialable_addresses(listening: Sequence[str]) -> tuple[str, ...]:
    """Where others can dial what listens here, at most :data:`MAX_ADDRESSES`, in the order of ``listening``.

    A multiaddr of all interfaces (``/ip4/0.0.0.0/tcp/4001``, ``/ip6/::/tcp/4001``) becomes one for each address of an
    interface that is up, without loopback and IPv6 link-local ones; every other one stays as it is. Loopback addresses
    are given only when there is nothing else.
    """
    interfaces = [address for _, address in _addresses() if not (address.version == 6 and address.is_link_local)]
    outside = _expand(listening, [address for address in interfaces if not address.is_loopback])
    inside = _expand(listening, [address for address in interfaces if address.is_loopback])
    return (outside or inside)[:MAX_ADDRESSES]


def multicast_interfaces() -> tuple[str | int, ...]:
    """Where multicast can be sent: an IPv4 address for each interface and its index for IPv6; loopback is none."""
    states = psutil.net_if_stats()
    found: dict[str | int, None] = {}
    for name, address in _addresses():
        flags = states[name].flags.split(",")
        if not address.is_loopback and ("multicast" in flags or flags == [""]):  # some systems tell no flags
            found[str(address) if address.version == 4 else socket.if_nametoindex(name)] = None
    return tuple(found)


def _addresses() -> Iterator[tuple[str, IPv4Address | IPv6Address]]:
    """Name and address of every interface that is up."""
    states = psutil.net_if_stats()
    for name, entries in psutil.net_if_addrs().items():
        if name in states and states[name].isup:
            for entry in entries:
                if entry.family in _FAMILIES:
                    yield name, ip_address(entry.address)


def _expand(listening: Sequence[str], interfaces: Sequence[IPv4Address | IPv6Address]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for multiaddr in listening:
        match multiaddr.split("/"):
            case ["", "ip4", "0.0.0.0", *rest]:
                kind, version = "ip4", 4
            case ["", "ip6", "::", *rest]:
                kind, version = "ip6", 6
            case _:
                found[multiaddr] = None
                continue
        for address in interfaces:
            if address.version == version:
                found["/".join(("", kind, str(address), *rest))] = None
    return tuple(found)
