"""One file fetched over HTTP (shell): whole and checked, or not there at all.

The bytes go to ``<target>.partial``, beside ``<target>.partial.json``, which says what they are the beginning of. Only
what has the wanted length and hash gets the name ``<target>``. Whatever ends a download, the partial file stays, and
the next call goes on where it ended; a wrong hash or length removes it. What counts is decided in ``transfer.py``.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, assert_never

import aiohttp

from localai.mesh.errors import DeadlineExceeded, LocalAIError, SetupError
from localai.node.atomic_file import commit_partial, replace_file
from localai.node.gallery.archive import Stopped, file_sha256
from localai.node.gallery.install_lock import install_lock
from localai.node.sources.background import KeepGoing, in_thread
from localai.node.sources.http_client import connection_error, lowered_headers, may_pass, open_response, read_chunk
from localai.node.sources.plan import Headers
from localai.node.sources.redirects import check_download_url
from localai.node.sources.transfer import (
    DEFAULT_LIMITS,
    Attempts,
    Body,
    Complete,
    FetchLimits,
    Pace,
    PartialRecord,
    StartAnew,
    TryAgain,
    Verdict,
    Wanted,
    expected_sha256,
    judge_answer,
    parse_partial_record,
    range_headers,
    render_partial_record,
    too_long,
    too_short,
    wrong_hash,
)

_BLOCK_BYTES = 1 << 20
_SPACE_CHECK_BYTES = 64 << 20

Phase: TypeAlias = Literal["waiting", "checking", "downloading", "retrying", "done"]
"""``waiting`` is for another call that fetches the same file, ``retrying`` for a server."""


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How far a download is, in bytes. ``total_bytes`` is 0 when unknown."""

    phase: Phase
    done_bytes: int = 0
    total_bytes: int = 0


OnProgress: TypeAlias = Callable[[FetchProgress], None]
"""Called on the event loop's thread, often; must be quick."""
Inspect: TypeAlias = Callable[[Path], None]
"""Looks at a whole file before it gets its name, in a thread; raises an error of ours to have it thrown away."""


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file that is there, and what is in it."""

    path: Path
    sha256: str
    """Lower-case hex, of what was written."""
    bytes: int


async def fetch(
    url: str,
    target: Path,
    *,
    sha256: str | None,
    size: int | None,
    session: aiohttp.ClientSession,
    headers: Headers = (),
    on_progress: OnProgress = lambda _progress: None,
    limits: FetchLimits = DEFAULT_LIMITS,
    inspect: Inspect = lambda _path: None,
) -> FetchedFile:
    """Make ``target`` the file at ``url``, whose hash and size in bytes are checked where they are given.

    A target that is there already is kept if it has that hash and size; otherwise it is replaced, at the end. Any
    number of calls and processes may fetch one target at once: one works, the others wait and find it done.
    Cancelling keeps the partial file. Secret headers are sent to the host of ``url`` only.

    Raises:
        InvalidRequest: ``url`` is nothing to fetch, or plain http without a hash.
        SetupError: the folder cannot be written to, or the disk is full.
        DeadlineExceeded: it took longer than ``limits.total_s``.
        UpstreamFailed: what came has another hash or length.
        LocalAIError: the server cannot be reached, or it or ``inspect`` refuses; the message says why and what to do.
    """
    check_download_url(url, has_hash=sha256 is not None)
    wanted = Wanted(target.name, url, expected_sha256(sha256), size)
    lock = target.with_name(f".{target.name}.lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        async with (
            install_lock(lock, lambda: on_progress(FetchProgress("waiting"))),
            asyncio.timeout(limits.total_s),
        ):
            return await _Download(wanted, target, session, headers, on_progress, limits, inspect).run()
    except TimeoutError as error:
        message = f"Fetching '{target.name}' took too long and was given up. Try again: it goes on where it ended."
        raise DeadlineExceeded(message, code="download_timeout") from error
    except OSError as error:
        raise disk_error(target, error) from error


def partial_path(target: Path) -> Path:
    """Where the bytes of a target are until they are whole."""
    return target.with_name(f"{target.name}.partial")


def copy_path(target: Path) -> Path:
    """Where the bytes that members of the swarm give of a target are until they are whole."""
    return target.with_name(f"{target.name}.copy.partial")


def record_path(target: Path) -> Path:
    """Where it is written what the partial file is the beginning of."""
    return target.with_name(f"{target.name}.partial.json")


def check_space(folder: Path, needed_bytes: int, limits: FetchLimits) -> None:
    """Refuse early what would fill the disk.

    Raises:
        SetupError: there is too little room.
    """
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + limits.space_margin_bytes:
        message = (
            f"The download needs {_megabytes(needed_bytes)} in {folder}, and {_megabytes(limits.space_margin_bytes)} "
            f"must stay free, but there are {_megabytes(free)}. Free some space, or give another --models-path."
        )
        raise SetupError(message, code="disk_full")


def disk_error(target: Path, error: OSError) -> SetupError:
    """The error for a target that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = (
            f"The disk of {target.parent} became full. Free some space and try again: the download goes on where it "
            "ended."
        )
        return SetupError(message, code="disk_full", detail=repr(error))
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    message = f"The file {target} cannot be written: {reason}. Correct it, or give another --models-path."
    return SetupError(message, code="models_path", detail=repr(error))


class _Download:
    """One call, under the lock. ``_done`` bytes are in the partial file and in ``_digest``."""

    def __init__(
        self,
        wanted: Wanted,
        target: Path,
        session: aiohttp.ClientSession,
        headers: Headers,
        on_progress: OnProgress,
        limits: FetchLimits,
        inspect: Inspect,
    ) -> None:
        self._wanted = wanted
        self._inspect = inspect
        self._target = target
        self._partial = partial_path(target)
        self._record_path = record_path(target)
        self._session = session
        self._headers = headers
        self._on_progress = on_progress
        self._limits = limits
        self._pace = Pace(limits.bytes_per_s)
        self._record: PartialRecord | None = None
        self._digest = hashlib.sha256()
        self._done = 0

    async def run(self) -> FetchedFile:
        """Fetch what is missing, check it, name it."""
        if present := await self._present():
            self._forget()
            return present
        await self._take_up()
        attempts = Attempts(self._limits)
        while not (self._wanted.sha256 and self._done and self._done == self._total):
            outcome = await self._attempt()
            if isinstance(outcome, Complete):
                break
            if isinstance(outcome, StartAnew):
                self._forget()
                continue
            wait_s = attempts.wait_s(self._done, outcome.error)
            if wait_s is None:
                raise outcome.error
            self._report("retrying")
            await asyncio.sleep(wait_s)
        return await self._finish()

    @property
    def _total(self) -> int | None:
        """The size of the whole, as far as known."""
        return self._wanted.size if self._record is None or self._wanted.size is not None else self._record.size

    async def _present(self) -> FetchedFile | None:
        """The target, if it is there and right."""
        if not self._target.is_file():
            return None
        size = self._target.stat().st_size
        if self._wanted.size not in (None, size):
            return None
        found = await in_thread(
            lambda going: file_sha256(self._target, going),
            lambda done: self._on_progress(FetchProgress("checking", done, size)),
        )
        return FetchedFile(self._target, found, size) if self._wanted.sha256 in (None, found) else None

    async def _take_up(self) -> None:
        """Continue what an earlier call left, if it is the beginning of what is wanted."""
        try:
            record = parse_partial_record(self._record_path.read_bytes())
            size = self._partial.stat().st_size
        except FileNotFoundError:
            record, size = None, 0
        if record is None or range_headers(record, self._wanted, size) is None:
            self._forget()
            return
        self._record = record
        self._digest, self._done = await in_thread(
            lambda going: _hashed(self._partial, going),
            lambda done: self._on_progress(FetchProgress("checking", done, size)),
        )

    def _forget(self) -> None:
        """Remove what is there of the file."""
        for path in (self._record_path, self._partial):
            with suppress(FileNotFoundError):
                path.unlink()
        self._record, self._digest, self._done = None, hashlib.sha256(), 0

    async def _attempt(self) -> Complete | StartAnew | TryAgain:
        """One request."""
        asked = range_headers(self._record, self._wanted, self._done)
        if asked is None:
            self._forget()
        headers = (*self._headers, *(asked or {}).items())
        try:
            async with open_response(self._session, self._wanted.url, headers, self._limits) as response:
                verdict: Verdict = judge_answer(
                    self._wanted, self._record, self._done, response.status, lowered_headers(response), time.time()
                )
                match verdict:
                    case Body(start, _, record):
                        await self._prepare(start, record)
                        return await self._receive(response)
                    case Complete() | StartAnew() | TryAgain():
                        return verdict
                    case _:
                        assert_never(verdict)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            failure = connection_error(error, self._wanted.url)
            if not may_pass(failure):
                raise failure from error
            return TryAgain(failure)

    async def _prepare(self, start: int, record: PartialRecord) -> None:
        """Make partial file and record fit the body that comes."""
        if start == 0:
            self._forget()  # a record never stands beside bytes of something else, even if we are killed here
            self._record = record
        check_space(self._target.parent, (self._total or self._done) - self._done, self._limits)
        if start == 0:
            self._partial.touch()
            data = render_partial_record(record)
            await in_thread(lambda _going: replace_file(self._record_path, data), lambda _done: None)

    async def _receive(self, response: aiohttp.ClientResponse) -> Complete | TryAgain:
        """Append the body to the partial file. What came before a failure is kept."""
        block = bytearray()
        with self._partial.open("ab", buffering=0) as out:
            try:
                while chunk := await read_chunk(response, self._limits):
                    block += chunk
                    self._check_length(self._done + len(block))
                    self._report("downloading", len(block))
                    if len(block) >= _BLOCK_BYTES:
                        full, block = block, bytearray()
                        await self._write(out.write, full)
                    if pause_s := self._pace.pause_s(len(chunk), time.monotonic()):
                        await asyncio.sleep(pause_s)
            except BaseException:
                with suppress(OSError):  # the first failure is the one to report
                    self._put(out.write, block)
                raise
            await self._write(out.write, block)
        if self._total is not None and self._done < self._total:
            return TryAgain(too_short(self._wanted.name, self._done, self._total))
        return Complete()

    def _check_length(self, reached: int) -> None:
        if self._total is not None and reached > self._total:
            self._forget()
            raise too_long(self._wanted.name, self._total)

    async def _write(self, write: Callable[[memoryview], int | None], block: bytearray) -> None:
        before = self._done
        await in_thread(lambda _going: self._put(write, block), lambda _done: None)
        if self._total is None and before // _SPACE_CHECK_BYTES != self._done // _SPACE_CHECK_BYTES:
            check_space(self._target.parent, 0, self._limits)

    def _put(self, write: Callable[[memoryview], int | None], block: bytearray) -> None:
        """Write all of a block; what was written is counted and hashed even if the rest fails (blocking)."""
        with memoryview(block) as left:
            at = 0
            while at < len(left):
                count = write(left[at:]) or 0
                self._digest.update(left[at : at + count])
                self._done += count
                at += count

    async def _finish(self) -> FetchedFile:
        """Check the whole, and give it its name."""
        digest = self._digest.hexdigest()
        if self._wanted.sha256 is not None and digest != self._wanted.sha256:
            self._forget()
            raise wrong_hash(self._wanted.name, digest, self._wanted.sha256)
        try:
            await in_thread(lambda _going: self._inspect(self._partial), lambda _done: None)
        except LocalAIError:
            self._forget()
            raise
        await in_thread(lambda _going: _commit(self._partial, self._target), lambda _done: None)
        self._record_path.unlink(missing_ok=True)
        self._report("done")
        return FetchedFile(self._target, digest, self._done)

    def _report(self, phase: Phase, unwritten: int = 0) -> None:
        self._on_progress(FetchProgress(phase, self._done + unwritten, self._total or 0))


def _hashed(path: Path, keep_going: KeepGoing) -> tuple[hashlib._Hash, int]:
    """The hash of what a file holds, ready to take more, and its length (blocking)."""
    digest = hashlib.sha256()
    done = 0
    with path.open("rb") as source:
        while chunk := source.read(_BLOCK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            if not keep_going(done):
                raise Stopped
    return digest, done


def _commit(partial: Path, target: Path) -> None:
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    commit_partial(partial, target)


def _megabytes(count: int) -> str:
    return f"{-(-count // 1_000_000)} MB"
