"""What an interrupted or impossible installation leaves; the rest is in test_references.py."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localai.mesh.errors import Forbidden, InvalidRequest, SetupError
from localai.node.gallery.recipe import Recipe, RecipeFile
from localai.node.gallery.recipe_install import install_recipe
from localai.node.gallery.references import Installer
from localai.node.sources.testing import content, stalled


def recipe(**more: Any) -> Recipe:
    values: dict[str, Any] = {
        "name": "m",
        "document": {"parameters": {"model": "m.gguf"}},
        "files": (RecipeFile("m.gguf", "huggingface://o/r/tiny.gguf"),),
        **more,
    }
    return Recipe(**values)


async def install(hub: Any, installer: Installer, what: Recipe, **more: Any) -> None:
    await install_recipe(what, hub.models, installer.session, hub.rules, hub.seen.append, **more)


async def test_a_definition_is_kept_or_replaced(hub: Any, installer: Installer) -> None:
    hub.models.mkdir()
    (hub.models / "m.yaml").write_text("name: mine")
    hub.repo("o/r", "tiny.gguf")
    await install(hub, installer, recipe())
    assert (hub.models / "m.yaml").read_text() == "name: mine"
    await install(hub, installer, recipe(), keep_definition=False)
    assert hub.sha256 in (hub.models / "m.yaml").read_text()


async def test_an_ended_installation_goes_on_where_it_ended(hub: Any, installer: Installer) -> None:
    hub.repo("o/r", "tiny.gguf")
    hub.models.mkdir()
    release = asyncio.Event()
    path = "/o/r/resolve/main/tiny.gguf"
    hub.server.route(path, stalled(hub.model, 1000, release), content(hub.model))
    begun = asyncio.Event()

    def on_progress(progress: Any) -> None:
        if progress.done_bytes:
            begun.set()

    working = asyncio.create_task(install_recipe(recipe(), hub.models, installer.session, hub.rules, on_progress))
    await begun.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    release.set()
    assert "m.yaml" not in hub.files()
    assert "m.gguf.partial" in hub.files()
    await install(hub, installer, recipe())
    assert hub.files() == ["m.gguf", "m.yaml"]
    assert [seen.headers.get("range") for seen in hub.server.seen if seen.path == path] == [None, "bytes=1000-"]


async def test_all_parts_of_a_split_model_come(hub: Any, installer: Installer) -> None:
    hub.repo("o/r", "s-00001-of-00002.gguf", "s-00002-of-00002.gguf")
    file = RecipeFile("in/s-00001-of-00002.gguf", "huggingface://o/r/s-00001-of-00002.gguf")
    await install(hub, installer, recipe(files=(file,), document={"parameters": {"model": file.filename}}))
    assert hub.files() == ["in/s-00001-of-00002.gguf", "in/s-00002-of-00002.gguf", "m.yaml"]


@pytest.mark.parametrize("uri", ["pypi:p==1/m.gguf", "some-name"])
async def test_addresses_that_lead_to_no_file(hub: Any, installer: Installer, uri: str) -> None:
    hub.models.mkdir()
    with pytest.raises(InvalidRequest, match="leads to no file"):
        await install(hub, installer, recipe(files=(RecipeFile("m.gguf", uri),)))


async def test_nothing_is_fetched_for_what_cannot_be_used(hub: Any, installer: Installer) -> None:
    for bad in (
        recipe(document={"threads": "many"}),
        recipe(templates=(("../t", "x"),)),
        recipe(files=(RecipeFile("../m.gguf", "huggingface://o/r/tiny.gguf"),)),
    ):
        with pytest.raises(InvalidRequest):
            await install(hub, installer, bad)
    with pytest.raises(Forbidden, match="would define another model"):
        await install(hub, installer, recipe(files=(RecipeFile("other.yaml", "huggingface://o/r/x.yaml"),)))
    assert hub.server.seen == []


async def test_a_folder_that_cannot_be_written_to(hub: Any, installer: Installer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot be written to"):
        await install_recipe(
            replace(recipe(), files=()), tmp_path / "file", installer.session, hub.rules, hub.seen.append
        )


async def test_members_are_asked_before_the_source(hub: Any, installer: Installer) -> None:
    async def from_members(sha256: str, target: Path, on_bytes: Any) -> Path | None:
        assert sha256 == hub.sha256
        partial = target.with_name("copied")
        partial.write_bytes(hub.model)
        on_bytes(1, 1)
        return partial

    hub.models.mkdir()
    what = recipe(files=(RecipeFile("m.gguf", "huggingface://o/r/tiny.gguf", hub.sha256),))
    rules = replace(hub.rules, from_members=from_members)
    await install_recipe(what, hub.models, installer.session, rules, hub.seen.append)
    assert (hub.models / "m.gguf").read_bytes() == hub.model
    assert hub.sha256 in (hub.models / "m.yaml").read_text()


async def test_a_file_from_a_member_is_looked_at_like_any_other(hub: Any, installer: Installer) -> None:
    async def from_members(sha256: str, target: Path, on_bytes: Any) -> Path | None:
        partial = target.with_name("copied")
        partial.write_bytes(b"\x80\x02 a pickle")
        return partial

    hub.models.mkdir()
    what = recipe(files=(RecipeFile("m.gguf", "huggingface://o/r/tiny.gguf", "00" * 32),))
    with pytest.raises((Forbidden, InvalidRequest)):
        await install_recipe(
            what, hub.models, installer.session, replace(hub.rules, from_members=from_members), hub.seen.append
        )
    assert not (hub.models / "m.gguf").exists()
