"""Installs and deletes models one after the other while the node runs (shell).

Jobs are kept in the node's database: each change of state is written, progress is not. Whatever ends the node, partial
files stay and the next start goes on with what was not finished. Without the database they live as long as the node.
"""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import structlog

from localai.mesh.errors import Conflict, LocalAIError, NotFound, RateLimited, SetupError, Unavailable
from localai.node.database.database import Database
from localai.node.gallery.gallery_index import (
    ApplyRequest,
    GallerySource,
    IndexEntry,
    check_lengths,
    check_name_length,
)
from localai.node.gallery.install_progress import InstallProgress
from localai.node.gallery.job_keeper import JobKeeper
from localai.node.gallery.job_record import JobRecord, render_request
from localai.node.gallery.job_status import (
    MAX_QUEUED,
    Job,
    begun,
    cancelled,
    completed,
    failed,
    progressed,
    pruned,
    put_back,
    stopping,
    taken_up,
)
from localai.node.gallery.references import Installer, open_installer
from localai.node.gallery.removal import remove_model
from localai.node.sources.planning import SourceRules

_LOG = structlog.get_logger()

Reload = Callable[[], None]
"""Makes what is in the models folder usable. Called on the event loop."""


@dataclass(frozen=True, slots=True)
class JobPlaces:
    """Where models are, and where they come from."""

    models_path: Path
    environment: Mapping[str, str]
    galleries: tuple[GallerySource, ...]
    rules: SourceRules


class ModelJobs:
    """The jobs of one node. Make it and close it on the same loop.

    ``retry_s`` is the pause between tries to read what an earlier run left, while the database cannot be used.
    """

    def __init__(self, places: JobPlaces, database: Database, reload: Reload, *, retry_s: float = 10.0) -> None:
        self.places = places
        self._reload = reload
        self._keeper = JobKeeper(database)
        self._jobs: dict[str, Job] = {}
        self._requests: dict[str, ApplyRequest] = {}
        self._waiting: dict[str, None] = {}
        self._taken_up: set[str] = set()
        self._current: asyncio.Task[None] | None = None
        self._working: asyncio.Task[None] | None = None
        self._closed = False
        self._installer: Installer | None = None
        self._opening = asyncio.Lock()
        self._opened = AsyncExitStack()
        self._changed = asyncio.Event()
        self._looked = asyncio.Event()
        self._loading = asyncio.create_task(self._load(retry_s), context=contextvars.Context())

    def apply(self, request: ApplyRequest) -> Job:
        """Queue an installation. One of a model that is queued already finds what the first one fetched.

        Raises:
            InvalidRequest: it cannot be written down, or names something longer than can be.
            RateLimited: too many are waiting.
            Unavailable: the node is about to stop.
        """
        check_lengths(request)
        render_request(request)
        return self._add(Job(str(uuid.uuid4()), request.id or request.name or request.url), request)

    def delete(self, name: str) -> Job:
        """Queue a deletion.

        Raises:
            InvalidRequest: no model can have so long a name.
            RateLimited: too many are waiting.
            Unavailable: the node is about to stop.
        """
        check_name_length(name)
        return self._add(Job(str(uuid.uuid4()), name, deletion=True), None)

    def cancel(self, job_id: str) -> Job | None:
        """End a job: a queued one at once, a running one at its next step, keeping what was fetched of a file.

        A finished job stays as it is. None when the job is not known.

        Raises:
            Conflict: it is a deletion that has begun.
        """
        job = self._jobs.get(job_id)
        if job is None or job.is_finished or job.stopping:
            return job
        if not job.is_cancellable:
            raise Conflict("A deletion that has begun cannot be cancelled. It will be over in a moment.")
        if job_id in self._waiting:
            del self._waiting[job_id]
            self._end(cancelled(job))
        elif self._current is not None:
            self._set(stopping(job))
            self._current.cancel()
        return self._jobs.get(job_id)

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
        return await (await self._ready_installer()).available()

    async def wait_loaded(self) -> None:
        """Wait until the database was asked for what an earlier run left, whether that worked or not."""
        await self._looked.wait()

    async def wait_changed(self) -> None:
        """Wait until something about a job is different."""
        await self._changed.wait()

    async def wait_idle(self) -> None:
        """Wait until nothing is queued or running, and the database knows."""
        await self.wait_loaded()
        while self._working is not None and not self._working.done():
            await asyncio.wait({self._working})
        await self._keeper.flush()

    async def aclose(self) -> None:
        """End what is running, and remember how far everything came."""
        self._closed = True
        tasks = [task for task in (self._loading, self._working) if task is not None]
        for task in tasks:
            task.cancel()
        if self._current is not None:
            if not any(job.deletion and job.state == "running" for job in self._jobs.values()):
                self._current.cancel()
            tasks.append(self._current)
        await asyncio.wait(tasks)
        await self._opened.aclose()
        for job in [job for job in self._jobs.values() if not job.is_finished]:
            self._set(put_back(job))
        await self._keeper.flush()

    async def _load(self, retry_s: float) -> None:
        try:
            while (records := await self._read()) is None:
                self._looked.set()
                await asyncio.sleep(retry_s)
            self._take_up(records)
        finally:
            self._looked.set()

    async def _read(self) -> list[JobRecord] | None:
        """What an earlier run left; None when the database cannot be used now."""
        try:
            return await self._keeper.load()
        except SetupError:
            return []
        except LocalAIError:
            return None

    def _take_up(self, records: list[JobRecord]) -> None:
        """Put the jobs of an earlier run before those that were asked for meanwhile."""
        younger, waiting = self._jobs, self._waiting
        self._jobs, self._waiting = {record.job.id: record.job for record in records}, {}
        for record in records:
            job = taken_up(record.job)
            if record.request is not None:
                self._requests[job.id] = record.request
            if not job.is_finished:
                _LOG.info("job_taken_up", job=job.id, model=job.name, tries=job.tries)
                self._waiting[job.id] = None
                self._taken_up.add(job.id)
            if job != record.job:
                self._set(job)
        self._jobs |= younger
        self._waiting |= waiting
        self._prune()
        self._work_on()

    def _add(self, job: Job, request: ApplyRequest | None) -> Job:
        if self._closed:
            raise Unavailable("This node is shutting down. Try again later.")
        if len(self._waiting) >= MAX_QUEUED:
            message = f"{MAX_QUEUED} installations wait already. Try again when some are done."
            raise RateLimited(message, retry_after_s=10.0)
        if request is not None:
            self._requests[job.id] = request
        self._waiting[job.id] = None
        self._set(job)
        self._work_on()
        return job

    def _work_on(self) -> None:
        if self._waiting and (self._working is None or self._working.done()):
            # in a context of its own: the log lines of all jobs are not those of the request that came first
            self._working = asyncio.create_task(self._work(), context=contextvars.Context())

    async def _work(self) -> None:
        await self.wait_loaded()
        while self._waiting:
            job_id = next(iter(self._waiting))
            del self._waiting[job_id]
            self._set(begun(self._jobs[job_id]))
            self._current = asyncio.create_task(self._carry_out(job_id))
            await asyncio.wait({self._current})
            if self._current.cancelled():
                _LOG.info("job_cancelled", job=job_id, model=self._jobs[job_id].name)
                self._end(cancelled(self._jobs[job_id]))
            self._current = None

    async def _carry_out(self, job_id: str) -> None:
        job = self._jobs[job_id]
        try:
            if not await self._keeper.flush() and job_id in self._taken_up:
                raise Unavailable("The database cannot note another try of this job. Repair it, and ask for it again.")
            if job.deletion:
                await self._delete(job)
            else:
                await self._install(job_id)
            self._reload()
        except LocalAIError as error:
            _LOG.error("job_failed", job=job_id, model=job.name, error=error.message, detail=error.detail[:500])
            self._end(failed(self._jobs[job_id], error.message))
        except Exception as error:  # the top of a task: one job that crashes must not stop those after it
            _LOG.exception("job_crashed", job=job_id, model=job.name)
            self._end(failed(self._jobs[job_id], f"it crashed: {type(error).__name__}"))
        else:
            _LOG.info("job_done", job=job_id, model=job.name, deletion=job.deletion)
            self._end(completed(self._jobs[job_id]))

    async def _delete(self, job: Job) -> None:
        try:
            await asyncio.to_thread(remove_model, self.places.models_path, job.name)
        except NotFound:
            if job.tries == 1:  # otherwise the try before it got that far
                raise

    async def _install(self, job_id: str) -> None:
        def show(progress: InstallProgress) -> None:
            self._show(progressed(self._jobs[job_id], progress))

        await (await self._ready_installer()).apply(self._requests[job_id], show)

    async def _ready_installer(self) -> Installer:
        """One for all jobs, because it keeps the indexes of the galleries; opened at its first use."""
        async with self._opening:
            if self._installer is None:
                places = self.places
                self._installer = await self._opened.enter_async_context(
                    open_installer(places.models_path, places.environment, places.galleries, rules=places.rules)
                )
            return self._installer

    def _end(self, job: Job) -> None:
        self._requests.pop(job.id, None)
        self._set(job)
        self._prune()

    def _prune(self) -> None:
        kept = pruned(self._jobs)
        for job_id in self._jobs.keys() - kept.keys():
            self._keeper.forget(job_id)
        self._jobs = kept

    def _set(self, job: Job) -> None:
        """A new state: shown, and written to the database."""
        self._show(job)
        self._keeper.put(JobRecord(job, self._requests.get(job.id)))

    def _show(self, job: Job) -> None:
        self._jobs[job.id] = job
        self._changed.set()
        self._changed = asyncio.Event()
