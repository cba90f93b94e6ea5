"""Processes that take turns."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack

import psutil

from localai.node.testing.turns import turns

COUNT = "import sys\nfor number in range(10**9):\n    print(number, flush=True)"


def spinner(things: ExitStack) -> subprocess.Popen[bytes]:
    process = things.enter_context(subprocess.Popen([sys.executable, "-c", COUNT], stdout=subprocess.DEVNULL))
    things.callback(process.kill)
    return process


def states(*processes: subprocess.Popen[bytes]) -> list[str]:
    return [psutil.Process(process.pid).status() for process in processes]


def test_only_one_of_them_runs_and_afterwards_all() -> None:
    with ExitStack() as things:
        first, second = spinner(things), spinner(things)
        stopped: set[int] = set()
        with turns([first.pid], [second.pid], turn_s=0.001):
            deadline = time.monotonic() + 30
            while len(stopped) < 2 and time.monotonic() < deadline:
                seen = states(first, second)
                stopped |= {number for number, state in enumerate(seen) if state == psutil.STATUS_STOPPED}
        assert stopped == {0, 1}
        assert psutil.STATUS_STOPPED not in states(first, second)


def test_a_process_that_is_gone_does_not_matter() -> None:
    with ExitStack() as things:
        gone, alive = spinner(things), spinner(things)
        gone.kill()
        gone.wait()
        with turns([gone.pid], [alive.pid], turn_s=0.001):
            pass
        assert alive.poll() is None
        assert psutil.STATUS_STOPPED not in states(alive)
