"""What a worker is to its supervisor: frames out, frames in, and an end.

Implemented by ``process.py`` (an exec'd child), by ``localai.node.testing.FakeWorker`` (in memory), and later by
peers and external backends. All of them pass ``localai.node.testing.check_worker``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from localai.node.workers.frames import FromWorker, ToWorker


@dataclass(frozen=True, slots=True)
class WorkerEnd:
    """How a worker ended. ``exit_code`` is negative for a signal, None where there is no process."""

    exit_code: int | None
    last_words: str = ""
    """Last lines of its error output, for logs."""

    @property
    def description(self) -> str:
        """For people: ``signal 9`` or ``exit code 1``."""
        if self.exit_code is None:
            return "connection lost"
        return f"signal {-self.exit_code}" if self.exit_code < 0 else f"exit code {self.exit_code}"


class WorkerConnection(Protocol):
    """One running worker."""

    def send(self, frame: ToWorker) -> None:
        """Queue a frame for it. Does nothing once the worker has ended.

        Raises:
            WireError: the frame is over the size limit, or cannot be encoded; nothing was sent.
            RateLimited: too much waits to be read by it already, and this is a new request; nothing was sent.
        """

    async def receive(self) -> Sequence[FromWorker] | WorkerEnd:
        """Wait for the next frames, at least one, or for the end. After the end it returns the same end again.

        A worker that breaks the protocol is killed and reported as ended.
        """

    def terminate(self) -> None:
        """Ask it to exit: closes its input."""

    def kill(self) -> None:
        """End it at once."""


Spawn: TypeAlias = Callable[[], Awaitable[WorkerConnection]]
"""Starts one worker.

Raises:
    ModelLoadFailed: the model's file cannot be used, so there is no point in a process.
    LocalAIError: the process could not be started.
"""
