"""What a node remembers of its swarm over a restart: its own port, and where members were (shell).

A hint and no more: a missing, old or damaged file only makes the next start slower.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from localai.mesh.control import KnownPeer
from localai.mesh.dialing import MAX_ADDRESSES
from localai.mesh.errors import WireError
from localai.mesh.ids import parse_peer_id
from localai.node.atomic_file import replace_file

_LOG = structlog.get_logger()

MAX_BYTES = 1 << 20
MAX_PEERS = 256


class AddressBook(msgspec.Struct, frozen=True, omit_defaults=True):
    """The file's content."""

    listen: tuple[str, ...] = ()
    """What this node listened on, with real ports."""
    peers: dict[str, tuple[str, ...]] = {}
    """Peer id -> multiaddrs."""

    def known(self) -> tuple[KnownPeer, ...]:
        """The peers whose ids are good."""
        found = []
        for text, addresses in list(self.peers.items())[:MAX_PEERS]:
            try:
                found.append(KnownPeer(parse_peer_id(text), addresses[:MAX_ADDRESSES]))
            except WireError:
                continue
        return tuple(found)


def read_address_book(path: Path) -> AddressBook:
    """The book; an empty one when there is none, or none that can be read."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAX_BYTES), type=AddressBook)
    except FileNotFoundError:
        return AddressBook()
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        _LOG.warning("address_book_unreadable", path=str(path), error=repr(error)[:200])
        return AddressBook()


def write_address_book(path: Path, book: AddressBook) -> None:
    """Keep the book; a failure is only logged."""
    try:
        replace_file(path, msgspec.json.format(msgspec.json.encode(book), indent=1))
    except OSError as error:
        _LOG.warning("address_book_not_written", path=str(path), error=repr(error)[:200])
