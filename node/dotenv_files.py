"""The ``.env`` files of the command line (shell): they fill gaps in the environment, the first file first."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that could not be used in full, and why. Shown once logging is set up."""

    path: Path
    reason: str


def env_files(cwd: Path, home: Path) -> tuple[Path, ...]:
    """Files in the order in which they count."""
    return (
        cwd / ".env",
        cwd / "localai.env",
        home / "localai.env",
        home / ".config" / "localai.env",
        Path("/etc/localai.env"),
    )


def load(cwd: Path, home: Path) -> list[Problem]:
    """Put what the files say into the environment, where it is not set yet; get what went wrong."""
    present = [path for path in env_files(cwd, home) if path.is_file()]
    return [problem for path in present for problem in _load_one(path)]


def _load_one(path: Path) -> list[Problem]:
    from dotenv import load_dotenv

    complaints = _Complaints()
    logger = logging.getLogger("dotenv.main")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(complaints)
    try:
        load_dotenv(path, override=False)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        return [Problem(path, f"skipped: {type(error).__name__}")]
    finally:
        logger.removeHandler(complaints)
        logger.propagate = propagate
    return [Problem(path, reason) for reason in complaints.reasons]


class _Complaints(logging.Handler):
    """Collects what python-dotenv would have logged before logging is set up."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.reasons.append(record.getMessage())
