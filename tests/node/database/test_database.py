"""A database in a folder of the test, sound and not."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from localai.mesh.errors import SetupError, Unavailable
from localai.mesh.secrets import Secret
from localai.node.database.address import file_address, parse_database_url
from localai.node.database.database import Database

Make = Callable[..., Database]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
async def make(path: Path) -> AsyncIterator[Make]:
    """Databases that are closed at the end."""
    made: list[Database] = []

    def make(busy_timeout_s: float = 0.0) -> Database:
        made.append(Database(file_address(path), busy_timeout_s=busy_timeout_s))
        return made[-1]

    yield make
    for database in made:
        await database.aclose()


async def read(database: Database) -> object:
    async with database.reading() as connection:
        return await connection.scalar(text("SELECT count(*) FROM model_jobs"))


async def write(database: Database, job_id: str) -> None:
    async with database.writing() as connection:
        await connection.execute(text("INSERT INTO model_jobs (id, job) VALUES (:id, '')"), {"id": job_id})


async def test_it_is_opened_when_it_is_used(path: Path, make: Make) -> None:
    database = make()
    assert not database.may_hold_something
    assert not path.exists()
    await write(database, "1")
    assert await read(database) == 1
    assert database.may_hold_something
    await database.aclose()
    assert await read(make()) == 1
    with pytest.raises(Unavailable, match="shutting down"):
        await read(database)


async def test_what_raises_writes_nothing(make: Make) -> None:
    database = make()
    with suppress(ZeroDivisionError):
        async with database.writing() as connection:
            await connection.execute(text("INSERT INTO model_jobs (id, job) VALUES ('1', '')"))
            raise ZeroDivisionError
    assert await read(database) == 0


async def test_reading_goes_on_beside_writing(make: Make) -> None:
    database = make()
    await write(database, "1")
    async with database.writing() as connection:
        await connection.execute(text("DELETE FROM model_jobs"))
        assert await read(database) == 1
        with pytest.raises(Unavailable, match="locked"):
            await write(database, "2")
    assert await read(database) == 0


async def test_writers_wait_for_each_other(make: Make) -> None:
    database = make(busy_timeout_s=10.0)
    await asyncio.gather(*(write(database, str(number)) for number in range(12)))
    assert await read(database) == 12


async def test_a_locked_file_can_be_used_later(path: Path, make: Make) -> None:
    database = make()
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match="locked by another program"):
            await read(database)
        other.rollback()
    assert await read(database) == 0


async def test_a_damaged_file_stays_as_it_is(path: Path, make: Make) -> None:
    path.write_bytes(b"no database at all " * 100)
    with pytest.raises(SetupError, match="is damaged or is none"):
        await read(make())
    assert path.read_bytes() == b"no database at all " * 100


async def test_a_file_beside_which_nothing_can_be_written(path: Path, make: Make) -> None:
    database = make()
    await read(database)
    await database.aclose()
    path.with_name("state.db-wal").mkdir()
    with pytest.raises(Unavailable, match="cannot be opened"):
        await read(make())


WRITE = """
import asyncio, sys
from pathlib import Path
from sqlalchemy import text
from localai.mesh.errors import Unavailable
from localai.node.database.address import file_address
from localai.node.database.database import Database

async def main():
    database = Database(file_address(Path(sys.argv[1])), busy_timeout_s=0.0)
    try:
        async with database.writing() as connection:
            await connection.execute(text("INSERT INTO model_jobs (id, job) VALUES ('1', '')"))
    except Unavailable as error:
        print(error.message)
    finally:
        await database.aclose()

asyncio.run(main())
"""
AS_A_USER = ("setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override")
"""Root without its right to write to everything."""


async def test_a_file_that_cannot_be_written_to(path: Path, make: Make) -> None:
    database = make()
    await read(database)
    await database.aclose()
    path.chmod(0o400)
    words = [*(AS_A_USER if os.geteuid() == 0 else ()), sys.executable, "-c", WRITE, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert "cannot be written to" in done.stdout


async def test_a_newer_file_is_refused(path: Path, make: Make) -> None:
    database = make()
    async with database.writing() as connection:
        await connection.execute(text("INSERT INTO schema_version VALUES (1000)"))
    with pytest.raises(SetupError, match="newer version of localai: it has step 1000"):
        await read(make())


async def test_a_folder_in_its_place(path: Path, make: Make) -> None:
    path.mkdir()
    with pytest.raises(Unavailable, match=r"state\.db cannot be"):
        await read(make())
    path.rmdir()
    with pytest.raises(Unavailable, match="no such file or directory"):
        await read(Database(file_address(path / "none" / "state.db")))


async def test_a_server_that_does_not_answer() -> None:
    database = Database(parse_database_url(Secret("postgres://u:hush@127.0.0.1:1/n")))
    assert database.may_hold_something
    with pytest.raises((Unavailable, SetupError)) as caught:  # the driver is an extra
        await read(database)
    assert "hush" not in caught.value.message + caught.value.detail
    await database.aclose()
