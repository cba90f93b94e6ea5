"""Frozen settings of one node, built once from the resolved options and passed down (pure).

Nothing below ``cli.py`` reads the environment: what a part needs to know stands here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, cast, get_args

from localai.mesh.secrets import Secret
from localai.node.option_values import Address
from localai.node.options import UsageError, Value, Values

if TYPE_CHECKING:
    from collections.abc import Mapping

LogLevel: TypeAlias = Literal["error", "warn", "info", "debug", "trace"]
LogFormat: TypeAlias = Literal["default", "text", "json"]

BYTES_PER_MB = 1_000_000
"""What one MB of ``--upload-limit`` means, as in LocalAI: 15 is 15,000,000 bytes."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How much to log, and in which form."""

    level: LogLevel = "info"
    format: LogFormat = "default"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a node is told at start.

    ``models`` are references in the order given, each once. ``threads`` 0 means all cores but one;
    ``context_size`` 0 lets the node choose and -1 asks for the trained maximum; both, like
    ``f16``, are for models that do not say. ``upload_limit_bytes`` 0 means no limit. No ``api_keys``
    means that clients are not checked.
    """

    address: Address
    models_path: Path
    data_path: Path
    models: tuple[str, ...] = ()
    threads: int = 0
    context_size: int = 0
    f16: bool = False
    api_keys: tuple[Secret[str], ...] = ()
    upload_limit_bytes: int = 15 * BYTES_PER_MB
    allowed_hosts: tuple[str, ...] = ()
    allow_anonymous: bool = False
    log: LogSettings = LogSettings()


def build_settings(values: Values, models: tuple[str, ...], log: LogSettings) -> Settings:
    """Settings of ``run``. ``models`` are the positional references; they come after those of ``--models``.

    Raises:
        UsageError: a directory that the node cannot do without is switched off.
    """
    return Settings(
        address=_typed(values, "address", Address),
        models_path=_directory(values, "models_path"),
        data_path=_directory(values, "data_path"),
        models=tuple(dict.fromkeys((*_texts(values, "models"), *models))),
        threads=_typed(values, "threads", int),
        context_size=_typed(values, "context_size", int),
        f16=_typed(values, "f16", bool),
        api_keys=_secrets(values, "api_keys"),
        upload_limit_bytes=_typed(values, "upload_limit", int) * BYTES_PER_MB,
        allowed_hosts=tuple(host.lower() for host in _texts(values, "allowed_hosts")),
        allow_anonymous=_typed(values, "allow_anonymous", bool),
        log=log,
    )


def build_log_settings(values: Values, *, level_is_explicit: bool) -> LogSettings:
    """Log settings; the old ``--debug`` counts only where no level was given."""
    level = _typed(values, "log_level", str)
    if _typed(values, "debug", bool) and not level_is_explicit:
        level = "debug"
    form = _typed(values, "log_format", str)
    return LogSettings(level=cast("LogLevel", level), format=cast("LogFormat", form))


def log_choices() -> Mapping[str, tuple[str, ...]]:
    """Choices that the table must offer, by option key; a test holds the two together."""
    return {"log_level": get_args(LogLevel), "log_format": get_args(LogFormat)}


def _typed(values: Values, key: str, kind: type[T]) -> T:
    value: Value = values[key]
    if not isinstance(value, kind):
        raise TypeError(f"option {key} holds {type(value).__name__}, not {kind.__name__}")
    return value


def _directory(values: Values, key: str) -> Path:
    if values[key] is None:
        raise UsageError(f"--{key.replace('_', '-')} must name a directory, it cannot be empty")
    return Path(_typed(values, key, PurePath))


def _texts(values: Values, key: str) -> tuple[str, ...]:
    return tuple(item for item in _typed(values, key, tuple) if isinstance(item, str))


def _secrets(values: Values, key: str) -> tuple[Secret[str], ...]:
    return tuple(item for item in _typed(values, key, tuple) if isinstance(item, Secret))
