"""Equal time on the processor for groups of processes: they take turns, whatever the scheduler would give them.

Two busy processes of one machine get anything from 45 to 55 percent each over a few seconds. A test about machines
of equal speed needs better than that, and control groups with quotas are not there in every container.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

TURN_S = 0.02


@contextmanager
def turns(*groups: Sequence[int], turn_s: float = TURN_S) -> Iterator[None]:
    """Inside the block only one group of process ids runs at a time, each for ``turn_s`` seconds; after it all run."""
    ended = threading.Event()

    def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def take_turns() -> None:
        while not ended.is_set():
            for group in groups:
                signal_all(group, signal.SIGCONT)
                ended.wait(turn_s)
                signal_all(group, signal.SIGSTOP)

    for group in groups:
        signal_all(group, signal.SIGSTOP)
    thread = threading.Thread(target=take_turns)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        for group in groups:
            signal_all(group, signal.SIGCONT)
