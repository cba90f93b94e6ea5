"""The store on a database in a folder of the test, sound and not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from localai.api import responses_store
from localai.api.dialects.responses_event_log import EventLog
from localai.api.dialects.responses_record import StoredResponse
from localai.api.responses_store import ResponseStore
from localai.api.schemas.responses_objects import OutputMessage, OutputText, Response, Status
from localai.api.schemas.responses_requests import InputItem
from localai.api.sse import SseEvent
from localai.mesh.errors import LocalAIError, NotFound
from localai.node.database.address import file_address
from localai.node.database.database import Database

Make = Callable[..., ResponseStore]


class Now:
    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
async def make(tmp_path: Path, now: Now) -> AsyncIterator[Make]:
    """Stores on one database, or on one whose folder is missing."""
    databases: list[Database] = []

    def make(path: Path = tmp_path / "state.db") -> ResponseStore:
        databases.append(Database(file_address(path), busy_timeout_s=0.0))
        return ResponseStore(databases[-1], now)

    yield make
    for database in databases:
        await database.aclose()


def hexed(number: int) -> str:
    return f"{number:032x}"


def record(
    number: int, *, previous: int | None = None, status: Status = "completed", owner: str = "me", expires_at: int = 0
) -> StoredResponse:
    said = OutputMessage(id=f"msg_{hexed(number)}_0", status="completed", content=[OutputText(str(number))])
    response = Response(
        id=f"resp_{hexed(number)}",
        created_at=number,
        status=status,
        model="m",
        output=[said],
        previous_response_id=None if previous is None else f"resp_{hexed(previous)}",
    )
    asked = InputItem("message", f"msg_{hexed(number)}_in0", role="user", content=str(number))
    return StoredResponse(response=response, owner=owner, input=[asked], expires_at=expires_at)


def name(number: int) -> str:
    return f"resp_{hexed(number)}"


async def test_what_is_put_in_is_found_at_once_and_after_a_restart(make: Make) -> None:
    store = make()
    assert await store.find(name(1), "me") is None
    store.put(record(1))
    assert await store.find(name(1), "me") == record(1)
    assert await store.find(name(1), "you") is None
    assert await store.flush()
    for each in (store, make()):
        assert await each.find(name(1), "me") == record(1)
        assert await each.find(name(1), "you") is None
    assert await store.find("resp_\x00", "me") is None


async def test_what_is_being_written_is_found_too(make: Make) -> None:
    store = make()
    store.put(record(1))
    await asyncio.sleep(0)
    store.put(record(2))
    assert await store.find(name(1), "me") == record(1)
    store.forget(name(1))
    assert await store.find(name(1), "me") is None
    await store.flush()
    assert await store.find(name(1), "me") is None
    assert await store.find(name(2), "me") == record(2)


async def test_what_has_expired_is_not_found(make: Make, now: Now) -> None:
    store = make()
    await store.sweep()
    store.put(record(1, expires_at=101))
    assert await store.find(name(1), "me") is not None
    await store.flush()
    now.s = 101
    assert await store.find(name(1), "me") is None
    with capture_logs() as logs:
        await store.sweep()
        await store.sweep()
    assert [(log["event"], log["count"]) for log in logs] == [("responses_forgotten", 1)]


async def test_chains(make: Make) -> None:
    store = make()
    store.put(record(1))
    store.put(record(2, previous=1))
    await store.flush()
    store.put(record(3, previous=2))
    items = await store.chain(name(3), "me")
    assert [item.id for item in items] == [
        f"msg_{hexed(number)}_{suffix}" for number in (1, 2, 3) for suffix in ("in0", "0")
    ]
    with pytest.raises(NotFound):
        await store.chain(name(3), "you")


async def test_items_by_their_ids(make: Make) -> None:
    store = make()
    store.put(record(1))
    await store.flush()
    wanted = [f"msg_{hexed(1)}_0", f"msg_{hexed(1)}_in0", f"msg_{hexed(2)}_0", "strange"]
    assert list(await store.items(wanted, "me")) == [f"msg_{hexed(1)}_in0", f"msg_{hexed(1)}_0"]
    assert await store.items(wanted, "you") == {}


async def test_events(make: Make) -> None:
    log = EventLog()
    log.add(0, SseEvent(b'{"type":"t","sequence_number":0}', "t"))
    store = make()
    assert await store.events(name(1)) is None
    store.put(record(1), log)
    store.put(record(2))
    for flushed in (False, True):
        if flushed:
            await store.flush()
        kept = await store.events(name(1))
        assert kept is not None
        assert kept.after(None) == log.after(None)
        assert await store.events(name(2)) is None
    async with store._database.writing() as connection:
        await connection.execute(text("UPDATE responses SET events = 'x'"))
    with pytest.raises(LocalAIError, match="failed to get events"):
        await store.events(name(1))
    store.forget(name(1))
    assert await store.events(name(1)) is None


async def test_what_a_node_that_starts_takes_up(make: Make) -> None:
    store = make()
    assert await store.unfinished() == []
    store.put(record(2, status="queued"))
    store.put(record(1, status="in_progress"))
    store.put(record(3))
    await store.flush()
    assert await make().unfinished() == [record(1, status="in_progress"), record(2, status="queued")]


async def test_without_a_database_the_newest_are_remembered(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(tmp_path / "missing" / "state.db")
    with capture_logs() as logs:
        store.put(record(1))
        assert not await store.flush()
        store.put(record(2))
        assert not await store.flush()
    assert [log["event"] for log in logs] == ["responses_not_kept"]
    assert await store.find(name(1), "me") == record(1)
    monkeypatch.setattr(responses_store, "MAX_UNWRITTEN_SIZE", 1)
    with capture_logs() as logs:
        store.put(record(3))
    assert [log["event"] for log in logs] == ["response_not_kept"] * 2
    assert await store.find(name(1), "me") is None
    assert await store.find(name(3), "me") == record(3)
    (tmp_path / "missing").mkdir()
    assert await store.flush()
    assert await make(tmp_path / "missing" / "state.db").find(name(3), "me") == record(3)


async def test_a_slow_database_holds_nobody_up(make: Make) -> None:
    store = make()
    store.put(record(1))
    await store.flush()
    async with store._database.writing():
        store.put(record(2))
        assert not await store.flush(0.0)
        assert await store.find(name(2), "me") == record(2)


async def test_a_database_that_breaks_is_said_once(make: Make, tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"no database at all, and long enough to look at" * 10)
    store = make()
    with capture_logs() as logs:
        await store.sweep()
        await store.sweep()
    assert [log["event"] for log in logs] == ["responses_not_kept"]
