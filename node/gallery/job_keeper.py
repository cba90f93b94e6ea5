"""Keeps jobs in the node's database (shell). Whatever is wrong with the database, the jobs themselves go on."""

from __future__ import annotations

import asyncio
import contextvars

import structlog

from localai.mesh.errors import LocalAIError, SetupError
from localai.node.database.database import Database
from localai.node.gallery.job_record import JobRecord, parse_record, render_job, render_request

_LOG = structlog.get_logger()


class JobKeeper:
    """What the database knows of the jobs. Changes are written in their order, one transaction for all that wait."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: dict[str, tuple[str, str | None] | None] = {}
        self._writing: asyncio.Task[None] | None = None
        self._failed = False
        self._given_up = False

    async def load(self) -> list[JobRecord]:
        """All jobs, the oldest first. What cannot be read is left out, and stays where it is.

        Raises:
            SetupError: the database cannot be used until somebody has done something; nothing is kept from now on.
            Unavailable: it cannot be used now.
        """
        if not self._database.may_hold_something:
            return []
        try:
            async with self._database.reading() as connection:
                from localai.node.gallery.job_table import read_jobs

                rows = await read_jobs(connection)
        except LocalAIError as error:
            self._note(error)
            raise
        self._failed = False
        records = []
        for job_id, job, request in rows:
            record = parse_record(job, request)
            if record is None:
                _LOG.warning("job_not_understood", job=job_id)
            else:
                records.append(record)
        return records

    def put(self, record: JobRecord) -> None:
        """Write a job soon."""
        request = None if record.request is None else render_request(record.request)
        self._change(record.job.id, (render_job(record.job), request))

    def forget(self, job_id: str) -> None:
        """Delete a job soon."""
        self._change(job_id, None)

    async def flush(self) -> bool:
        """Wait until what was to be written is; False when it could not be. It is tried again with the next change.

        Cancelling leaves it being written.
        """
        if self._pending and self._writing is None:
            self._begin()
        while self._writing is not None:
            await asyncio.shield(self._writing)
        return not self._pending and not self._given_up

    def _change(self, job_id: str, texts: tuple[str, str | None] | None) -> None:
        if self._given_up:
            return
        self._pending[job_id] = texts
        if self._writing is None:
            self._begin()

    def _begin(self) -> None:
        # in a context of its own: its log lines are not those of the request that came first
        self._writing = asyncio.create_task(self._write(), context=contextvars.Context())

    async def _write(self) -> None:
        try:
            while self._pending and not self._given_up:
                changes, self._pending = self._pending, {}
                try:
                    async with self._database.writing() as connection:
                        from localai.node.gallery.job_table import write_jobs

                        await write_jobs(connection, changes)
                except LocalAIError as error:
                    self._pending = {**changes, **self._pending}
                    self._note(error)
                    return
                except Exception:  # the top of a task: the jobs go on without being kept
                    _LOG.exception("jobs_not_kept")
                    return
                self._failed = False
        finally:
            self._writing = None

    def _note(self, error: LocalAIError) -> None:
        """Say once what is wrong."""
        if not self._failed:
            _LOG.error("jobs_not_kept", error=error.message, detail=error.detail[:500])
        self._failed = True
        if isinstance(error, SetupError):
            self._given_up = True
            self._pending.clear()
