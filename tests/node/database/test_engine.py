from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from localai.mesh.secrets import Secret
from localai.node.database.address import file_address, parse_database_url
from localai.node.database.engine import BEGIN, BEGIN_WRITING, POOL_SIZE, driver_errors, open_engine


async def test_how_a_file_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "state ?#%.db"
    path.touch(mode=0o644)
    engine = open_engine(file_address(path), busy_timeout_s=1.5)
    async with engine.begin() as connection:
        found = [await connection.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "busy_timeout")]
        assert found == ["wal", 1500]
        await connection.execute(text("CREATE TABLE t (x)"))
        for each in tmp_path.iterdir():
            assert stat.S_IMODE(each.stat().st_mode) == 0o600, each.name
    await engine.dispose()
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


async def test_a_transaction_holds_changes_of_tables_too(tmp_path: Path) -> None:
    engine = open_engine(file_address(tmp_path / "state.db"), busy_timeout_s=0.0)
    writing = engine.execution_options(**{BEGIN: BEGIN_WRITING})
    async with writing.connect() as connection:
        await connection.execute(text("CREATE TABLE t (x)"))
        await connection.rollback()
    async with engine.begin() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM sqlite_schema")) == 0
    await engine.dispose()


def test_errors_and_pool(tmp_path: Path) -> None:
    address = file_address(tmp_path / "state.db")
    assert OSError in driver_errors(address)
    pool = open_engine(address, busy_timeout_s=1.0).pool
    assert pool.size() == POOL_SIZE  # type: ignore[attr-defined]  # of a queue pool
    assert parse_database_url(Secret("postgres://h/n")).path is None


def test_the_program_starts_without_it() -> None:
    program = "import sys, localai.api.app, localai.node.serve; sys.exit(any('sqlalchemy' in n for n in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], env=dict(os.environ), check=False).returncode == 0
