from __future__ import annotations

from pathlib import Path

from sqlalchemy import create_engine, inspect

from localai.api.responses_table import RESPONSES
from localai.node.database.migrations.m0002_responses import migrate


def test_it_makes_what_the_owner_reads(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/x.db")
    with engine.begin() as connection:
        migrate(connection)
        made = {column["name"]: column["nullable"] for column in inspect(connection).get_columns(RESPONSES.name)}
        indexes = {index["name"] for index in inspect(connection).get_indexes(RESPONSES.name)}
    engine.dispose()
    assert made == {column.name: column.nullable for column in RESPONSES.columns}
    assert indexes == {index.name for index in RESPONSES.indexes}
