"""What this node gives to others, and its place in the node: hashes of its model files, and the giver (shell)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from localai.mesh.link import PeerStream
from localai.node.catalog import Catalog, parts_of
from localai.node.content_hash import content_hash
from localai.node.model_config import ModelConfig
from localai.node.peers.record import MAX_SHARED
from localai.node.sharing.chunks import ChunkList
from localai.node.sharing.file_hashes import FileHashes
from localai.node.sharing.giver import Giver

STORE_FILE = "file-hashes.msgpack"


class Sharing:
    """The model files of one node, by hash."""

    def __init__(
        self, models_path: Path, data_path: Path, is_busy: Callable[[], bool], on_change: Callable[[], None]
    ) -> None:
        self._models_path = models_path
        self._hashes = FileHashes(data_path / STORE_FILE)
        self._giver = Giver(self._find, is_busy)
        self._on_change = on_change
        self._shared: tuple[Path, ...] = ()
        self._hashing = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None

    async def refresh(self, catalog: Catalog) -> None:
        """Share the files of these models; hashing new ones takes a while, during which the others are shared."""
        self._want(catalog)
        await self._hash()

    def refresh_soon(self, catalog: Catalog) -> None:
        """``refresh`` in a task of its own. One that is under way goes on with what these models still have."""
        self._want(catalog)
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._hash())

    def digests(self) -> tuple[bytes, ...]:
        """SHA-256 of the files that are shared."""
        found = (self._hashes.of(path) for path in self._shared)
        return tuple(dict.fromkeys(chunks.sha256 for chunks in found if chunks is not None))

    def content_of(self, config: ModelConfig) -> bytes:
        """The hash of what a shared model is made of; empty while one of its files is not hashed."""
        digests = []
        for parts in _files_of(config):
            found = [self._hashes.of(self._models_path / name) for name in parts]
            if None in found:
                return b""
            digests.append(b"".join(chunks.sha256 for chunks in found if chunks is not None))
        return content_hash(digests, config.templates)

    async def serve(self, stream: PeerStream) -> None:
        """Answer a stream of the files protocol."""
        await self._giver.serve(stream)

    def _want(self, catalog: Catalog) -> None:
        shown = [config for config in catalog.models if not config.is_private]
        hidden = {name for config in catalog.models if config.is_private for name in _names_of(config)}
        names = [name for config in shown for name in _names_of(config) if name not in hidden]
        files = [self._models_path / name for name in names]
        self._shared = tuple(dict.fromkeys(files))[:MAX_SHARED]
        self._hashes.want(self._shared)

    async def _hash(self) -> None:
        async with self._hashing:
            await self._hashes.hash_wanted()
        self._on_change()

    def _find(self, sha256: bytes) -> tuple[Path, ChunkList] | None:
        found = self._hashes.find(sha256)
        return found if found is not None and found[0] in self._shared else None


def _files_of(config: ModelConfig) -> list[tuple[str, ...]]:
    """The files of a model, each as the names of its parts. A definition may name later parts as companions too."""
    files = {file: parts_of(file) for file in (config.model_file, *config.companion_files)}
    later = {part for parts in files.values() for part in parts[1:]}
    return [parts for file, parts in files.items() if file not in later]


def _names_of(config: ModelConfig) -> list[str]:
    return [name for parts in _files_of(config) for name in parts]
