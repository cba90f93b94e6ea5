"""Showing the steps of a set-up, and running their programs with a log that is shown only when they fail."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

_BAR_WIDTH = 30
_SHOWN_LINES = 25
_SPARSE_EVERY_S = 30.0

held_locks: set[int] = set()
"""Descriptors of locks that the programs we run hold with us: after a kill -9 of us, the next set-up waits for them."""


class Failed(Exception):
    """The set-up cannot go on. The message says what is wrong and what to do."""


class Report(Protocol):
    """Tells how far a step is."""

    def __call__(self, text: str, done: int = 0, total: int = 0) -> None:
        """``text`` says what is going on; with ``total``, a bar shows ``done`` of it."""


class Steps:
    """Numbered steps: one line each, live with elapsed time on a terminal, sparse elsewhere."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._number = 0
        self._live = sys.stderr.isatty()

    @contextmanager
    def step(self, title: str) -> Iterator[Report]:
        """Show one step while the block runs."""
        self._number += 1
        line = _Line(f"[{self._number}/{self._count}] {title}", self._live)
        try:
            yield line.report
        except BaseException:
            line.end("")
            raise
        line.end("done")


class _Line:
    """One step on the screen, redrawn by a thread so that the time moves on."""

    def __init__(self, title: str, live: bool) -> None:
        self._title = title
        self._live = live
        self._began = time.monotonic()
        self._text = ""
        self._ended = threading.Event()
        if not live:
            print(f"{title} ...", file=sys.stderr, flush=True)
        self._thread = threading.Thread(target=self._draw, daemon=True)
        self._thread.start()

    def report(self, text: str, done: int = 0, total: int = 0) -> None:
        if total:
            filled = _BAR_WIDTH * done // total
            text = f"{text} [{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {done}/{total}"
        self._text = text

    def end(self, word: str) -> None:
        self._ended.set()
        self._thread.join()
        seconds = f"{time.monotonic() - self._began:.0f} s"
        if self._live:
            print(f"\r\033[K{self._title} {word} {seconds}", file=sys.stderr, flush=True)
        elif word:
            print(f"{self._title} {word}, {seconds}", file=sys.stderr, flush=True)

    def _draw(self) -> None:
        while not self._ended.wait(0.5 if self._live else _SPARSE_EVERY_S):
            seconds = f"{time.monotonic() - self._began:.0f} s"
            if self._live:
                print(f"\r\033[K{self._title} {self._text} {seconds}", end="", file=sys.stderr, flush=True)
            else:
                print(f"{self._title} {self._text} {seconds}", file=sys.stderr, flush=True)


def run_logged(
    command: Sequence[str],
    problem: str,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a program quietly.

    Raises:
        Failed: it failed; the message has ``problem`` and the end of its output.
    """
    with tempfile.TemporaryFile() as log:
        try:
            code = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd, env=env, check=False,
                pass_fds=tuple(held_locks),
            ).returncode  # fmt: skip
        except OSError as error:
            raise Failed(f"{problem}: {command[0]} could not be started ({error.strerror}).") from error
        if code != 0:
            log.seek(0)
            lines = log.read().decode("utf-8", "replace").splitlines()[-_SHOWN_LINES:]
            raise Failed("\n".join([*lines, "", f"{problem} (exit code {code}); the last lines are above."]))
