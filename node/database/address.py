"""Where the database is (pure): a file in the data folder, or what ``--database-url`` says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from localai.mesh.secrets import Secret

FILENAME = "state.db"
_POSTGRES = ("postgresql+asyncpg", "postgresql", "postgres")
_SQLITE = ("sqlite+aiosqlite", "sqlite")


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """One database. ``shown`` is for people: without the password."""

    url: Secret[str]
    """As SQLAlchemy takes it. Not used for a file, whose name may hold any character."""
    shown: str
    path: Path | None = None
    """The file of an SQLite database."""


def file_address(path: Path) -> DatabaseAddress:
    """The address of an SQLite file."""
    return DatabaseAddress(Secret(""), str(path), path)


def database_address(url: Secret[str] | None, data_path: Path) -> DatabaseAddress:
    """The database of a node; without a URL a file in its data folder. ``url`` has been checked."""
    return file_address(data_path / FILENAME) if url is None else parse_database_url(url)


def parse_database_url(url: Secret[str]) -> DatabaseAddress:
    """The database of a URL: PostgreSQL, or ``sqlite:///path``.

    Raises:
        ValueError: it is no such URL. The message completes "--database-url ..." and does not show it.
    """
    text = url.reveal()
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is no URL; a special character of the password must be percent-encoded") from None
    if parts.scheme in _SQLITE:
        path = unquote(parts.path.removeprefix("/"))
        if not path or parts.netloc or parts.query:
            raise ValueError("must have three slashes and a file for SQLite, as in sqlite:///state.db")
        return file_address(Path(path))
    if parts.scheme not in _POSTGRES:
        raise ValueError("must begin with postgresql+asyncpg:// or sqlite:///")
    name = parts.path.removeprefix("/")
    if not name:
        raise ValueError("must name a database, as in postgresql+asyncpg://user:password@host/name")
    place = f"{host or 'localhost'}{f':{port}' if port else ''}"
    _scheme, _colon, rest = text.partition(":")
    return DatabaseAddress(Secret(f"{_POSTGRES[0]}:{rest}"), f"{unquote(name)} on {place}")


def url_secrets(url: Secret[str] | None) -> tuple[Secret[str], ...]:
    """The texts of a URL that must not show up in a log: itself and its password, percent-encoded and not."""
    if url is None:
        return ()
    password = urlsplit(url.reveal()).password
    return (url, *((Secret(password), Secret(unquote(password))) if password else ()))
