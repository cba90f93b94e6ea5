"""The table of stored responses and its statements (shell). Imported late: SQLAlchemy takes half a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

if TYPE_CHECKING:
    from localai.api.responses_store import ResponseRow

RESPONSES = Table(
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
"""Times are seconds since 1970; ``expires_at`` is 0 for never. ``size`` is that of both texts, in characters."""


async def read_response(connection: AsyncConnection, response_id: str, owner: str) -> str | None:
    """The record of a response, if it is this owner's."""
    mine = RESPONSES.c.id == response_id, RESPONSES.c.owner == owner
    record: str | None = await connection.scalar(select(RESPONSES.c.record).where(*mine))
    return record


async def read_events(connection: AsyncConnection, response_id: str) -> str | None:
    """The events of a response."""
    events: str | None = await connection.scalar(select(RESPONSES.c.events).where(RESPONSES.c.id == response_id))
    return events


async def read_unfinished(connection: AsyncConnection) -> list[str]:
    """The records of the responses that are not finished, the oldest first."""
    unfinished = select(RESPONSES.c.record).where(RESPONSES.c.unfinished == 1).order_by(RESPONSES.c.created_at)
    return list((await connection.scalars(unfinished)).all())


async def write_responses(connection: AsyncConnection, changes: Mapping[str, ResponseRow | None]) -> None:
    """Write down responses by id; None forgets one."""
    for response_id, row in changes.items():
        mine = RESPONSES.c.id == response_id
        if row is None:
            await connection.execute(delete(RESPONSES).where(mine))
            continue
        values = {
            "owner": row.owner,
            "created_at": row.created_at,
            "expires_at": row.expires_at,
            "unfinished": int(row.unfinished),
            "size": row.size,
            "record": row.record,
            "events": row.events,
        }
        changed = await connection.execute(update(RESPONSES).where(mine).values(values))
        if not changed.rowcount:
            await connection.execute(insert(RESPONSES).values(id=response_id, **values))


async def forget_responses(connection: AsyncConnection, now: int, max_responses: int, max_size: int) -> int:
    """Delete what has expired, and the oldest finished ones beyond either limit; get how many are gone."""
    newest_first = RESPONSES.c.created_at.desc(), RESPONSES.c.id
    ranked = select(
        RESPONSES.c.id,
        func.row_number().over(order_by=newest_first).label("place"),
        func.sum(RESPONSES.c.size).over(order_by=newest_first, rows=(None, 0)).label("total"),
    ).subquery()
    surplus = select(ranked.c.id).where(or_(ranked.c.place > max_responses, ranked.c.total > max_size))
    gone = await connection.execute(
        delete(RESPONSES).where(
            RESPONSES.c.unfinished == 0,
            or_((RESPONSES.c.expires_at > 0) & (RESPONSES.c.expires_at <= now), RESPONSES.c.id.in_(surplus)),
        )
    )
    return gone.rowcount
