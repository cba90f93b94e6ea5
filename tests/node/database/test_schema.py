from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from localai.mesh.errors import SetupError
from localai.node.database.address import file_address
from localai.node.database.engine import open_engine
from localai.node.database.schema import MIGRATIONS, bring_up_to_date

ADDRESS = file_address(Path("state.db"))


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(file_address(tmp_path / "state.db"), busy_timeout_s=1.0)
    yield engine
    await engine.dispose()


def first(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE a (x)"))


def second(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE b (x)"))


def broken(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE c (x)"))
    connection.execute(text("this is no statement"))


async def tables(engine: AsyncEngine) -> set[str]:
    async with engine.begin() as connection:
        return set(await connection.run_sync(lambda plain: inspect(plain).get_table_names()))


async def test_each_step_is_taken_once(engine: AsyncEngine) -> None:
    await bring_up_to_date(engine, ADDRESS, [first])
    assert await tables(engine) == {"schema_version", "a"}
    for _ in range(2):
        await bring_up_to_date(engine, ADDRESS, [first, second])
    assert await tables(engine) == {"schema_version", "a", "b"}


async def test_a_step_that_fails_leaves_nothing_and_is_taken_again(engine: AsyncEngine) -> None:
    with pytest.raises(OperationalError):
        await bring_up_to_date(engine, ADDRESS, [first, broken])
    assert await tables(engine) == {"schema_version", "a"}
    await bring_up_to_date(engine, ADDRESS, [first, second])
    assert await tables(engine) == {"schema_version", "a", "b"}


async def test_a_newer_database_is_refused(engine: AsyncEngine) -> None:
    await bring_up_to_date(engine, ADDRESS, [first, second])
    with pytest.raises(SetupError, match="newer version"):
        await bring_up_to_date(engine, ADDRESS, [first])
    assert await tables(engine) == {"schema_version", "a", "b"}


async def test_the_steps_of_this_program(engine: AsyncEngine) -> None:
    await bring_up_to_date(engine, ADDRESS)
    async with engine.begin() as connection:
        assert await connection.scalar(text("SELECT max(number) FROM schema_version")) == len(MIGRATIONS)
