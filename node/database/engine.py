"""Connections to a database (shell). Imported in a thread, because SQLAlchemy takes a while."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from localai.node.database.address import DatabaseAddress
from localai.node.database.sqlite_connection import connect_sqlite

POOL_SIZE = 4
"""Connections at most. Each one to SQLite is a thread."""
POOL_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 30.0
BEGIN = "begin_with"
"""Execution option: the statement that begins a transaction of SQLite."""
BEGIN_WRITING = "BEGIN IMMEDIATE"
"""Takes SQLite's one write lock at once: a transaction that first reads and then writes would fail beside another."""
_FILE_MODE = 0o600


def open_engine(address: DatabaseAddress, *, busy_timeout_s: float) -> AsyncEngine:
    """The pool of a database; nothing is connected yet. A missing SQLite file is made, for its owner only (blocking).

    ``busy_timeout_s`` is how long a statement waits for another program that has SQLite's lock.

    Raises:
        OSError: the file cannot be made or is not ours.
        ModuleNotFoundError: there is no driver.
    """
    pool: dict[str, Any] = {
        "poolclass": AsyncAdaptedQueuePool,
        "pool_size": POOL_SIZE,
        "max_overflow": 0,
        "pool_timeout": POOL_TIMEOUT_S,
        "hide_parameters": True,
    }
    if address.path is None:
        timeouts = {"timeout": CONNECT_TIMEOUT_S, "command_timeout": COMMAND_TIMEOUT_S}
        return create_async_engine(address.url.reveal(), connect_args=timeouts, pool_pre_ping=True, **pool)
    _make_private(address.path)
    url = URL.create("sqlite+aiosqlite", database=str(address.path))
    options = {"timeout": busy_timeout_s, "async_creator_fn": connect_sqlite}
    engine = create_async_engine(url, connect_args=options, **pool)
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def driver_errors(address: DatabaseAddress) -> tuple[type[Exception], ...]:
    """What using the database may raise."""
    errors: tuple[type[Exception], ...] = (SQLAlchemyError, OSError, ModuleNotFoundError)
    if address.path is None:
        # while connecting, asyncpg's own exceptions come through as they are
        asyncpg: Any = importlib.import_module("asyncpg")
        errors = (*errors, asyncpg.PostgresError, asyncpg.InterfaceError)
    return errors


def _make_private(path: Path) -> None:
    """The files that SQLite puts beside the database get the mode of the database."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    try:
        if os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, _FILE_MODE)
    finally:
        os.close(descriptor)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # the driver would begin no transaction before CREATE TABLE; now none begins before ours
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(BEGIN, "BEGIN"))
