"""Step 1 (shell): the table of model jobs, owned by ``node/gallery/job_table.py``."""

from __future__ import annotations

from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text


def migrate(connection: Connection) -> None:
    """Make the table."""
    jobs = Table(
        "model_jobs",
        MetaData(),
        Column("sequence", Integer, primary_key=True),
        Column("id", Text, nullable=False, unique=True),
        Column("job", Text, nullable=False),
        Column("request", Text),
    )
    jobs.create(connection)
