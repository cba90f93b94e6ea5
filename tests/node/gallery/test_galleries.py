"""Indexes on a stub server and on the disk; installing from them is in test_references.py."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from localai.mesh.errors import InvalidRequest, LocalAIError, NotFound
from localai.node.gallery import galleries as galleries_module
from localai.node.gallery.galleries import Galleries, read_local_text, read_text
from localai.node.gallery.gallery_index import ApplyRequest, GallerySource
from localai.node.gallery.references import Installer
from localai.node.sources.testing import answer, stalled


def galleries(installer: Installer, *sources: GallerySource) -> Galleries:
    return Galleries(sources, installer.session, installer.rules)


async def test_the_first_gallery_that_has_it_counts(hub: Any, installer: Installer) -> None:
    both = galleries(installer, hub.gallery("one", "[{name: a}]"), hub.gallery("two", "[{name: A}, {name: b}, 3]"))
    with capture_logs() as logs:
        assert [entry.name for entry in await both.entries()] == ["a", "A", "b"]
    assert [entry["gallery"] for entry in logs if entry["event"] == "gallery_problem"] == ["two"]
    found = await both.find("a")
    assert found is not None
    assert found.gallery.name == "one"
    found = await both.find("TWO@a")
    assert found is not None
    assert found.gallery.name == "two"
    assert await both.find("c") is None
    assert await both.find("nowhere@a") is None


async def test_the_public_gallery_is_asked_only_by_its_name(hub: Any, installer: Installer) -> None:
    none = galleries(installer)
    assert await none.find("a") is None
    assert hub.server.seen == []
    hub.server.route("/mudler/LocalAI/master/gallery/index.yaml", answer(200, "[{name: a}]"))
    found = await none.find("localai@a")
    assert found is not None
    assert found.name == "a"


async def test_a_gallery_that_is_away_hides_only_what_the_others_lack(hub: Any, installer: Installer) -> None:
    gone = GallerySource("gone", "github:o/gone/index.yaml")
    both = galleries(installer, gone, hub.gallery("two", "[{name: b}]"))
    assert await both.find("b") is not None
    with pytest.raises(LocalAIError):
        await both.find("c")
    with capture_logs() as logs:
        assert [entry.name for entry in await both.entries()] == ["b"]
    assert [(entry["event"], entry["gallery"]) for entry in logs] == [("gallery_unavailable", "gone")]
    with pytest.raises(LocalAIError):
        await galleries(installer, gone, gone).entries()
    assert await galleries(installer).entries() == ()


async def test_mirrors_are_asked_in_order(hub: Any, installer: Installer) -> None:
    there = hub.gallery("there", "[{name: a}]")
    hub.server.route("/o/odd/main/index.yaml", answer(200, "no list"))
    source = GallerySource("g", "github:o/gone/index.yaml", ("github:o/odd/index.yaml", there.url))
    found = galleries(installer, source)
    with capture_logs() as logs:
        entry = await found.find("g@a")
    assert entry is not None
    assert (entry.gallery.name, entry.gallery.url) == ("g", there.url)
    assert [each["address"] for each in logs] == ["github:o/gone/index.yaml", "github:o/odd/index.yaml"]


async def test_an_address_that_failed_is_asked_last_for_a_while(
    hub: Any, installer: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(galleries_module, "KEPT_S", 0.0)
    there = hub.gallery("there", "[{name: a}]")
    found = galleries(installer, GallerySource("g", "github:o/gone/index.yaml", (there.url,)))
    for _time in range(3):
        await found.entries()
    paths = [seen.path.split("/")[2] for seen in hub.server.seen]
    assert paths == ["gone", "there", "there", "there"]
    monkeypatch.setattr(galleries_module, "AVOIDED_S", 0.0)
    hub.gallery("gone", "[{name: b}]")
    assert [entry.name for entry in await found.entries()] == ["b"]


async def test_all_mirrors_away(hub: Any, installer: Installer) -> None:
    source = GallerySource("g", "github:o/gone/index.yaml", ("github:o/gone2/index.yaml",))
    with pytest.raises(LocalAIError, match="gone/main"):
        await galleries(installer, source).entries()


async def test_a_silent_address_gives_way_to_its_mirror(
    hub: Any, installer: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(galleries_module, "ADDRESS_LIMIT_S", 0.05)
    there = hub.gallery("there", "[{name: a}]")
    release = asyncio.Event()
    hub.server.route("/o/slow/main/index.yaml", stalled(b"[]" * 100, 1, release))
    found = galleries(installer, GallerySource("g", "github:o/slow/index.yaml", (there.url,)))
    with capture_logs() as logs:
        assert [entry.name for entry in await found.entries()] == ["a"]
    release.set()
    assert "did not answer" in logs[0]["problem"]


async def test_a_mirror_elsewhere_may_not_name_files_of_this_machine(
    hub: Any, installer: Installer, tmp_path: Path
) -> None:
    mirror = hub.gallery("there", f"[{{name: a, url: 'file://{tmp_path}/base.yaml'}}]")
    found = galleries(installer, GallerySource("g", f"file://{tmp_path}/gone.yaml", (mirror.url,)))
    entry = await found.find("a")
    assert entry is not None
    with pytest.raises(InvalidRequest, match="leads to no file"):
        await found.recipe(entry, ApplyRequest())


async def test_an_index_that_another_file_names(hub: Any, installer: Installer) -> None:
    hub.gallery("g", "[{name: a}]")
    hub.server.route("/o/g/main/index.ref", answer(200, "index.yaml\n"))
    assert await galleries(installer, GallerySource("g", "github:o/g/index.ref")).find("a") is not None


async def test_only_an_index_of_this_machine_may_name_base_files_of_it(
    hub: Any, installer: Installer, tmp_path: Path
) -> None:
    (tmp_path / "base.yaml").write_text("context_size: 7")
    index = f"[{{name: a, url: 'file://{tmp_path}/base.yaml'}}]"
    (tmp_path / "index.yaml").write_text(index)
    local = galleries(installer, GallerySource("g", f"file://{tmp_path}/index.yaml"))
    entry = await local.find("a")
    assert entry is not None
    assert (await local.recipe(entry, ApplyRequest())).document["context_size"] == 7
    remote = galleries(installer, hub.gallery("g", index))
    entry = await remote.find("a")
    assert entry is not None
    with pytest.raises(InvalidRequest, match="leads to no file"):
        await remote.recipe(entry, ApplyRequest())


async def test_texts_that_cannot_be_read(hub: Any, installer: Installer, tmp_path: Path) -> None:
    hub.server.route("/o/r/main/a.yaml", answer(200, b"\xff"))
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        await read_text("github:o/r/a.yaml", installer.session, installer.rules, may_read_local=False)
    with pytest.raises(NotFound, match="cannot be read"):
        read_local_text(tmp_path / "none")
    with pytest.raises(InvalidRequest, match="leads to no file"):
        await read_text("ollama://x", installer.session, installer.rules, may_read_local=True)
