from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from localai.mesh.errors import SetupError, Unavailable
from localai.node.database.address import file_address
from localai.node.database.database import Database
from localai.node.gallery.gallery_index import ApplyRequest
from localai.node.gallery.job_keeper import JobKeeper
from localai.node.gallery.job_record import JobRecord
from localai.node.gallery.job_status import Job, completed

FIRST = JobRecord(Job("1", "m"), ApplyRequest("m"))
SECOND = JobRecord(Job("2", "n", deletion=True))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(file_address(tmp_path / "state.db"), busy_timeout_s=0.0)
    yield database
    await database.aclose()


async def test_what_is_put_is_loaded(database: Database) -> None:
    keeper = JobKeeper(database)
    assert await keeper.load() == []
    assert not database.may_hold_something, "nothing was asked of a database that is not there"
    assert await keeper.flush()
    for record in (FIRST, SECOND, JobRecord(completed(FIRST.job))):
        keeper.put(record)
    assert await keeper.flush()
    assert await JobKeeper(database).load() == [JobRecord(completed(FIRST.job)), SECOND]
    keeper.forget("1")
    assert await keeper.flush()
    assert await JobKeeper(database).load() == [SECOND]


async def test_a_row_that_means_nothing_here_is_left_alone(database: Database) -> None:
    async with database.writing() as connection:
        await connection.execute(text("INSERT INTO model_jobs (id, job) VALUES ('0', '{}')"))
    keeper = JobKeeper(database)
    keeper.put(FIRST)
    await keeper.flush()
    with capture_logs() as logs:
        assert await keeper.load() == [FIRST]
    assert logs == [{"event": "job_not_understood", "job": "0", "log_level": "warning"}]


async def test_what_could_not_be_written_is_written_with_the_next_change(database: Database, tmp_path: Path) -> None:
    keeper = JobKeeper(database)
    with capture_logs() as logs, closing(sqlite3.connect(tmp_path / "state.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        keeper.put(FIRST)
        assert not await keeper.flush()
        with pytest.raises(Unavailable):
            await keeper.load()
        other.rollback()
        keeper.put(SECOND)
        assert await keeper.flush()
    assert await keeper.load() == [FIRST, SECOND]
    assert [entry["event"] for entry in logs] == ["jobs_not_kept", "database_opened"], "said once"


async def test_a_damaged_file_is_asked_once(database: Database, tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"?" * 2000)
    keeper = JobKeeper(database)
    with capture_logs() as logs:
        with pytest.raises(SetupError):
            await keeper.load()
        keeper.put(FIRST)
        assert not await keeper.flush()
    assert [entry["event"] for entry in logs] == ["jobs_not_kept"]
    assert "is damaged" in logs[0]["error"]
