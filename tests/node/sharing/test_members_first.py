"""Members are asked before a source."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from localai.mesh.errors import SetupError
from localai.mesh.testing.fake_link import FakeSwarm
from localai.node.catalog import Catalog
from localai.node.model_config import ModelConfig
from localai.node.peers.peers import Peers
from localai.node.peers.record import NodeRecord
from localai.node.peers.session_frames import PROTOCOL
from localai.node.sharing.frames import PROTOCOL as FILES
from localai.node.sharing.members_first import MembersFirst
from localai.node.sharing.sharing import Sharing
from localai.node.testing.fake_node import fake_node

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@asynccontextmanager
async def member(folder: Path) -> AsyncIterator[Peers]:
    """The swarm of a node, with a member in it that gives the file."""
    models = folder / "models"
    models.mkdir()
    (models / "m.gguf").write_bytes(CONTENT)
    sharing = Sharing(models, folder, lambda: False, lambda: None)
    await sharing.refresh(Catalog((ModelConfig("m", "m.gguf"),)))
    swarm = FakeSwarm()
    async with fake_node(swarm, 1) as asker:
        giver = Peers(
            swarm.link(2, [PROTOCOL, FILES]),
            asker.dispatch,
            lambda: NodeRecord(files=sharing.digests()),
            "test",
            handlers={FILES: sharing.serve},
        )
        yield asker.peers
        await giver.aclose()


async def test_without_a_swarm_or_a_hash_there_is_nobody_to_ask(tmp_path: Path) -> None:
    assert await MembersFirst(None).get(DIGEST, tmp_path / "m", lambda *_: None) is None
    assert await MembersFirst(lambda: None, 0.0).get("", tmp_path / "m", lambda *_: None) is None
    assert await MembersFirst(lambda: None, 0.0).get(DIGEST, tmp_path / "m", lambda *_: None) is None


async def test_a_member_gives_the_file_and_what_nobody_gives_is_not_waited_for_twice(tmp_path: Path) -> None:
    async with member(tmp_path) as asker_peers:
        first = MembersFirst(lambda: asker_peers, 5.0)
        copy = await first.get(DIGEST, tmp_path / "new" / "m.gguf", lambda *_: None)
        assert copy is not None
        assert copy.parent == tmp_path / "new"
        assert copy.read_bytes() == CONTENT
        other = MembersFirst(lambda: asker_peers, 0.0)
        assert await other.get("00" * 32, tmp_path / "x", lambda *_: None) is None
        (tmp_path / "models/m.gguf").write_bytes(b"changed since")
        assert await first.get(DIGEST, tmp_path / "again", lambda *_: None) is None


@pytest.mark.parametrize("number", [errno.EFBIG, errno.EROFS])
async def test_what_cannot_be_written_is_left_to_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(_descriptor: int, _size: int) -> None:
        raise OSError(number, os.strerror(number))

    async with member(tmp_path) as peers:
        monkeypatch.setattr(os, "ftruncate", refuse)
        assert await MembersFirst(lambda: peers, 5.0).get(DIGEST, tmp_path / "m", lambda *_: None) is None


async def test_a_full_disk_is_one_for_the_source_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with member(tmp_path) as peers:
        monkeypatch.setattr(os, "pwrite", refuse)
        with pytest.raises(SetupError, match="became full"):
            await MembersFirst(lambda: peers, 5.0).get(DIGEST, tmp_path / "m", lambda *_: None)
