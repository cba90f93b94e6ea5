"""Installs and deletes models one after the other while the node runs (shell).

Jobs are kept over a restart in one small file of the data folder. Whatever ends the node, partial files stay, so the
same wish goes on where it was.
"""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from localai.mesh.errors import LocalAIError, RateLimited, Unavailable
from localai.node.atomic_file import replace_file
from localai.node.gallery.gallery_index import ApplyRequest, GallerySource, IndexEntry
from localai.node.gallery.install_progress import InstallProgress
from localai.node.gallery.job_status import (
    MAX_QUEUED,
    Job,
    begun,
    cancelled,
    completed,
    failed,
    parse_jobs,
    progressed,
    pruned,
    render_jobs,
)
from localai.node.gallery.references import open_installer
from localai.node.gallery.removal import remove_model
from localai.node.sources.planning import SourceRules

_LOG = structlog.get_logger()

Reload = Callable[[], None]
"""Makes what is in the models folder usable. Called on the event loop."""


@dataclass(frozen=True, slots=True)
class JobPlaces:
    """Where models and the list of jobs are, and where models come from."""

    models_path: Path
    jobs_file: Path
    environment: Mapping[str, str]
    galleries: tuple[GallerySource, ...]
    rules: SourceRules


class ModelJobs:
    """The jobs of one node. Close it on the loop on which it was made."""

    def __init__(self, places: JobPlaces, reload: Reload) -> None:
        self.places = places
        self._reload = reload
        self._jobs = _read(places.jobs_file)
        self._waiting: dict[str, ApplyRequest | None] = {}
        self._working: asyncio.Task[None] | None = None
        self._closed = False
        self._changed = asyncio.Event()

    def apply(self, request: ApplyRequest) -> Job:
        """Queue an installation.

        Raises:
            RateLimited: too many are waiting.
            Unavailable: the node is about to stop.
        """
        return self._add(Job(str(uuid.uuid4()), request.id or request.name or request.url), request)

    def delete(self, name: str) -> Job:
        """Queue a deletion.

        Raises:
            RateLimited: too many are waiting.
            Unavailable: the node is about to stop.
        """
        return self._add(Job(str(uuid.uuid4()), name, deletion=True), None)

    def find(self, job_id: str) -> Job | None:
        """A job; None when it is not known, or not any more."""
        return self._jobs.get(job_id)

    def all(self) -> tuple[Job, ...]:
        """All jobs that are remembered, the oldest first."""
        return tuple(self._jobs.values())

    async def available(self) -> tuple[IndexEntry, ...]:
        """Everything that can be installed by name.

        Raises:
            LocalAIError: an index cannot be had.
        """
        places = self.places
        async with open_installer(
            places.models_path, places.environment, places.galleries, rules=places.rules
        ) as installer:
            return await installer.available()

    async def wait_changed(self) -> None:
        """Wait until something about a job is different."""
        await self._changed.wait()

    async def wait_idle(self) -> None:
        """Wait until nothing is queued or running."""
        while self._working is not None and not self._working.done():
            await asyncio.wait({self._working})

    async def aclose(self) -> None:
        """End what is running, and remember how far everything came."""
        self._closed = True
        if self._working is not None:
            self._working.cancel()
            with suppress(asyncio.CancelledError):
                await self._working
        unfinished = [job for job in self._jobs.values() if not job.is_finished]
        for job in unfinished:
            self._put(cancelled(job))
        if unfinished:
            self._save()

    def _add(self, job: Job, request: ApplyRequest | None) -> Job:
        if self._closed:
            raise Unavailable("This node is shutting down. Try again later.")
        if len(self._waiting) >= MAX_QUEUED:
            message = f"{MAX_QUEUED} installations wait already. Try again when some are done."
            raise RateLimited(message, retry_after_s=10.0)
        self._put(job)
        self._waiting[job.id] = request
        self._save()
        if self._working is None or self._working.done():
            # in a context of its own: the log lines of all jobs are not those of the request that came first
            self._working = asyncio.create_task(self._work(), context=contextvars.Context())
        return job

    async def _work(self) -> None:
        while self._waiting:
            job_id = next(iter(self._waiting))
            request = self._waiting.pop(job_id)
            self._put(begun(self._jobs[job_id]))
            await self._carry_out(job_id, request)
            self._jobs = pruned(self._jobs)
            self._save()

    async def _carry_out(self, job_id: str, request: ApplyRequest | None) -> None:
        job = self._jobs[job_id]
        try:
            if request is None:
                await asyncio.to_thread(remove_model, self.places.models_path, job.name)
            else:
                await self._install(job_id, request)
            self._reload()
        except LocalAIError as error:
            _LOG.error("job_failed", job=job_id, model=job.name, error=error.message, detail=error.detail[:500])
            self._put(failed(self._jobs[job_id], error.message))
        except Exception as error:  # the top of a task: one job that crashes must not stop those after it
            _LOG.exception("job_crashed", job=job_id, model=job.name)
            self._put(failed(self._jobs[job_id], f"it crashed: {type(error).__name__}"))
        else:
            _LOG.info("job_done", job=job_id, model=job.name, deletion=job.deletion)
            self._put(completed(self._jobs[job_id]))

    async def _install(self, job_id: str, request: ApplyRequest) -> None:
        def show(progress: InstallProgress) -> None:
            self._put(progressed(self._jobs[job_id], progress))

        places = self.places
        async with open_installer(
            places.models_path, places.environment, places.galleries, rules=places.rules
        ) as installer:
            await installer.apply(request, show)

    def _put(self, job: Job) -> None:
        self._jobs[job.id] = job
        self._changed.set()
        self._changed = asyncio.Event()

    def _save(self) -> None:
        try:
            replace_file(self.places.jobs_file, render_jobs(self._jobs.values()))
        except OSError as error:
            _LOG.error("jobs_not_saved", path=str(self.places.jobs_file), error=repr(error))


def _read(path: Path) -> dict[str, Job]:
    try:
        return parse_jobs(path.read_bytes())
    except OSError:
        return {}
