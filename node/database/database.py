"""The database of a node (shell). It is opened when it is first used, and again when that failed.

Whoever uses it must go on without it: no error of it may end the answering of requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from localai.mesh.errors import Unavailable
from localai.node.database.address import DatabaseAddress

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_LOG = structlog.get_logger()

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for another program that has the lock of an SQLite file."""


@dataclass(frozen=True, slots=True)
class _Opened:
    reading: AsyncEngine
    writing: AsyncEngine


class Database:
    """A pool of connections. Close it on the loop on which it was used."""

    def __init__(self, address: DatabaseAddress, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.address = address
        self._busy_timeout_s = busy_timeout_s
        self._opened: _Opened | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    @property
    def may_hold_something(self) -> bool:
        """False when it is a file that does not exist yet: then nothing need be opened to know what is in it."""
        return self.address.path is None or self.address.path.exists()

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that only reads. It ends with the block.

        Raises:
            SetupError: the database cannot be used before somebody has done something.
            Unavailable: it cannot be used now.
        """
        return self._transaction(writing=False)

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that may write: all of it counts when the block ends, nothing when the block raises.

        Raises:
            SetupError: the database cannot be used before somebody has done something.
            Unavailable: it cannot be used now.
        """
        return self._transaction(writing=True)

    async def aclose(self) -> None:
        """Close all connections. It cannot be used any more."""
        async with self._opening:
            self._closed = True
            if self._opened is not None:
                opened, self._opened = self._opened, None
                await opened.reading.dispose()

    @asynccontextmanager
    async def _transaction(self, *, writing: bool) -> AsyncIterator[AsyncConnection]:
        async with self._opening:
            opened = self._opened = self._opened or await self._open()
        from localai.node.database.engine import driver_errors
        from localai.node.database.errors import database_error

        try:
            async with (opened.writing if writing else opened.reading).begin() as connection:
                yield connection
        except driver_errors(self.address) as error:
            raise database_error(self.address, error) from error

    async def _open(self) -> _Opened:
        if self._closed:
            raise Unavailable("This node is shutting down. Try again later.")
        engine = await asyncio.to_thread(self._make_engine)  # imports a lot: the loop goes on meanwhile
        from localai.node.database.engine import BEGIN, BEGIN_WRITING, driver_errors
        from localai.node.database.errors import database_error
        from localai.node.database.schema import bring_up_to_date

        writing = engine.execution_options(**{BEGIN: BEGIN_WRITING})
        try:
            await bring_up_to_date(writing, self.address)
        except BaseException as error:
            await engine.dispose()
            if isinstance(error, driver_errors(self.address)):
                raise database_error(self.address, error) from error
            raise
        _LOG.debug("database_opened", database=self.address.shown)
        return _Opened(engine, writing)

    def _make_engine(self) -> AsyncEngine:
        from localai.node.database.engine import open_engine
        from localai.node.database.errors import database_error

        try:
            return open_engine(self.address, busy_timeout_s=self._busy_timeout_s)
        except (OSError, ImportError) as error:
            raise database_error(self.address, error) from error
