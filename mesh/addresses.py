"""Addresses under which nodes are reached, in libp2p's text form (pure).

``/ip4/192.168.1.7/tcp/4001/p2p/12D3KooW...``: a host, a TCP port and, where one certain node is meant, its peer id.
Only what the mesh can use is taken: TCP over IP addresses or DNS names. Source: libp2p multiaddr specification.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from localai.mesh.errors import InvalidRequest
from localai.mesh.ids import PeerId

EXAMPLE = "/ip4/192.168.1.7/tcp/4001"
PEER_EXAMPLE = f"{EXAMPLE}/p2p/12D3KooW..."
_MAX_CHARS = 512
_MAX_PORT = 65535
_DNS_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_PORT = re.compile(r"0|[1-9][0-9]{0,4}", re.ASCII)
_BASE58 = re.compile(r"[1-9A-HJ-NP-Za-km-z]{1,128}")


class BadMultiaddr(InvalidRequest):
    """The text is not an address that the mesh can use; the message says what is wrong with it."""

    default_code = "bad_multiaddr"


def check_multiaddr(text: str, *, needs_peer: bool) -> str:
    """The address as it was given.

    With ``needs_peer`` it is one to dial: it must end in a peer id and its port cannot be 0. The id may be of any key
    type, as those of public bootstrap nodes are; ``ids.parse_peer_id`` says whether it is one that signs.

    Raises:
        BadMultiaddr: it cannot be used.
    """
    if problem := multiaddr_problem(text, needs_peer=needs_peer):
        raise BadMultiaddr(f'The address "{text[:_MAX_CHARS]}" cannot be used: {problem}.')
    return text


def split_peer(text: str) -> tuple[str, PeerId]:
    """The address of a node without its id, and the id.

    Raises:
        BadMultiaddr: it is not an address to dial.
    """
    address, _, peer_id = check_multiaddr(text, needs_peer=True).partition("/p2p/")
    return address, PeerId(peer_id)


def multiaddr_problem(text: str, *, needs_peer: bool) -> str | None:
    """What is wrong with an address, as the end of a sentence; None if nothing is."""
    example = PEER_EXAMPLE if needs_peer else EXAMPLE
    peer_id: str | None
    if len(text) > _MAX_CHARS:
        return f"it has more than {_MAX_CHARS} characters"
    match text.split("/"):
        case ["", kind, host, "tcp", port]:
            peer_id = None
        case ["", kind, host, "tcp", port, "p2p", peer_id]:
            pass
        case _:
            return f"it must look like {example}"
    return _host_problem(kind, host) or _port_problem(port, needs_peer) or _peer_problem(peer_id, needs_peer)


def _host_problem(kind: str, host: str) -> str | None:
    match kind:
        case "ip4" | "ip6":
            try:
                IPv4Address(host) if kind == "ip4" else IPv6Address(host)
            except AddressValueError:
                return f'"{host}" is not an IPv{kind[-1]} address'
            return f'"{host}" names an interface, which an address here cannot do' if "%" in host else None
        case "dns" | "dns4" | "dns6":
            return None if _DNS_NAME.fullmatch(host) else f'"{host}" is not a DNS name'
        case _:
            return f'"{kind}" is not one of ip4, ip6, dns, dns4, dns6'


def _port_problem(port: str, needs_peer: bool) -> str | None:
    least = 1 if needs_peer else 0
    if not _PORT.fullmatch(port) or not least <= int(port) <= _MAX_PORT:
        return f'"{port}" is not a port from {least} to {_MAX_PORT}'
    return None


def _peer_problem(peer_id: str | None, needs_peer: bool) -> str | None:
    if peer_id is None:
        return "it does not end in /p2p/ and the id of the node" if needs_peer else None
    return None if _BASE58.fullmatch(peer_id) else f'"{peer_id}" is not the base58 text of a peer id'
