from __future__ import annotations

from pathlib import Path

from localai.node.database.address import file_address
from localai.node.database.database import Database
from localai.node.gallery.job_table import read_jobs, write_jobs


async def test_what_is_written_is_read_in_its_order(tmp_path: Path) -> None:
    database = Database(file_address(tmp_path / "state.db"))
    async with database.writing() as connection:
        await write_jobs(connection, {"b": ("job b", "request b"), "a": ("job a", None), "c": ("job c", None)})
        await write_jobs(connection, {"b": ("job b, done", None), "c": None, "none": None})
        await write_jobs(connection, {"d": ("job d", None)})
    async with database.reading() as connection:
        assert await read_jobs(connection) == [
            ("b", "job b, done", None), ("a", "job a", None), ("d", "job d", None),
        ]  # fmt: skip
    await database.aclose()
