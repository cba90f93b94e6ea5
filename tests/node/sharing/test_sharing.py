"""Two nodes in a swarm in memory: one shares its model file, the other copies it."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from localai.mesh.errors import Unavailable
from localai.mesh.testing.fake_link import FakeSwarm
from localai.node.catalog import Catalog
from localai.node.model_config import ModelConfig
from localai.node.peers.peers import Peers
from localai.node.peers.record import NodeRecord
from localai.node.peers.session_frames import PROTOCOL
from localai.node.sharing.frames import PROTOCOL as FILES
from localai.node.sharing.sharing import Sharing
from localai.node.testing.fake_node import fake_node


async def test_a_file_travels_by_its_hash(tmp_path: Path) -> None:
    models, content = tmp_path / "models", b"a model file" * 1000
    models.mkdir()
    (models / "m.gguf").write_bytes(content)
    (models / "mmproj.gguf").write_bytes(b"a projector")
    catalog = Catalog((ModelConfig("m", "m.gguf", companion_files=("mmproj.gguf", "missing.gguf")),))
    told = 0

    def tell() -> None:
        nonlocal told
        told += 1

    sharing = Sharing(models, tmp_path, lambda: False, tell)
    swarm = FakeSwarm()
    async with asyncio.timeout(20), fake_node(swarm, 1) as asker:
        link = swarm.link(2, [PROTOCOL, FILES])
        giver = Peers(
            link,
            asker.dispatch,
            lambda: NodeRecord(files=sharing.digests()),
            "test",
            handlers={FILES: sharing.serve},
        )
        assert sharing.digests() == ()
        await sharing.refresh(catalog)
        assert told == 1
        digest = hashlib.sha256(content).digest()
        assert sharing.digests() == (digest, hashlib.sha256(b"a projector").digest())
        giver.tell()
        while not asker.peers.holders(digest):
            await asker.peers.wait_changed()
        await asker.peers.copy_file(digest, tmp_path / "copy", lambda *_: None)
        assert (tmp_path / "copy").read_bytes() == content

        await sharing.refresh(Catalog())
        assert sharing.digests() == ()
        with pytest.raises(Unavailable):
            await asker.peers.copy_file(digest, tmp_path / "copy", lambda *_: None)
        await giver.aclose()


def test_hashes_in_a_record_are_bounded() -> None:
    from localai.node.peers.record import MAX_SHARED, decode_record, encode_record

    record = NodeRecord(files=(b"short", *(bytes(32) for _ in range(1000))))
    assert len(decode_record(encode_record(record)).files) == MAX_SHARED
    assert msgspec.structs.replace(record, files=()) == decode_record(encode_record(NodeRecord()))


async def test_a_later_look_replaces_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"a")
    told = asyncio.Event()
    sharing = Sharing(tmp_path, tmp_path, lambda: False, told.set)
    sharing.refresh_soon(Catalog())
    sharing.refresh_soon(Catalog((ModelConfig("a", "a.gguf"),)))
    async with asyncio.timeout(10):
        await told.wait()
    assert sharing.digests() == (hashlib.sha256(b"a").digest(),)


async def test_private_models_give_no_files_and_shared_ones_have_a_hash(tmp_path: Path) -> None:
    for name in ("m.gguf", "projector.gguf", "secret.gguf"):
        (tmp_path / name).write_bytes(name.encode())
    shared = ModelConfig("m", "m.gguf", companion_files=("projector.gguf",))
    secret = ModelConfig("secret", "secret.gguf", companion_files=("projector.gguf",), is_private=True)
    sharing = Sharing(tmp_path, tmp_path, lambda: False, lambda: None)
    await sharing.refresh(Catalog((shared, secret)))
    assert sharing.digests() == (hashlib.sha256(b"m.gguf").digest(),)
    assert sharing.content_of(shared) == b"", "a file of it is not shared, so it was not read"
    await sharing.refresh(Catalog((shared,)))
    assert len(sharing.content_of(shared)) == 32
    assert sharing.content_of(secret) == b""


async def test_however_often_the_models_change_a_file_is_hashed_once(tmp_path: Path, threads: Any) -> None:
    (tmp_path / "large.gguf").write_bytes(b"large")
    (tmp_path / "late.gguf").write_bytes(b"late")
    told = asyncio.Event()
    sharing = Sharing(tmp_path, tmp_path, lambda: False, told.set)
    large = ModelConfig("large", "large.gguf")
    threads.held_from = 1
    for change in range(8):
        sharing.refresh_soon(Catalog((replace(large, description=str(change)),)))
        await threads.wait_came(1)
        for _ in range(5):
            await asyncio.sleep(0)
    sharing.refresh_soon(Catalog((large, ModelConfig("late", "late.gguf"))))
    assert threads.came == 1
    threads.gate.set()
    async with asyncio.timeout(20):
        await told.wait()
    assert threads.came == 2
    assert sharing.digests() == tuple(hashlib.sha256(content).digest() for content in (b"large", b"late"))


async def test_all_parts_of_a_split_model_are_shared_and_count(tmp_path: Path) -> None:
    names = [f"m-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    for name in names[:2]:
        (tmp_path / name).write_bytes(name.encode())
    split = ModelConfig("m", names[0])
    sharing = Sharing(tmp_path, tmp_path, lambda: False, lambda: None)

    async def content(config: ModelConfig = split) -> bytes:
        await sharing.refresh(Catalog((config,)))
        return sharing.content_of(config)

    assert await content() == b"", "a part is missing"
    (tmp_path / names[2]).write_bytes(b"third")
    first = await content()
    assert len(sharing.digests()) == 3
    assert await content(replace(split, companion_files=(names[2], names[1]))) == first
    (tmp_path / names[1]).write_bytes(b"another second")
    assert len({first, await content(), b""}) == 3
