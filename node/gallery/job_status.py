"""Installations and deletions as jobs: what state they are in, and how a list of them is kept (pure).

=========  =============================  ==========================
state      how you get in                 how you get out
=========  =============================  ==========================
queued     it was asked for               its turn; the node stops
running    its turn                       it ends; the node stops
done       it worked                      never
failed     it did not work                never
cancelled  the node stopped before        never
=========  =============================  ==========================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import msgspec

from localai.node.gallery.install_progress import InstallProgress

MAX_FINISHED = 100
"""Finished jobs that are remembered; older ones are forgotten first."""
MAX_QUEUED = 32

State: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled"]
_UNITS = ("KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True)
class Job:
    """One installation or deletion. Sizes are in bytes, ``total_bytes`` 0 when unknown."""

    id: str
    name: str
    deletion: bool = False
    state: State = "queued"
    message: str = "queued"
    filename: str = ""
    phase: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    error: str | None = None

    @property
    def is_finished(self) -> bool:
        """Whether nothing more happens."""
        return self.state in ("done", "failed", "cancelled")

    @property
    def percent(self) -> float:
        """0 to 100: of the file that is being fetched, or of all when it is finished."""
        if self.state == "done":
            return 100.0
        return round(min(100.0, self.done_bytes * 100 / self.total_bytes), 1) if self.total_bytes else 0.0


def begun(job: Job) -> Job:
    """It is its turn."""
    return replace(job, state="running", message=f"processing model: {job.name}")


def progressed(job: Job, progress: InstallProgress) -> Job:
    """An installation has come on."""
    if job.is_finished or progress.phase == "done":
        return job
    total, current = shown_size(progress.total_bytes), shown_size(progress.done_bytes)
    message = f"processing file: {progress.filename}. Total: {total}. Current: {current}"
    return replace(
        job,
        message=message,
        filename=progress.filename,
        phase=progress.phase,
        done_bytes=progress.done_bytes,
        total_bytes=progress.total_bytes,
    )


def completed(job: Job) -> Job:
    """It worked."""
    return replace(job, state="done", message="completed", phase="")


def failed(job: Job, error: str) -> Job:
    """It did not work, and this is why."""
    return replace(job, state="failed", message=f"error: {error}", error=error, phase="")


def cancelled(job: Job) -> Job:
    """The node stopped before it was finished."""
    return replace(job, state="cancelled", message="cancelled", phase="")


def pruned(jobs: Mapping[str, Job]) -> dict[str, Job]:
    """The jobs, in their order, without the oldest finished ones where there are too many."""
    surplus = sum(job.is_finished for job in jobs.values()) - MAX_FINISHED
    kept: dict[str, Job] = {}
    for key, job in jobs.items():
        if job.is_finished and surplus > 0:
            surplus -= 1
            continue
        kept[key] = job
    return kept


def render_jobs(jobs: Iterable[Job]) -> bytes:
    """The jobs as a file."""
    return msgspec.json.encode(list(jobs)) + b"\n"


def parse_jobs(data: bytes) -> dict[str, Job]:
    """The jobs of a file; those that were not finished were cancelled by the end of the node.

    A file that cannot be read counts as empty: it holds nothing but history.
    """
    try:
        jobs = msgspec.json.decode(data, type=list[Job])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return pruned({job.id: job if job.is_finished else cancelled(job) for job in jobs})


def shown_size(count: int) -> str:
    """Bytes for people: ``1.2 GiB``."""
    if count < 1024:
        return f"{count} B"
    power = min((count.bit_length() - 1) // 10, len(_UNITS))
    return f"{count / (1 << 10 * power):.1f} {_UNITS[power - 1]}"
