from __future__ import annotations

from pathlib import Path

from sqlalchemy import create_engine, inspect

from localai.node.database.migrations.m0001_model_jobs import migrate
from localai.node.gallery.job_table import JOBS


def test_it_makes_what_the_owner_reads(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/x.db")
    with engine.begin() as connection:
        migrate(connection)
        made = {column["name"]: column["nullable"] for column in inspect(connection).get_columns(JOBS.name)}
    engine.dispose()
    assert made == {column.name: column.nullable for column in JOBS.columns}
