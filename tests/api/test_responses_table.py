from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from localai.api.responses_store import ResponseRow
from localai.api.responses_table import (
    RESPONSES,
    forget_responses,
    read_events,
    read_response,
    read_unfinished,
    write_responses,
)


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/x.db")
    async with engine.begin() as made:
        await made.run_sync(RESPONSES.create)
        yield made
    await engine.dispose()


def row(created_at: int, *, expires_at: int = 0, unfinished: bool = False, record: str = "1234") -> ResponseRow:
    return ResponseRow("me", created_at, expires_at, unfinished, record, "ev" if unfinished else None)


async def left(connection: AsyncConnection) -> list[str]:
    return [name for name in "abcdef" if await read_response(connection, name, "me") is not None]


async def test_reading_and_writing(connection: AsyncConnection) -> None:
    await write_responses(connection, {"b": row(2, unfinished=True), "a": row(1, unfinished=True, record="old")})
    assert await read_unfinished(connection) == ["old", "1234"]
    await write_responses(connection, {"a": row(1, record="new"), "b": None, "never": None})
    assert await read_response(connection, "a", "me") == "new"
    assert await read_response(connection, "a", "you") is None
    assert await read_response(connection, "b", "me") is None
    assert await read_unfinished(connection) == []
    await write_responses(connection, {"b": row(3, unfinished=True)})
    assert (await read_events(connection, "b"), await read_events(connection, "a")) == ("ev", None)


async def test_what_has_expired_is_forgotten(connection: AsyncConnection) -> None:
    rows = {
        "a": row(1, expires_at=5),
        "b": row(1, expires_at=6),
        "c": row(1),
        "d": row(1, expires_at=1, unfinished=True),
    }
    await write_responses(connection, rows)
    assert await forget_responses(connection, 5, 10, 1000) == 1
    assert await left(connection) == ["b", "c", "d"]


async def test_the_oldest_finished_ones_are_forgotten_when_there_are_too_many(connection: AsyncConnection) -> None:
    await write_responses(connection, {"a": row(1, unfinished=True), "b": row(2), "c": row(3), "d": row(4)})
    assert await forget_responses(connection, 9, 2, 1000) == 1
    assert await left(connection) == ["a", "c", "d"]
    assert await forget_responses(connection, 9, 10, 4) == 1
    assert await left(connection) == ["a", "d"]
    assert await forget_responses(connection, 9, 10, 4) == 0
