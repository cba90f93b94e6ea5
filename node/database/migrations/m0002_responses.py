"""Step 2 (shell): the table of stored responses, owned by ``api/responses_table.py``."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Connection, Index, Integer, MetaData, Table, Text


def migrate(connection: Connection) -> None:
    """Make the table."""
    responses = Table(
        "responses",
        MetaData(),
        Column("id", Text, primary_key=True),
        Column("owner", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("expires_at", BigInteger, nullable=False),
        Column("unfinished", Integer, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("record", Text, nullable=False),
        Column("events", Text),
        Index("responses_created_at", "created_at"),
    )
    responses.create(connection)
