"""Log set-up of every process: structlog to stderr in one of three forms, with secrets masked (shell).

Levels are those of the command line. ``trace`` is ``debug`` plus the debug lines of libraries, which
are otherwise shown one level more quietly than our own. Names of events are literal ``snake_case``; ids of
the request in hand are bound with ``structlog.contextvars.bind_contextvars``.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Literal, TextIO, cast

import structlog

from localai.mesh.secrets import MASK, Secret

if TYPE_CHECKING:
    from collections.abc import Iterable

    from structlog.typing import EventDict, Processor, WrappedLogger

LogLevel = Literal["error", "warn", "info", "debug", "trace"]
LogFormat = Literal["default", "text", "json"]

_OURS = {"error": 40, "warn": 30, "info": 20, "debug": 10, "trace": 10}
_LIBRARIES = {"error": 50, "warn": 40, "info": 30, "debug": 20, "trace": 10}

SHORTEST_REGISTERED = 4
"""Characters below which a secret's text is not searched for: masking every ``a`` would hide the log itself."""

_MAX_DEPTH = 6
_LIBRARY_RECORD = "_record"  # set and removed again by structlog's formatter; never rendered


class Redactor:
    """A structlog processor that masks secrets in every value of a line, however deep.

    Values of type ``Secret`` are masked by type. Texts given to :meth:`register` are masked wherever
    they stand inside another text, so that a token inside an address or an exception is covered too.
    """

    def __init__(self) -> None:
        self._texts: tuple[str, ...] = ()

    def register(self, secrets: Iterable[Secret[str]]) -> None:
        """Mask these texts from now on."""
        known = {*self._texts, *(secret.reveal() for secret in secrets)}
        long_enough = (text for text in known if len(text) >= SHORTEST_REGISTERED)
        self._texts = tuple(sorted(long_enough, key=len, reverse=True))

    def __call__(self, logger: WrappedLogger, method_name: str, event_dict: EventDict) -> EventDict:
        """The line with its secrets masked."""
        return {
            key: value if key == _LIBRARY_RECORD else self._clean(value, _MAX_DEPTH)
            for key, value in event_dict.items()
        }

    def _clean(self, value: object, depth: int) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return self._mask(value)
        if depth > 0 and isinstance(value, dict):
            return {self._clean(key, depth - 1): self._clean(item, depth - 1) for key, item in value.items()}
        if depth > 0 and isinstance(value, list | tuple | set | frozenset):
            return [self._clean(item, depth - 1) for item in value]
        return self._mask(MASK if isinstance(value, Secret) else repr(value))

    def _mask(self, text: str) -> str:
        for secret in self._texts:
            text = text.replace(secret, MASK)
        return text


def configure_logs(
    level: LogLevel = "info",
    form: LogFormat = "default",
    *,
    secrets: Iterable[Secret[str]] = (),
    stream: TextIO | None = None,
    colour: bool | None = None,
) -> Redactor:
    """Send structlog and the standard library's logging to ``stream`` (stderr if not given).

    ``colour`` None means: when the stream is a terminal. May be called again; the last call counts.
    Returns the redactor, for secrets that become known later.
    """
    stream = stream or sys.stderr
    redactor = Redactor()
    redactor.register(secrets)
    before = _before_rendering(redactor)
    render = _renderer(form, colour=stream.isatty() if colour is None else colour)
    structlog.configure(
        processors=[*before, render],
        wrapper_class=structlog.make_filtering_bound_logger(_OURS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    _route_standard_logging(stream, level, before, render)
    return redactor


def _before_rendering(redactor: Redactor) -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redactor,
    ]


def _renderer(form: LogFormat, *, colour: bool) -> Processor:
    match form:
        case "json":
            return structlog.processors.JSONRenderer(default=repr)
        case "text":
            return structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)
        case "default":
            plain = structlog.dev.plain_traceback
            return structlog.dev.ConsoleRenderer(colors=colour, exception_formatter=plain, pad_event_to=0)


class _OurHandler(logging.StreamHandler[TextIO]):
    """Marks the handler that a later call replaces."""


def _route_standard_logging(stream: TextIO, level: LogLevel, before: list[Processor], render: Processor) -> None:
    handler = _OurHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[cast("Processor", structlog.stdlib.add_logger_name), *before],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
            keep_exc_info=False,
        )
    )
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _OurHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(_LIBRARIES[level])
    logging.captureWarnings(capture=True)
