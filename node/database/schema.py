"""Brings a database up to date (shell): the steps that it does not have yet, each in a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from sqlalchemy import Column, Connection, Integer, MetaData, Table, func, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from localai.node.database.address import DatabaseAddress
from localai.node.database.errors import newer_error
from localai.node.database.migrations import m0001_model_jobs, m0002_responses

Migration: TypeAlias = Callable[[Connection], None]
"""Makes the changes of one step inside a transaction that the caller ends."""

MIGRATIONS: tuple[Migration, ...] = (m0001_model_jobs.migrate, m0002_responses.migrate)
"""Step 1 first."""
_VERSIONS = Table("schema_version", MetaData(), Column("number", Integer, primary_key=True, autoincrement=False))
"""One row per step that was taken."""


async def bring_up_to_date(
    engine: AsyncEngine, address: DatabaseAddress, migrations: Sequence[Migration] = MIGRATIONS
) -> None:
    """Take the missing steps, in their order; step 1 is the first of ``migrations``. ``engine`` begins for writing.

    Raises:
        SetupError: the database has steps that this program does not know.
    """
    async with engine.begin() as connection:
        await connection.run_sync(_VERSIONS.create, checkfirst=True)
    for number, migration in enumerate(migrations, start=1):
        async with engine.begin() as connection:
            # read anew each time: two programs may do this at once
            found = await connection.scalar(select(func.max(_VERSIONS.c.number))) or 0
            if found > len(migrations):
                raise newer_error(address, found, len(migrations))
            if found < number:
                await connection.run_sync(migration)
                await connection.execute(insert(_VERSIONS).values(number=number))
