from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localai.mesh.secrets import Secret
from localai.node.database.address import DatabaseAddress, database_address, parse_database_url, url_secrets


def parse(text: str) -> DatabaseAddress:
    return parse_database_url(Secret(text))


def test_without_a_url_it_is_a_file_of_the_data_folder() -> None:
    address = database_address(None, Path("/data"))
    assert (address.path, address.shown) == (Path("/data/state.db"), "/data/state.db")


@pytest.mark.parametrize(
    ("text", "path"),
    [("sqlite:///x.db", "x.db"), ("sqlite+aiosqlite:////a/b.db", "/a/b.db"), ("sqlite:///a%20b", "a b")],
)
def test_a_file_may_be_given(text: str, path: str) -> None:
    assert database_address(Secret(text), Path("/data")).path == Path(path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+asyncpg://u:p%40ss@h:5/n", "n on h:5"),
        ("postgresql://u:p%40ss@h/n", "n on h"),
        ("postgres:///n", "n on localhost"),
        ("postgres://[::1]/n?ssl=require", "n on ::1"),
    ],
)
def test_postgres(text: str, shown: str) -> None:
    address = parse(text)
    assert (address.path, address.shown) == (None, shown)
    assert address.url.reveal() == "postgresql+asyncpg" + text[text.index(":") :]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("mysql://u:hush@h/n", "must begin with"),
        ("postgres://u:hush@h", "must name a database"),
        ("postgres://u:hush@h:port/n", "is no URL"),
        ("sqlite://hush", "three slashes"),
        ("sqlite:///x?hush=1", "three slashes"),
        ("sqlite:///", "three slashes"),
    ],
)
def test_what_is_refused_is_not_shown(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        parse(text)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


@settings(max_examples=50)
@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    for prefix in ("", "postgres://u:p@", "sqlite:///"):
        with suppress(ValueError):
            assert parse(prefix + text).shown


def test_what_must_not_show_up_in_a_log() -> None:
    url = Secret("postgres://u:p%40ss@h/n")
    assert url_secrets(url) == (url, Secret("p%40ss"), Secret("p@ss"))
    assert url_secrets(Secret("postgres://h/n")) == (Secret("postgres://h/n"),)
    assert url_secrets(None) == ()
    assert "p@ss" not in repr(parse(url.reveal()))
