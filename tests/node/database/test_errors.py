from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from localai.mesh.errors import SetupError, Unavailable
from localai.mesh.secrets import Secret
from localai.node.database.address import file_address, parse_database_url
from localai.node.database.errors import database_error, newer_error

FILE = file_address(Path("/d/state.db"))
SERVER = parse_database_url(Secret("postgres://u:hush@h/n"))


def sqlite_error(code: int) -> DBAPIError:
    cause = sqlite3.OperationalError("why")
    cause.sqlite_errorcode = code
    return DBAPIError("SELECT 1", {}, cause)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (sqlite3.SQLITE_NOTADB, SetupError, "is damaged"),
        (sqlite3.SQLITE_CORRUPT | 1 << 8, SetupError, "is damaged"),
        (sqlite3.SQLITE_BUSY, Unavailable, "is locked"),
        (sqlite3.SQLITE_READONLY | 8 << 8, Unavailable, "cannot be written to"),
        (sqlite3.SQLITE_FULL, Unavailable, "Free some space"),
        (sqlite3.SQLITE_ERROR, Unavailable, "cannot be used"),
    ],
)
def test_codes_of_sqlite(code: int, kind: type[Exception], words: str) -> None:
    error = database_error(FILE, sqlite_error(code))
    assert type(error) is kind
    assert words in error.message
    assert "/d/state.db" in error.message
    assert error.detail == "OperationalError: why"


def test_other_reasons() -> None:
    assert "permission denied. Correct" in database_error(FILE, PermissionError(13, "x")).message
    assert "cannot be used: x. Correct" in database_error(FILE, OSError("x")).message
    assert "cannot be reached" in database_error(SERVER, ConnectionRefusedError()).message
    assert "n on h is busy. Try again" in database_error(SERVER, PoolTimeout()).message
    driver = database_error(SERVER, ModuleNotFoundError("asyncpg"))
    assert isinstance(driver, SetupError)
    assert "localai-mesh[postgres]" in driver.message
    assert "hush" not in driver.message + driver.detail


def test_a_newer_database() -> None:
    assert "has step 9, this program knows 2. Update localai" in newer_error(FILE, 9, 2).message
