"""Shows an installation to a person (shell): a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from localai.node.gallery.install_progress import InstallProgress, OnProgress, Phase

_LABELS: dict[Phase, str] = {
    "waiting": "Waiting for another process that installs",
    "downloading": "Downloading",
    "retrying": "Waiting for the server to send",
    "unpacking": "Unpacking",
    "checking": "Checking",
    "done": "Installed",
}
_LINE_EVERY_PERCENT = 25


@contextmanager
def shown_install(stream: TextIO | None = None) -> Iterator[OnProgress]:
    """The ``on_progress`` to give to an installation; its display ends with the block. Default: standard error."""
    stream = stream or sys.stderr
    if stream.isatty():
        with _bars(stream) as bars:
            yield _Bars(bars).show
    else:
        yield _Lines(stream).show


def _bars(stream: TextIO) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream),
    )


class _Bars:
    """One bar per phase of a file."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._shown: tuple[str, Phase, str] | None = None

    def show(self, progress: InstallProgress) -> None:
        if progress.phase in ("waiting", "done"):
            self._bars.console.print(f"{_LABELS[progress.phase]} {progress.model}")
            return
        if progress.phase == "retrying" and self._shown is not None:
            return  # the bar of the download stands still meanwhile
        shown = progress.model, progress.phase, progress.filename
        if shown != self._shown:
            self._shown = shown
            total = progress.total_bytes or None
            self._task = self._bars.add_task(f"{_LABELS[progress.phase]} {progress.model}", total=total)
        self._bars.update(self._task, completed=progress.done_bytes, total=progress.total_bytes or None)


class _Lines:
    """A line at the start of a phase and at each quarter of it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: tuple[str, Phase, str, int] | None = None

    def show(self, progress: InstallProgress) -> None:
        share = progress.done_bytes * 100 // progress.total_bytes if progress.total_bytes else 0
        step = progress.model, progress.phase, progress.filename, share // _LINE_EVERY_PERCENT
        if step == self._last:
            return
        self._last = step
        size = f" {progress.done_bytes >> 20} of {progress.total_bytes >> 20} MiB" if progress.total_bytes else ""
        self._stream.write(f"{_LABELS[progress.phase]} {progress.model}{size}\n")
        self._stream.flush()
