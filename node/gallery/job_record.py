"""A job as the database keeps it (pure): as JSON, so that new fields need no new columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from localai.mesh.errors import InvalidRequest
from localai.node.gallery.gallery_index import ApplyRequest
from localai.node.gallery.job_status import Job
from localai.node.gallery.recipe import RecipeFile

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job, and what was asked for; ``request`` is None for a deletion and for what is finished."""

    job: Job
    request: ApplyRequest | None = None


class _File(msgspec.Struct, frozen=True):
    filename: str
    uri: str
    sha256: str | None = None


class _Request(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str = ""
    url: str = ""
    name: str = ""
    overrides: dict[str, Any] = {}
    files: list[_File] = []
    config: dict[str, Any] | None = None


def render_job(job: Job) -> str:
    """The text of a job."""
    return msgspec.json.encode(job).decode()


def render_request(request: ApplyRequest) -> str:
    """The text of a request.

    Raises:
        InvalidRequest: it is nested too deeply, or holds what JSON has not.
    """
    files = [_File(file.filename, file.uri, file.sha256) for file in request.files]
    config = None if request.config is None else dict(request.config)
    shape = _Request(request.id, request.url, request.name, dict(request.overrides), files, config)
    try:
        return msgspec.json.encode(shape).decode()
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        message = "The request cannot be written down. Flatten it, and use only what JSON has."
        raise InvalidRequest(message, code="invalid_request", detail=repr(error)[:500]) from error


def parse_record(job: str, request: str | None) -> JobRecord | None:
    """A job and its request; None when the text is not of this program, or an installation lacks its request."""
    found = _decode(job, Job)
    shape = None if request is None else _decode(request, _Request)
    if found is None or (shape is None and not found.is_finished and not found.deletion):
        return None
    return JobRecord(found, None if shape is None else _request(shape))


def _request(shape: _Request) -> ApplyRequest:
    files = tuple(RecipeFile(file.filename, file.uri, file.sha256) for file in shape.files)
    return ApplyRequest(shape.id, shape.url, shape.name, shape.overrides, files, shape.config)


def _decode(text: str, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
