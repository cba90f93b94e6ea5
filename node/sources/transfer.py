"""How a download goes on after whatever came (pure): parts that are there already, answers of servers, tries.

What is there of a file is described by a small record beside it; a server is asked for the rest only if the record
shows that it is the rest of the same content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from email.utils import parsedate_to_datetime
from typing import TypeAlias

from localai.mesh.errors import (
    Forbidden,
    LocalAIError,
    NotFound,
    RateLimited,
    Unauthenticated,
    Unavailable,
    UpstreamFailed,
)

_PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_DECODED_ENCODINGS = frozenset({"gzip", "deflate"})
_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(?:(\d{1,18})|\*)")
_DIGITS = re.compile(r"\d{1,18}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What one download may take."""

    idle_s: float = 60.0
    """Seconds without a byte after which a connection is given up."""
    total_s: float = 24 * 3600.0
    """Seconds for all of it, waiting for another process not counted."""
    tries: int = 5
    """Failures in a row, with not one new byte between them."""
    first_wait_s: float = 1.0
    """Seconds before the second try; doubled for each further one."""
    longest_wait_s: float = 120.0
    """Seconds between two tries at most. A server that asks for more is not waited for."""
    redirects: int = 10
    space_margin_bytes: int = 256 << 20
    """Left free on the disk."""
    bytes_per_s: float | None = None
    """Bandwidth to stay below on average; None for no limit."""


DEFAULT_LIMITS = FetchLimits()


@dataclass(frozen=True, slots=True)
class Wanted:
    """The file to fetch. Hash (lower-case hex) and size (bytes) are None when unknown."""

    name: str
    """For messages."""
    url: str
    sha256: str | None
    size: int | None


@dataclass(frozen=True, slots=True)
class PartialRecord:
    """What is known of the content that a partial file is the beginning of."""

    url: str
    etag: str = ""
    last_modified: str = ""
    size: int | None = None
    sha256: str = ""
    """The hash that was wanted."""
    resumable: bool = True
    """False when the bytes of the file are not those that were sent, but decoded."""


@dataclass(frozen=True, slots=True)
class Body:
    """The answer carries the file from byte ``start`` to its end. ``total`` is its size in bytes, if known."""

    start: int
    total: int | None
    record: PartialRecord


@dataclass(frozen=True, slots=True)
class Complete:
    """Nothing is missing."""


@dataclass(frozen=True, slots=True)
class StartAnew:
    """What is there belongs to other content."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """It may work later. ``error`` is for when it never does."""

    error: LocalAIError


Verdict: TypeAlias = Body | Complete | StartAnew | TryAgain


def expected_sha256(text: str | None) -> str | None:
    """A known hash in lower case.

    Raises:
        UpstreamFailed: this is no SHA-256.
    """
    if text is None:
        return None
    lowered = text.strip().lower().removeprefix("sha256:")
    if not _SHA256.fullmatch(lowered):
        message = f"The SHA-256 {text[:100]!r} is not 64 hexadecimal digits. Correct it where the file is listed."
        raise UpstreamFailed(message, code="invalid_hash")
    return lowered


def render_partial_record(record: PartialRecord) -> bytes:
    """The record as JSON."""
    return json.dumps(asdict(record)).encode()


def parse_partial_record(data: bytes) -> PartialRecord | None:
    """The record; None when this is none, which means that the partial file is worth nothing."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or set(value) != {field.name for field in fields(PartialRecord)}:
        return None
    texts = all(isinstance(value[key], str) for key in ("url", "etag", "last_modified", "sha256"))
    size = value["size"]
    if not texts or type(value["resumable"]) is not bool or not (size is None or (type(size) is int and size >= 0)):
        return None
    return PartialRecord(**value)


def range_headers(record: PartialRecord | None, wanted: Wanted, have: int) -> dict[str, str] | None:
    """Headers that ask for the rest after ``have`` bytes; None when the file must be fetched from its beginning.

    With a known hash a wrong guess is noticed at the end, so a copy at another address or without a validator will do.
    """
    if record is None or not record.resumable or have == 0:
        return None
    limit = wanted.size if wanted.size is not None else record.size
    if limit is not None and have > limit:
        return None
    if record.sha256 and wanted.sha256 and record.sha256 != wanted.sha256:
        return None
    from_here = {"Range": f"bytes={have}-"}
    if record.url != wanted.url:
        return from_here if wanted.sha256 and record.sha256 else None
    if validator := record.etag if _is_strong(record.etag) else record.last_modified:
        return {**from_here, "If-Range": validator}
    return from_here if wanted.sha256 else None


def judge_answer(
    wanted: Wanted, record: PartialRecord | None, have: int, status: int, headers: Mapping[str, str], now: float
) -> Verdict:
    """What an answer means. ``have`` is how many bytes were not asked for, ``headers`` have lower-case names, ``now``
    is in Unix seconds.

    Raises:
        LocalAIError: it will not work, now or later.
    """
    if status == 200:
        return _judge_whole(wanted, headers)
    if status == 206 and have:
        return _judge_part(wanted, record, have, headers)
    if status == 416 and have:
        found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        return Complete() if found and found[3] and int(found[3]) == have == (wanted.size or have) else StartAnew()
    error = status_error(status, wanted.url, headers, now)
    if is_passing(status):
        return TryAgain(error)
    raise error


def _judge_whole(wanted: Wanted, headers: Mapping[str, str]) -> Body:
    encoding = headers.get("content-encoding", "").strip().lower()
    plain = encoding in ("", "identity")
    if not plain and encoding not in _DECODED_ENCODINGS:
        message = f"The server sends '{wanted.name}' in the unknown encoding {encoding[:50]!r}. Use another source."
        raise UpstreamFailed(message, code="download_failed")
    length = headers.get("content-length", "")
    total = int(length) if plain and _DIGITS.fullmatch(length) else None
    if total is not None and wanted.size is not None and total != wanted.size:
        raise wrong_length(wanted, total)
    record = PartialRecord(
        wanted.url,
        headers.get("etag", ""),
        headers.get("last-modified", ""),
        wanted.size if total is None else total,
        wanted.sha256 or "",
        resumable=plain,
    )
    return Body(0, record.size, record)


def _judge_part(
    wanted: Wanted, record: PartialRecord | None, have: int, headers: Mapping[str, str]
) -> Body | StartAnew:
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if record is None or found is None or found[1] is None or int(found[1]) != have:
        return StartAnew()
    sizes = {wanted.size, record.size, int(found[3]) if found[3] else None} - {None}
    etag = headers.get("etag", "")
    comparable = etag and record.etag and record.url == wanted.url
    same_etag = not comparable or etag.removeprefix("W/") == record.etag.removeprefix("W/")
    plain = headers.get("content-encoding", "identity").strip().lower() == "identity"
    if len(sizes) > 1 or not same_etag or not plain:
        return StartAnew()
    return Body(have, next(iter(sizes), None), record)


def _is_strong(etag: str) -> bool:
    return etag.startswith('"')


def is_passing(status: int) -> bool:
    """True for a failure that may be over the next time."""
    return status in _PASSING_STATUSES


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a server asks to wait, at least 0; ``now`` is in Unix seconds. None when it does not say."""
    text = headers.get("retry-after", "").strip()
    if _DIGITS.fullmatch(text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def status_error(status: int, url: str, headers: Mapping[str, str], now: float) -> LocalAIError:
    """The error for an answer that is no success."""
    shown = url.partition("?")[0]
    detail = f"status {status} for {shown}"
    wait = retry_after_s(headers, now)
    if status == 401:
        message = f"{shown} wants a token, or there is no such thing. Check the name, or give a token for that host."
        return Unauthenticated(message, code="source_unauthenticated", detail=detail)
    if status == 403:
        message = f"{shown} may not be fetched. Accept its terms on its web page, or give a token that may read it."
        return Forbidden(message, code="source_forbidden", detail=detail)
    if status in (404, 410):
        message = f"There is nothing at {shown}. Check the name, the path and the revision."
        return NotFound(message, code="source_not_found", detail=detail)
    if status == 429:
        message = f"{shown} refuses more requests for now. Try again later, or give a token for that host."
        return RateLimited(message, code="source_busy", detail=detail, retry_after_s=wait)
    if is_passing(status):
        message = f"{shown} cannot be fetched now: its server answers with status {status}. Try again later."
        return Unavailable(message, code="source_unavailable", detail=detail, retry_after_s=wait)
    message = f"{shown} cannot be fetched: its server answers with status {status}. Use another source."
    return UpstreamFailed(message, code="download_failed", detail=detail)


def wrong_length(wanted: Wanted, found: int) -> UpstreamFailed:
    """The error for a file that is not as long as it was said to be."""
    return _not_kept(wanted.name, f"is {found} bytes long instead of {wanted.size}")


def too_long(name: str, expected: int) -> UpstreamFailed:
    """The error for a file that goes on after its end."""
    return _not_kept(name, f"goes on after the {expected} bytes that it should have")


def too_short(name: str, found: int, expected: int) -> UpstreamFailed:
    """The error for a file that ends early, though nothing broke."""
    message = f"The file '{name}' ends after {found} of {expected} bytes. Try again, or use another source."
    return UpstreamFailed(message, code="length_mismatch")


def _not_kept(name: str, problem: str) -> UpstreamFailed:
    message = f"The file '{name}' {problem}, so it was thrown away. Try again, or use another source."
    return UpstreamFailed(message, code="length_mismatch")


def wrong_hash(name: str, found: str, expected: str) -> UpstreamFailed:
    """The error for a file with other content."""
    message = (
        f"The file '{name}' has the SHA-256 {found} instead of {expected}, so it was thrown away. "
        "Try again; if it stays so, the source has changed or something on the way changes files."
    )
    return UpstreamFailed(message, code="hash_mismatch")


class Attempts:
    """How often something is tried, and how long is waited between."""

    def __init__(self, limits: FetchLimits) -> None:
        self._limits = limits
        self._failures = 0
        self._farthest = 0

    def wait_s(self, reached: int, error: LocalAIError) -> float | None:
        """Seconds to wait after a failure; None to give up. ``reached`` is how far it came, in bytes."""
        if reached > self._farthest:
            self._farthest, self._failures = reached, 0
        self._failures += 1
        asked = error.retry_after_s or 0.0
        if self._failures >= self._limits.tries or asked > self._limits.longest_wait_s:
            return None
        return max(asked, min(self._limits.first_wait_s * 2.0 ** (self._failures - 1), self._limits.longest_wait_s))


class Pace:
    """Keeps an average of bytes per second."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0

    def pause_s(self, count: int, now: float) -> float:
        """Seconds to wait after ``count`` bytes came at ``now`` (monotonic seconds)."""
        if self._bytes_per_s is None:
            return 0.0
        self._free_at = max(self._free_at, now) + count / self._bytes_per_s
        return self._free_at - now
