"""Indexes of galleries, fetched when they are needed and kept for an hour (shell)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import structlog

from localai.mesh.errors import InvalidRequest, LocalAIError, NotFound
from localai.node.gallery.gallery_index import (
    MAX_INDEX_BYTES,
    PUBLIC_GALLERY,
    ApplyRequest,
    BaseFile,
    GallerySource,
    IndexEntry,
    build_recipe,
    parse_base_file,
    parse_index,
    same_name,
    split_name,
)
from localai.node.gallery.recipe import Recipe
from localai.node.sources.http_client import check_success, read_answer
from localai.node.sources.plan import Headers, bearer
from localai.node.sources.planning import SourceRules
from localai.node.sources.uri import (
    GitHubFile,
    HttpsUrl,
    HuggingFaceFile,
    LocalFile,
    parse_reference,
    resolve_url,
)

_LOG = structlog.get_logger()

KEPT_S = 3600.0
"""Seconds for which an index is not fetched again."""


class Galleries:
    """The configured galleries. ``session`` stays the caller's."""

    def __init__(self, sources: Sequence[GallerySource], session: aiohttp.ClientSession, rules: SourceRules) -> None:
        self._sources = tuple(sources)
        self._session = session
        self._rules = rules
        self._kept: dict[GallerySource, tuple[float, tuple[IndexEntry, ...]]] = {}

    def knows(self, gallery: str) -> bool:
        """Whether there is a gallery of that name."""
        return any(same_name(each.name, gallery) for each in (*self._sources, PUBLIC_GALLERY))

    async def entries(self) -> tuple[IndexEntry, ...]:
        """All entries of the configured galleries, in order.

        Raises:
            LocalAIError: an index cannot be had.
        """
        found: list[IndexEntry] = []
        for source in self._sources:
            found += await self._index(source)
        return tuple(found)

    async def find(self, text: str) -> IndexEntry | None:
        """The entry for ``name`` or ``gallery@name``; None when no gallery has it.

        The public gallery is asked if it is named, even if it is not configured.

        Raises:
            LocalAIError: nothing was found, and an index could not be had.
        """
        gallery, name = split_name(text)
        sources = [source for source in self._sources if not gallery or same_name(source.name, gallery)]
        if not sources and same_name(gallery, PUBLIC_GALLERY.name):
            sources = [PUBLIC_GALLERY]
        failed: LocalAIError | None = None
        for source in sources:
            try:
                entries = await self._index(source)
            except LocalAIError as error:
                failed = failed or error
                continue
            if found := next((entry for entry in entries if same_name(entry.name, name)), None):
                return found
        if failed is not None:
            raise failed
        return None

    async def recipe(self, entry: IndexEntry, request: ApplyRequest) -> Recipe:
        """What to install for an entry.

        Raises:
            LocalAIError: its base file cannot be had or used.
        """
        base = BaseFile()
        if entry.url:
            text = await read_text(entry.url, self._session, self._rules, may_read_local=_is_local(entry.gallery.url))
            base = parse_base_file(text, f"The base file of '{entry.name[:100]}'")
        return build_recipe(entry, base, request)

    async def recipe_of_request(self, request: ApplyRequest) -> Recipe:
        """What to install for a request that names no gallery entry.

        Raises:
            InvalidRequest: it names nothing at all.
            LocalAIError: its base file cannot be had or used.
        """
        if not request.url and request.config is None:
            raise InvalidRequest("The request has neither 'id' nor 'url' nor 'config_file'.", code="invalid_request")
        nowhere = GallerySource("", "")
        return await self.recipe(IndexEntry(nowhere, "", request.url, request.config), request)

    async def _index(self, source: GallerySource) -> tuple[IndexEntry, ...]:
        now = time.monotonic()
        fetched_at, entries = self._kept.get(source, (-KEPT_S, ()))
        if now - fetched_at < KEPT_S:
            return entries
        text = await read_text(source.url, self._session, self._rules, may_read_local=True)
        if source.url.endswith(".ref"):
            folder, _, _ = source.url.rpartition("/")
            text = await read_text(f"{folder}/{text.strip()}", self._session, self._rules, may_read_local=True)
        index = await asyncio.to_thread(parse_index, text, source)
        for problem in index.problems:
            _LOG.warning("gallery_problem", gallery=source.name, problem=problem)
        self._kept[source] = now, index.entries
        return index.entries


async def read_text(text: str, session: aiohttp.ClientSession, rules: SourceRules, *, may_read_local: bool) -> str:
    """The small file of a reference, as text.

    Raises:
        InvalidRequest: the reference leads to no such file.
        LocalAIError: it cannot be had.
    """
    reference = parse_reference(text, rules.endpoints)
    match reference:
        case LocalFile(path) if may_read_local:
            return await asyncio.to_thread(read_local_text, path)
        case HuggingFaceFile() | GitHubFile() | HttpsUrl():
            is_hub = isinstance(reference, HuggingFaceFile)
            headers: Headers = bearer(rules.hub_token) if is_hub else ()
            url = resolve_url(reference, rules.endpoints)
            answer = await read_answer(session, url, headers, rules.limits, max_bytes=MAX_INDEX_BYTES)
            check_success(answer)
            data = answer.body
        case _:
            raise InvalidRequest(
                f"{text[:200]!r} leads to no file that can be read from here.", code="invalid_reference"
            )
    return _decoded(data, text)


def read_local_text(path: Path) -> str:
    """The text of a small file of this machine (blocking).

    Raises:
        NotFound: it cannot be read.
        InvalidRequest: it is no text.
    """
    try:
        with path.expanduser().open("rb") as file:
            return _decoded(file.read(MAX_INDEX_BYTES + 1), str(path))
    except (OSError, RuntimeError) as error:
        message = f"The file {path} cannot be read. Check its path and its permissions."
        raise NotFound(message, code="no_such_file", detail=repr(error)) from error


def _decoded(data: bytes, text: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{text[:200]!r} is not UTF-8 text.", code="invalid_reference") from error


def _is_local(url: str) -> bool:
    return bool(url) and isinstance(parse_reference(url), LocalFile)
