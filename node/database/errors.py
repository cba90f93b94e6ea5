"""What is wrong with a database, in words (shell): exceptions of drivers become errors of our tree."""

from __future__ import annotations

import os
import sqlite3

from sqlalchemy.exc import DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from localai.mesh.errors import LocalAIError, SetupError, Unavailable
from localai.node.database.address import DatabaseAddress

_RETRY_S = 5.0
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_REASONS: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_BUSY: ("is locked by another program", "End that program, or wait until it is done."),
    sqlite3.SQLITE_LOCKED: ("is locked by another program", "End that program, or wait until it is done."),
    sqlite3.SQLITE_READONLY: ("cannot be written to", "Correct the permissions of the file and of its folder."),
    sqlite3.SQLITE_PERM: ("cannot be written to", "Correct the permissions of the file and of its folder."),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", "Correct the permissions of the file and of its folder."),
    sqlite3.SQLITE_FULL: ("does not fit on its disk any more", "Free some space."),
    sqlite3.SQLITE_IOERR: ("cannot be read or written", "Look after its disk."),
}


def database_error(address: DatabaseAddress, error: BaseException) -> LocalAIError:
    """The error to raise for one of a driver.

    :class:`SetupError` means that a person must do something; :class:`Unavailable` that trying again may work.
    """
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    detail = f"{type(cause).__name__}: {cause}"
    if isinstance(error, ModuleNotFoundError | NoSuchModuleError):
        message = "PostgreSQL needs the package asyncpg. Install it with: pip install 'localai-mesh[postgres]'"
        return SetupError(message, code="database_driver", detail=detail)
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    if code in _DAMAGED:
        message = (
            f"The database {address.shown} is damaged or is none. Move it away or put a backup in its place, then "
            "restart the node."
        )
        return SetupError(message, code="database_damaged", detail=detail)
    reason, advice = _REASONS.get(code, ("cannot be used", "Look at the log of this node for the reason."))
    if isinstance(error, PoolTimeout):
        reason, advice = "is busy", "Try again soon."
    elif isinstance(cause, OSError) and address.path is not None:
        reason = f"cannot be used: {os.strerror(cause.errno).lower() if cause.errno else cause}"
        advice = "Correct the permissions of the file and of its folder."
    elif isinstance(cause, OSError):
        reason, advice = "cannot be reached", "Check that it runs and that --database-url is right."
    message = f"The database {address.shown} {reason}. {advice}"
    return Unavailable(message, code="database_unavailable", detail=detail, retry_after_s=_RETRY_S)


def newer_error(address: DatabaseAddress, found: int, known: int) -> SetupError:
    """The error for a database that a newer program has brought up to date."""
    message = (
        f"The database {address.shown} is of a newer version of localai: it has step {found}, this program knows "
        f"{known}. Update localai, or give another --data-path or --database-url."
    )
    return SetupError(message, code="database_newer")
