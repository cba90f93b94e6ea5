"""Connections that are closed and stopped at the same time."""

from __future__ import annotations

import asyncio

from localai.node.database.sqlite_connection import connect_sqlite

LIMIT_S = 10.0


async def test_closing_ends_although_somebody_stops_it_meanwhile() -> None:
    connection = await connect_sqlite(":memory:")
    closing = asyncio.create_task(connection.close())
    await asyncio.sleep(0)  # it has asked the thread to close
    connection.stop()
    async with asyncio.timeout(LIMIT_S):
        await closing


async def test_stopping_twice_waits_for_one_end() -> None:
    connection = await connect_sqlite(":memory:", timeout=0.0)
    first, second = connection.stop(), connection.stop()
    assert first is second
    assert first is not None
    async with asyncio.timeout(LIMIT_S):
        await first
    assert connection._connection is None
