"""Joining: what is remembered between two starts; and two real mesh processes on this machine."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from localai.mesh.identity import identity_from_private_key, load_identity
from localai.mesh.ids import NetworkId
from localai.mesh.network_token import ALPHABET, NetworkToken, new_network_token
from localai.node.catalog import Catalog
from localai.node.dispatch import Dispatch
from localai.node.model_config import ModelConfig
from localai.node.peers.address_book import AddressBook, read_address_book
from localai.node.peers.joining import ADDRESS_BOOK_FILE, DEFAULT_LISTEN, IDENTITY_FILE, _given, _listen, join_swarm
from localai.node.peers.peers import Peers
from localai.node.settings import SwarmSettings
from localai.node.supervisor import ModelSupervisor

HERE = ("/ip4/127.0.0.1/tcp/0",)
OTHER = identity_from_private_key(bytes(32)).peer_id


def token() -> NetworkToken:
    drawn = random.Random(1)
    return new_network_token(lambda length: "".join(drawn.choice(ALPHABET) for _ in range(length)))


SETTINGS = SwarmSettings(
    token=token(),
    network_id=NetworkId(""),
    serve=True,
    federated=False,
    listen=HERE,
    bootstrap_peers=(),
    peers=(),
    mdns=False,
    random_worker=False,
    target_worker="",
    token_is_new=False,
)


@pytest.mark.parametrize(
    ("asked", "remembered", "expected"),
    [
        (DEFAULT_LISTEN, (), DEFAULT_LISTEN),
        (DEFAULT_LISTEN, ("/ip4/0.0.0.0/tcp/4001",), ("/ip4/0.0.0.0/tcp/4001",)),
        (HERE, ("/ip4/0.0.0.0/tcp/4001",), HERE),
    ],
)
def test_the_port_of_last_time_is_taken_when_any_will_do(
    asked: tuple[str, ...], remembered: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert _listen(asked, AddressBook(remembered)) == expected


def test_peers_that_the_user_gave_are_never_given_up() -> None:
    (peer,) = _given((f"/ip4/10.0.0.2/tcp/4001/p2p/{OTHER}",))
    assert (peer.peer, peer.addresses, peer.given) == (OTHER, ("/ip4/10.0.0.2/tcp/4001",), True)


def alone(model: str) -> Dispatch:
    """A node that offers a model and runs none."""

    def supervise(config: ModelConfig) -> ModelSupervisor:
        raise AssertionError(config)

    return Dispatch(supervise, Catalog((ModelConfig(model, f"{model}.gguf"),)))


async def join(folder: Path, model: str, *peers: str, listen: tuple[str, ...] = HERE) -> Peers:
    folder.mkdir(exist_ok=True)
    dispatch = alone(model)
    settings = replace(SETTINGS, peers=peers, listen=listen)
    return await join_swarm(settings, folder, dispatch, dispatch.record, "test 1", "info")


@pytest.mark.e2e
async def test_two_nodes_meet_and_meet_again_from_memory(tmp_path: Path) -> None:
    async with asyncio.timeout(60):
        first = await join(tmp_path / "1", "a")
        assert first.peer_id == load_identity(tmp_path / "1" / IDENTITY_FILE).peer_id
        (address,) = first.statistics().listen
        second = await join(tmp_path / "2", "b", f"{address}/p2p/{first.peer_id}")
        for one, model in ((first, "b"), (second, "a")):
            while one.models() != {model}:
                await one.wait_changed()
        await asyncio.gather(first.aclose(), second.aclose())
        book = read_address_book(tmp_path / "2" / ADDRESS_BOOK_FILE)
        assert list(book.peers) == [first.peer_id]
        # The first one keeps its port, so that the other one, which is told of nobody, finds it there.
        kept = read_address_book(tmp_path / "1" / ADDRESS_BOOK_FILE)
        assert kept.listen == (address,)
        first = await join(tmp_path / "1", "a", listen=kept.listen)
        second = await join(tmp_path / "2", "b")
        while second.models() != {"a"}:
            await second.wait_changed()
        assert first.statistics().listen == (address,)
        await asyncio.gather(first.aclose(), second.aclose())
