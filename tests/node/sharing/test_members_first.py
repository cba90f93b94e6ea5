"""Members are asked before a source."""

from __future__ import annotations

import hashlib
from pathlib import Path

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


async def test_without_a_swarm_or_a_hash_there_is_nobody_to_ask(tmp_path: Path) -> None:
    assert await MembersFirst(None).get(DIGEST, tmp_path / "m", lambda *_: None) is None
    assert await MembersFirst(lambda: None, 0.0).get("", tmp_path / "m", lambda *_: None) is None
    assert await MembersFirst(lambda: None, 0.0).get(DIGEST, tmp_path / "m", lambda *_: None) is None


async def test_a_member_gives_the_file_and_what_nobody_gives_is_not_waited_for_twice(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "m.gguf").write_bytes(CONTENT)
    sharing = Sharing(models, tmp_path, lambda: False, lambda: None)
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
        first = MembersFirst(lambda: asker.peers, 5.0)
        copy = await first.get(DIGEST, tmp_path / "new" / "m.gguf", lambda *_: None)
        assert copy is not None
        assert copy.parent == tmp_path / "new"
        assert copy.read_bytes() == CONTENT
        other = MembersFirst(lambda: asker.peers, 0.0)
        assert await other.get("00" * 32, tmp_path / "x", lambda *_: None) is None
        (models / "m.gguf").write_bytes(b"changed since")
        assert await first.get(DIGEST, tmp_path / "again", lambda *_: None) is None
        await giver.aclose()
