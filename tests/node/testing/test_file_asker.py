"""An asker beside one node that has the file, on a LAN of two hosts."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from localai.node.testing.file_asker import running_asker
from localai.node.testing.lan import lan
from localai.node.testing.node_process import running_node
from localai.node.testing.tokens import new_token_text

pytestmark = pytest.mark.e2e


def test_it_copies_as_often_as_it_is_asked(tmp_path: Path, tiny_model: Path) -> None:
    environment = {"LOCALAI_P2P_TOKEN": new_token_text()}
    (tmp_path / "models").mkdir()
    shutil.copy(tiny_model, tmp_path / "models")
    (tmp_path / "asker").mkdir()
    digest = hashlib.sha256(tiny_model.read_bytes()).hexdigest()
    with (
        lan(2) as hosts,
        running_node(tmp_path, ["--p2p"], environment, host=hosts[0]) as node,
        running_asker(tmp_path / "asker", digest, 1, environment, hosts[1]) as asker,
    ):
        assert asker.pid != node.pid
        for _ in range(2):
            assert asker.copy(1) > 0
            assert asker.copied.read_bytes() == tiny_model.read_bytes()
            asker.copied.write_bytes(b"")
        node.kill()
        with pytest.raises(AssertionError, match="ended with 1"):
            asker.copy(1)
