"""A models folder that changes while the node runs, on a real disk."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Set
from pathlib import Path

import pytest
import structlog.testing

from localai.node.catalog import Catalog
from localai.node.model_config import ModelConfig
from localai.node.models_folder import read_catalog
from localai.node.models_watch import MAX_UNREST, ModelsWatch

DEFINITION = "name: talker\nparameters:\n  model: a.gguf\n"


class Node:
    """Remembers what it was told to open."""

    def __init__(self, folder: Path) -> None:
        self.catalog = read_catalog(folder)
        self.opened = 0
        self.renewed: list[set[str]] = []
        self.told = asyncio.Event()

    def open(self, catalog: Catalog, renewed: Set[str] = frozenset()) -> None:
        self.catalog = catalog
        self.opened += 1
        self.renewed.append(set(renewed))
        self.told.set()

    @property
    def names(self) -> list[str]:
        return [config.name for config in self.catalog.models]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    return tmp_path


async def looked(folder: Path, config_file: Path | None = None) -> tuple[Node, ModelsWatch]:
    node = Node(folder)
    watch = ModelsWatch(folder, config_file, node)
    await settle(watch)
    return node, watch


async def settle(watch: ModelsWatch) -> None:
    """A change is taken in at the second look."""
    await watch.look()
    await watch.look()


async def test_nothing_new_opens_nothing(folder: Path) -> None:
    node, watch = await looked(folder)
    await settle(watch)
    (folder / "notes.txt").write_text("not a model")
    (folder / ".hidden.yaml").write_text(DEFINITION)
    await settle(watch)
    assert node.opened == 0


async def test_a_file_that_comes_a_definition_that_changes_one_that_goes(folder: Path) -> None:
    node, watch = await looked(folder)
    (folder / "b.gguf").write_bytes(b"GGUF")
    await watch.look()
    assert node.names == ["a"], "not before it is finished"
    await watch.look()
    assert node.names == ["a", "b"]
    (folder / "talker.yaml").write_text(DEFINITION)
    await settle(watch)
    assert node.names == ["b", "talker"]
    (folder / "talker.yaml").write_text(DEFINITION + "context_size: 512\n")
    await settle(watch)
    assert node.catalog.resolve("talker").context_size == 512
    (folder / "b.gguf").unlink()
    await settle(watch)
    assert node.names == ["talker"]
    assert node.opened == 4


async def test_a_definition_that_is_being_edited_stays_what_it_was(folder: Path) -> None:
    (folder / "talker.yaml").write_text(DEFINITION)
    node, watch = await looked(folder)
    with structlog.testing.capture_logs() as logs:
        for broken in ("", "name: [", "name: talker\nparameters:\n  model: ../a.gguf\n"):
            (folder / "talker.yaml").write_text(broken)
            await settle(watch)
            assert node.names == ["talker"]
            assert node.catalog.problems
    assert [line["event"] for line in logs if line["event"] == "definition_problem"] == ["definition_problem"] * 4
    (folder / "talker.yaml").unlink()
    await settle(watch)
    assert (node.names, node.catalog.problems) == (["a"], ())


async def test_a_model_file_that_is_another_one_now(folder: Path) -> None:
    node, watch = await looked(folder)
    (folder / "new").write_bytes(b"GGUF, longer")
    (folder / "new").rename(folder / "a.gguf")
    await settle(watch)
    assert node.renewed == [{"a.gguf"}]


async def test_a_folder_that_never_rests_is_read_all_the_same(folder: Path) -> None:
    node, watch = await looked(folder)
    for number in range(MAX_UNREST):
        assert node.opened == 0
        (folder / "copied.gguf").write_bytes(b"x" * (number + 1))
        await watch.look()
    assert node.names == ["a", "copied"]


async def test_a_folder_that_is_gone_changes_nothing_and_is_told_once(folder: Path) -> None:
    node, watch = await looked(folder)
    hidden = folder.rename(folder.with_name("hidden"))
    with structlog.testing.capture_logs() as logs:
        await settle(watch)
        await settle(watch)
    assert [line["event"] for line in logs] == ["models_folder_unreadable"]
    assert node.names == ["a"]
    hidden.rename(folder)
    os.symlink("nowhere", folder / "b.gguf")
    (folder / "c.gguf").write_bytes(b"GGUF")
    await settle(watch)
    assert node.names == ["a", "c"]


async def test_the_definition_file_from_elsewhere(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "models.yaml"
    elsewhere.write_text("")
    node, watch = await looked(folder, elsewhere)
    elsewhere.write_text(DEFINITION)
    await settle(watch)
    assert node.names == ["talker"]


async def test_it_looks_until_it_is_cancelled(folder: Path) -> None:
    node = Node(folder)
    (folder / "b.gguf").write_bytes(b"GGUF")
    watching = asyncio.create_task(ModelsWatch(folder, None, node).keep_watch(0.0))
    async with asyncio.timeout(10):
        await node.told.wait()
    watching.cancel()
    assert node.names == ["a", "b"]


async def test_endings_in_capitals_and_files_in_folders_count_too(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "x.gguf").write_bytes(b"GGUF")
    (folder / "x.yaml").write_text("name: x\nparameters: {model: sub/x.gguf}\nmmproj: sub/eye.gguf\n")
    node, watch = await looked(folder)
    (folder / "B.GGUF").write_bytes(b"GGUF")
    (folder / "Y.YAML").write_text("name: y\nparameters: {model: B.GGUF}\n")
    await settle(watch)
    assert node.names == ["a", "x", "y"]
    (folder / "sub" / "x.gguf").write_bytes(b"GGUF, another")
    await settle(watch)
    (folder / "sub" / "eye.gguf").write_bytes(b"GGUF")
    await settle(watch)
    assert node.renewed[-2:] == [{"sub/x.gguf"}, set()] or node.renewed[-1] == {"sub/x.gguf"}


class OvertakenNode:
    """A job opens a newer catalogue while the watch is reading, once."""

    def __init__(self, seen: list[Catalog]) -> None:
        self.seen = seen
        self.opened: list[Catalog] = []

    @property
    def catalog(self) -> Catalog:
        return self.seen.pop(0) if len(self.seen) > 1 else self.seen[0]

    def open(self, catalog: Catalog, renewed: Set[str] = frozenset()) -> None:
        self.opened.append(catalog)


async def test_what_was_read_before_somebody_opened_a_newer_catalogue_is_not_opened(folder: Path) -> None:
    older, newer = Catalog(), Catalog((ModelConfig("installed", "i.gguf"),))
    node = OvertakenNode([older, older, older, newer])  # two looks, then before and after reading
    watch = ModelsWatch(folder, None, node)
    await settle(watch)
    assert node.opened == []
    await watch.look()
    assert [config.name for config in node.opened[0].models] == ["a"]
