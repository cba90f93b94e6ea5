"""Installations and deletions as jobs, and what state they are in (pure).

=========  ========================================  ========================================
state      how you get in                            how you get out
=========  ========================================  ========================================
queued     it was asked for; the node ended before   its turn; somebody cancels it
running    its turn                                  it ends; it is cancelled; the node ends
done       it worked                                 never
failed     it did not work; too many tries           never
cancelled  somebody asked for it                     never
=========  ========================================  ========================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from localai.node.gallery.install_progress import InstallProgress

MAX_FINISHED = 100
"""Finished jobs that are remembered; older ones are forgotten first."""
MAX_QUEUED = 32
MAX_TRIES = 3
"""How often a job is begun: one that takes the node with it must not do so for ever."""

State: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled"]
_UNITS = ("KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True)
class Job:
    """One installation or deletion. Sizes are in bytes, ``total_bytes`` 0 when unknown.

    ``tries`` is how often it was begun; a node that was stopped in good order does not count. ``stopping`` means that
    it runs and was asked to end.
    """

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
    tries: int = 0
    stopping: bool = False

    @property
    def is_finished(self) -> bool:
        """Whether nothing more happens."""
        return self.state in ("done", "failed", "cancelled")

    @property
    def is_cancellable(self) -> bool:
        """Whether cancelling it still changes something. A deletion that has begun is over at once."""
        return not self.is_finished and not self.stopping and not (self.deletion and self.state == "running")

    @property
    def percent(self) -> float:
        """0 to 100: of the file that is being fetched, or of all when it is finished."""
        if self.state == "done":
            return 100.0
        return round(min(100.0, self.done_bytes * 100 / self.total_bytes), 1) if self.total_bytes else 0.0


def begun(job: Job) -> Job:
    """It is its turn."""
    return replace(job, state="running", message=f"processing model: {job.name}", tries=job.tries + 1)


def progressed(job: Job, progress: InstallProgress) -> Job:
    """An installation has come on."""
    if job.is_finished or job.stopping or progress.phase == "done":
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
    return replace(job, state="done", message="completed", phase="", stopping=False)


def failed(job: Job, error: str) -> Job:
    """It did not work, and this is why."""
    return replace(job, state="failed", message=f"error: {error}", error=error, phase="", stopping=False)


def stopping(job: Job) -> Job:
    """It runs, and somebody asked for its end."""
    return replace(job, message="cancelling", stopping=True)


def cancelled(job: Job) -> Job:
    """It ended because somebody asked for that."""
    return replace(job, state="cancelled", message="cancelled", phase="", stopping=False)


def put_back(job: Job) -> Job:
    """The node stops in good order before it was finished: the next start goes on with it."""
    if job.stopping:
        return cancelled(job)
    tries = job.tries - (job.state == "running")
    return replace(job, state="queued", message="queued", phase="", tries=tries)


def taken_up(job: Job) -> Job:
    """A job as a node that starts finds it."""
    if job.is_finished:
        return job
    if job.stopping:
        return cancelled(job)
    if job.tries >= MAX_TRIES:
        return failed(job, f"The node ended {MAX_TRIES} times while it worked on this. Ask for it again to try anew.")
    return replace(job, state="queued", message="queued", phase="")


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


def shown_size(count: int) -> str:
    """Bytes for people: ``1.2 GiB``."""
    if count < 1024:
        return f"{count} B"
    power = min((count.bit_length() - 1) // 10, len(_UNITS))
    return f"{count / (1 << 10 * power):.1f} {_UNITS[power - 1]}"
