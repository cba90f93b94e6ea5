"""What nodes tell each other over mDNS, and which announcements are news (pure).

The records are go-libp2p's with the network token's tag as the service, as LocalAI writes them::

    PTR   <tag>.local.             -> <instance>.<tag>.local.
    SRV   <instance>.<tag>.local.  -> port, <instance>.local.
    TXT   <instance>.<tag>.local.  -> dnsaddr=<multiaddr>/p2p/<peer id>, one string per address
    A     <instance>.local.        -> an address

Go takes a peer only from a message that holds all four, and reads nothing but the TXT record; all of ours together
fit into one packet. It compares names with regard to case. Source: libp2p mDNS specification; go-libp2p mdns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from localai.mesh.addresses import multiaddr_problem, split_peer
from localai.mesh.errors import SetupError, WireError
from localai.mesh.ids import PeerId, parse_peer_id

MAX_ADDRESSES = 16
MAX_TXT_BYTES = 1200
"""With the other records still one packet of an Ethernet, over IPv4 and IPv6."""
INSTANCE_CHARS = 19
MAX_TAG_CHARS = 43
"""zeroconf wants the instance, a dot and the tag to fit into 63 bytes."""
DEFAULT_PORT = 4001
REPEAT_S = 45.0
"""A peer that goes on announcing itself is reported again after this long. A little less than the time between our
questions, so that each answer counts."""
MAX_INSTANCES = 1024
_KEY = b"dnsaddr="
_MAX_STRING_BYTES = 255
_TAG = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{MAX_TAG_CHARS - 1}}}")


@dataclass(frozen=True, slots=True)
class Found:
    """A peer and where it says it can be reached: multiaddrs without their ``/p2p`` end, at least one."""

    peer_id: PeerId
    addresses: tuple[str, ...]


def service_type(tag: str) -> str:
    """The DNS name of all nodes with this tag.

    Raises:
        SetupError: the tag cannot be a part of a DNS name.
    """
    if not _TAG.fullmatch(tag):
        raise SetupError(
            f"This node cannot be found on the LAN: the token's mdns part is not 1 to {MAX_TAG_CHARS} letters, digits, "
            "dashes and underscores. Use --p2p-peers.",
            code="mdns_tag",
        )
    return f"{tag}.local."


def txt_from_addresses(addresses: Sequence[str], peer_id: PeerId) -> bytes:
    """The raw TXT record of a peer; empty when nobody could use any of these addresses.

    Takes multiaddrs without their ``/p2p`` end, best first. What is not TCP, or does not fit, is left out.
    """
    data = b""
    taken = 0
    for address in addresses:
        text = f"{address}/p2p/{peer_id}"
        string = _KEY + text.encode()
        fits = len(string) <= _MAX_STRING_BYTES and len(data) + 1 + len(string) <= MAX_TXT_BYTES
        if taken < MAX_ADDRESSES and fits and multiaddr_problem(text, needs_peer=True) is None:
            data += bytes([len(string)]) + string
            taken += 1
    return data


def peer_from_txt(data: bytes) -> Found | None:
    """The one peer that a raw TXT record names, with at most :data:`MAX_ADDRESSES` addresses that can be dialled.

    Its loopback addresses, which Go announces too and in any order, come last. None for anything that is not such a
    record, and for one that names several peers. Anybody on the LAN can send these: that the peer is who it says it is
    must be checked by connecting to it.
    """
    found: dict[str, None] = {}
    peers: set[PeerId] = set()
    for string in _strings(data):
        if string.startswith(_KEY) and (entry := _parse_entry(string[len(_KEY) :])):
            found[entry[0]] = None
            peers.add(entry[1])
    if len(peers) != 1:
        return None
    return Found(peers.pop(), tuple(sorted(found, key=_is_loopback)[:MAX_ADDRESSES]))


def announced_port(addresses: Sequence[str]) -> int:
    """The TCP port of the first address; Go puts 4001 there and does not read it."""
    for address in addresses:
        match address.split("/"):
            case ["", _, _, "tcp", port, *_] if port.isdecimal():
                return int(port)
    return DEFAULT_PORT


def announced_hosts(addresses: Sequence[str]) -> tuple[str, ...]:
    """The first IPv4 and the first IPv6 address among multiaddrs, for the A and AAAA records."""
    first: dict[int, str] = {}
    for address in addresses:
        if host := _ip(address):
            first.setdefault(host.version, str(host))
    return tuple(first[version] for version in sorted(first))


class Sightings:
    """Which announcements are worth reporting: new ones, changed ones, and now and then one that goes on.

    Counted by instance, a name that each start of a node makes anew, so that a restart is news. At most
    :data:`MAX_INSTANCES` are remembered; the one that was reported longest ago goes first.
    """

    def __init__(self, own: PeerId) -> None:
        self._own = own
        self._reported: dict[str, tuple[Found, float]] = {}

    def seen(self, instance: str, txt: bytes, now: float) -> Found | None:
        """An announcement arrived at ``now``, in seconds: the peer to report, if any."""
        found = peer_from_txt(txt)
        if found is None or found.peer_id == self._own:
            return None
        before = self._reported.get(instance)
        if before and before[0] == found and now - before[1] < REPEAT_S:
            return None
        self._reported.pop(instance, None)
        self._reported[instance] = (found, now)
        if len(self._reported) > MAX_INSTANCES:
            del self._reported[next(iter(self._reported))]
        return found

    def gone(self, instance: str) -> None:
        """It said goodbye, or its records ran out: the next announcement is news again."""
        self._reported.pop(instance, None)


def _strings(data: bytes) -> Iterator[bytes]:
    """The strings of a raw TXT record; none if one is cut off."""
    strings = []
    position = 0
    while position < len(data):
        end = position + 1 + data[position]
        strings.append(data[position + 1 : end])
        position = end
    return iter(strings if position == len(data) else ())


def _parse_entry(string: bytes) -> tuple[str, PeerId] | None:
    try:
        text = string.decode("ascii")
    except UnicodeDecodeError:
        return None
    if multiaddr_problem(text, needs_peer=True):
        return None
    address, named = split_peer(text)
    host = _ip(address)
    if host and (host.is_unspecified or host.is_multicast or (host.version == 6 and host.is_link_local)):
        return None  # nothing that can be dialled; a link-local address lacks its interface
    try:
        return address, parse_peer_id(named)
    except WireError:
        return None


def _is_loopback(address: str) -> bool:
    host = _ip(address)
    return host is not None and host.is_loopback


def _ip(address: str) -> IPv4Address | IPv6Address | None:
    match address.split("/"):
        case ["", "ip4" | "ip6", host, *_]:
            try:
                return ip_address(host)
            except ValueError:
                return None
    return None
