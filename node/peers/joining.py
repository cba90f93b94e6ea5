"""Puts a node into its swarm: identity, mesh process, peers, and what is remembered for the next start (shell)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from localai.mesh.addresses import split_peer
from localai.mesh.control import KnownPeer
from localai.mesh.identity import load_identity
from localai.mesh.link import MeshLink, MeshSettings, start_mesh
from localai.node.peers.address_book import AddressBook, read_address_book, write_address_book
from localai.node.peers.peers import Peers, StreamHandler
from localai.node.peers.record import NodeRecord
from localai.node.peers.session import Service
from localai.node.peers.session_frames import PROTOCOL
from localai.node.settings import LogLevel, SwarmSettings

_LOG = structlog.get_logger()

IDENTITY_FILE = "identity.key"
ADDRESS_BOOK_FILE = "swarm.json"
REMEMBER_S = 10.0
DEFAULT_LISTEN = ("/ip4/0.0.0.0/tcp/0",)


async def join_swarm(
    settings: SwarmSettings,
    data_path: Path,
    service: Service,
    describe: Callable[[], NodeRecord],
    program: str,
    log_level: LogLevel,
    handlers: Mapping[str, StreamHandler] | None = None,
) -> Peers:
    """Become a member of the swarm; ``aclose`` of what this gives ends it.

    ``handlers`` serve streams of further protocols, by their ids.

    Raises:
        SetupError: the identity file or the addresses to listen on cannot be used.
    """
    identity = load_identity(data_path / IDENTITY_FILE)
    book_path = data_path / ADDRESS_BOOK_FILE
    book = read_address_book(book_path)
    link = await start_mesh(
        MeshSettings(
            identity=identity,
            token=settings.token,
            network_id=settings.network_id,
            protocols=(PROTOCOL, *(handlers or ())),
            listen=_listen(settings.listen, book),
            fallback_listen=settings.listen,
            known=(*book.known(), *_given(settings.peers)),
            bootstrap=settings.bootstrap_peers,
            mdns=settings.mdns,
            log_level=log_level,
        )
    )
    peers = Peers(link, service, describe, program, handlers=handlers)
    peers.start(_remember(link, book_path))
    return peers


def _listen(asked: tuple[str, ...], book: AddressBook) -> tuple[str, ...]:
    """The port of last time, when any port will do: others will look for this node there."""
    return book.listen if asked == DEFAULT_LISTEN and book.listen else asked


def _given(peers: tuple[str, ...]) -> tuple[KnownPeer, ...]:
    return tuple(KnownPeer(peer, (address,), given=True) for address, peer in map(split_peer, peers))


async def _remember(link: MeshLink, path: Path) -> None:
    try:
        while True:
            await asyncio.sleep(REMEMBER_S)
            _keep(link, path)
    finally:
        _keep(link, path)


def _keep(link: MeshLink, path: Path) -> None:
    before = read_address_book(path)
    met: dict[str, tuple[str, ...]] = {peer: addresses for peer, addresses in link.known().items() if addresses}
    book = AddressBook(link.statistics().listen, met or before.peers)
    if book.listen and book != before:
        write_address_book(path, book)
