"""Looks at the models folder while the node runs, and takes what has changed there into use (shell).

It polls: a look costs one listing, works on network drives and in containers, and needs no limit of watches raised.
A change is taken in when the next look finds it finished, so that a file that is being copied is read once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Protocol, TypeAlias

import structlog

from localai.mesh.errors import LocalAIError
from localai.node.catalog import Catalog
from localai.node.catalog_changes import changes, with_last_good
from localai.node.models_folder import MAX_ENTRIES, read_catalog

_LOG = structlog.get_logger()

LOOK_S = 1.0
MAX_UNREST = 10
"""Looks after which a folder that never comes to rest is read all the same."""
_TEXTS = (".yaml", ".yml", ".tmpl")
_ENDINGS = (".gguf", *_TEXTS)

Stamps: TypeAlias = Mapping[str, tuple[int, int, int]]
"""Name of a file -> size, time of change in nanoseconds, inode."""


class Opens(Protocol):
    """Takes models into use, as ``Dispatch`` does."""

    @property
    def catalog(self) -> Catalog:
        """What is in use."""
        ...

    def open(self, catalog: Catalog, renewed: Set[str] = ...) -> None:
        """Use these from now on; the files in ``renewed`` are not what they were."""
        ...


class ModelsWatch:
    """The watch over one models folder and, beside it, the file of ``--models-config-file``."""

    def __init__(self, models_path: Path, config_file: Path | None, node: Opens) -> None:
        self._models_path = models_path
        self._config_file = config_file
        self._node = node
        self._taken: Stamps = {}
        self._seen: Stamps | None = None
        self._unrest = 0
        self._problem = ""

    async def keep_watch(self, interval_s: float = LOOK_S) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(interval_s)

    async def look(self) -> None:
        """Look once. What cannot be read leaves everything as it is, with one line in the log."""
        try:
            stamps = await asyncio.to_thread(_stamps, self._models_path, self._config_file, self._node.catalog)
            if stamps != self._seen:
                self._seen = stamps
                self._unrest += 1
                if self._unrest < MAX_UNREST:
                    return
            self._unrest = 0
            if stamps == self._taken:
                return
            await self._take(stamps)
        except (LocalAIError, OSError) as error:
            problem = str(error)
            if problem != self._problem:
                _LOG.warning("models_folder_unreadable", error=problem)
            self._problem = problem
        else:
            self._problem = ""

    async def _take(self, stamps: Stamps) -> None:
        before = self._node.catalog
        found = await asyncio.to_thread(read_catalog, self._models_path, self._config_file)
        if self._node.catalog is not before:
            return  # somebody has opened a newer one meanwhile: the next look reads again
        after = with_last_good(before, found)
        renewed = {name for name in stamps.keys() & self._taken.keys() if stamps[name] != self._taken[name]}
        renewed = {name for name in renewed if not name.lower().endswith(_TEXTS)}
        self._taken = stamps
        for problem in after.problems:
            if problem not in before.problems:
                _LOG.warning("definition_problem", source=problem.source, problem=problem.message)
        difference = changes(before, after)
        if not difference and not renewed and after == before:
            return
        self._node.open(after, renewed)
        _LOG.info(
            "models_changed",
            added=difference.added,
            removed=difference.removed,
            changed=sorted({*difference.changed, *renewed}),
        )


def _stamps(models_path: Path, config_file: Path | None, catalog: Catalog) -> Stamps:
    """What tells whether something about models has changed: what makes models, and every file that one names.

    Raises:
        OSError: the folder cannot be read.
    """
    found: dict[str, tuple[int, int, int]] = {}
    with os.scandir(models_path) as entries:
        for _, entry in zip(range(MAX_ENTRIES), entries, strict=False):
            if entry.name.lower().endswith(_ENDINGS) and not entry.name.startswith("."):
                _stamp(found, entry.name, entry.path)
    for name in {name for config in catalog.models for name in (config.model_file, *config.companion_files)}:
        if name not in found:
            _stamp(found, name, os.path.join(models_path, name))
    if config_file is not None:
        _stamp(found, "/.yaml", os.fspath(config_file))
    return found


def _stamp(found: dict[str, tuple[int, int, int]], name: str, path: str) -> None:
    try:
        status = os.stat(path)
    except OSError:
        return  # gone since, or a link to nothing: reading the folder will say so
    found[name] = (status.st_size, status.st_mtime_ns, status.st_ino)
