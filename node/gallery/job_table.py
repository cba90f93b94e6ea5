"""The table of jobs and its statements (shell). Imported late: SQLAlchemy takes half a second."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Column, Integer, MetaData, Table, Text, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

JOBS = Table(
    "model_jobs",
    MetaData(),
    Column("sequence", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("job", Text, nullable=False),
    Column("request", Text),
)
"""``sequence`` is the order in which they were asked for."""


async def read_jobs(connection: AsyncConnection) -> list[tuple[str, str, str | None]]:
    """Id, job and request of all, the oldest first."""
    rows = await connection.execute(select(JOBS.c.id, JOBS.c.job, JOBS.c.request).order_by(JOBS.c.sequence))
    return [(row.id, row.job, row.request) for row in rows]


async def write_jobs(connection: AsyncConnection, changes: Mapping[str, tuple[str, str | None] | None]) -> None:
    """Write down job and request by id; None forgets one. New ones come after all others, in the order given."""
    for job_id, texts in changes.items():
        mine = JOBS.c.id == job_id
        if texts is None:
            await connection.execute(delete(JOBS).where(mine))
            continue
        job, request = texts
        changed = await connection.execute(update(JOBS).where(mine).values(job=job, request=request))
        if not changed.rowcount:
            await connection.execute(insert(JOBS).values(id=job_id, job=job, request=request))
