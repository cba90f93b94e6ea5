"""Connections to SQLite that may be stopped more than once (shell). Imported in a thread, as the engine is.

When a task is cancelled in a transaction, SQLAlchemy closes its connection in order and stops it by force at the same
time. aiosqlite 0.22 then waits for the answer of a thread that has ended: for ever, and no cancelling ends that.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import aiosqlite

_FETCH_ROWS = 64
"""Rows that travel from the connection's thread at once; aiosqlite's own number."""


class StoppableConnection(aiosqlite.Connection):
    """A connection whose second stop waits for the first one."""

    _is_stopped = False
    _stopping: asyncio.Future[Any] | None = None

    def stop(self) -> asyncio.Future[Any] | None:
        """End the connection's thread after what waits for it. None when there is no event loop."""
        if not self._is_stopped:
            self._is_stopped = True
            self._stopping = super().stop()
        return self._stopping


def connect_sqlite(database: str, **options: Any) -> StoppableConnection:
    """A connection to be awaited, whose thread ends with the program. ``options`` are those of ``sqlite3.connect``."""
    connection = StoppableConnection(lambda: sqlite3.connect(database, **options), _FETCH_ROWS)
    connection._thread.daemon = True
    return connection
