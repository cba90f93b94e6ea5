"""Indexes of galleries, fetched when they are needed and kept for an hour (shell)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import aiohttp
import structlog

from localai.mesh.errors import InvalidRequest, LocalAIError, NotFound, Unavailable
from localai.node.gallery.gallery_index import (
    MAX_INDEX_BYTES,
    PUBLIC_GALLERY,
    ApplyRequest,
    BaseFile,
    GallerySource,
    Index,
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
ADDRESS_LIMIT_S = 120.0
"""Seconds for one address of an index, if there are further ones to ask."""
AVOIDED_S = 600.0
"""Seconds for which an address that failed is asked after the others."""


class Galleries:
    """The configured galleries. ``session`` stays the caller's."""

    def __init__(self, sources: Sequence[GallerySource], session: aiohttp.ClientSession, rules: SourceRules) -> None:
        self._sources = tuple(sources)
        self._session = session
        self._rules = rules
        self._kept: dict[GallerySource, tuple[float, tuple[IndexEntry, ...]]] = {}
        self._failed_at: dict[str, float] = {}

    def knows(self, gallery: str) -> bool:
        """Whether there is a gallery of that name."""
        return any(same_name(each.name, gallery) for each in (*self._sources, PUBLIC_GALLERY))

    async def entries(self) -> tuple[IndexEntry, ...]:
        """All entries of the configured galleries, in order. A gallery that cannot be had is logged and left out.

        Raises:
            LocalAIError: there are galleries, and none of them can be had.
        """
        found: list[IndexEntry] = []
        failures: list[tuple[GallerySource, LocalAIError]] = []
        for source in self._sources:
            try:
                found += await self._index(source)
            except LocalAIError as error:
                failures.append((source, error))
        if failures and len(failures) == len(self._sources):
            raise failures[0][1]
        _warn_unavailable(failures)
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
        failures: list[tuple[GallerySource, LocalAIError]] = []
        for source in sources:
            try:
                entries = await self._index(source)
            except LocalAIError as error:
                failures.append((source, error))
                continue
            if found := next((entry for entry in entries if same_name(entry.name, name)), None):
                _warn_unavailable(failures)  # an entry of theirs would have come first
                return found
        if failures:
            raise failures[0][1]
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
        index = await self._first_index(source)
        for problem in index.problems:
            _LOG.warning("gallery_problem", gallery=source.name, problem=problem)
        self._kept[source] = now, index.entries
        return index.entries

    async def _first_index(self, source: GallerySource) -> Index:
        """The index from the first of its addresses that has one; those that failed lately are asked last."""
        now = time.monotonic()
        addresses = sorted((source.url, *source.mirrors), key=lambda each: self._is_avoided(each, now))
        first: LocalAIError | None = None
        for address in addresses:
            try:
                index = await self._index_at(address, source, is_last=address == addresses[-1])
            except LocalAIError as error:
                self._failed_at[address] = now
                first = first or error
                if source.mirrors:
                    _LOG.warning("gallery_address_failed", gallery=source.name, address=address, problem=error.message)
                continue
            self._failed_at.pop(address, None)
            return index
        assert first is not None
        raise first

    def _is_avoided(self, address: str, now: float) -> bool:
        return address in self._failed_at and now - self._failed_at[address] < AVOIDED_S

    async def _index_at(self, address: str, source: GallerySource, *, is_last: bool) -> Index:
        try:
            async with asyncio.timeout(None if is_last else ADDRESS_LIMIT_S):
                text = await read_text(address, self._session, self._rules, may_read_local=True)
                if address.endswith(".ref"):
                    folder, _, _ = address.rpartition("/")
                    text = await read_text(f"{folder}/{text.strip()}", self._session, self._rules, may_read_local=True)
        except TimeoutError as error:
            message = f"The gallery '{source.name}' did not answer at {address[:200]} in time. Try again later."
            raise Unavailable(message, code="offline") from error
        # a base file of this machine may be named only by an index that itself came from this machine
        return await asyncio.to_thread(parse_index, text, replace(source, url=address))


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


def _warn_unavailable(failures: Sequence[tuple[GallerySource, LocalAIError]]) -> None:
    for source, error in failures:
        _LOG.warning("gallery_unavailable", gallery=source.name, problem=error.message)


def _is_local(url: str) -> bool:
    return bool(url) and isinstance(parse_reference(url), LocalFile)
