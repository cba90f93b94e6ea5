"""A whole node in a process of its own, started as a user would start it, for end-to-end tests and benchmarks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from localai.node.testing.lan import Host

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
_READY = re.compile(r"localai is ready(?:: | on )(http://\S+)")


class NodeProcess:
    """A running ``localai run`` or ``localai federated``, on this machine or on a host of a test LAN."""

    def __init__(self, process: subprocess.Popen[str], host: Host | None = None) -> None:
        self._process = process
        self._host = host
        self._log: list[str] = []
        self._ready = threading.Event()
        self.url = ""
        self._threads = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_log, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """Process id of the node."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What it printed to standard error so far."""
        return "".join(self._log)

    def wait_ready(self) -> None:
        """Wait until it says that it is ready.

        Raises:
            AssertionError: it ended or took too long; its log is in the message.
        """
        assert self._ready.wait(START_TIMEOUT_S), f"not ready:\n{self.log}"
        assert self.url, f"ended with {self._process.wait()}:\n{self.log}"

    def workers(self) -> list[int]:
        """Process ids of its models' workers."""
        return self._children("localai.node.workers.")

    def mesh_process(self) -> int:
        """Process id of its mesh process."""
        (pid,) = self._children("localai.mesh.process")
        return pid

    def _children(self, module: str) -> list[int]:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        pids = [int(pid) for pid in children.split()]
        return [pid for pid in pids if module in Path(f"/proc/{pid}/cmdline").read_text()]

    def wait_log(self, text: str, timeout_s: float = START_TIMEOUT_S) -> str:
        """Wait until a line with ``text`` is in the log; get the first one.

        Raises:
            AssertionError: it does not come; the log is in the message.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if found := next((line for line in self._log if text in line), None):
                return found
            time.sleep(0.02)
        raise AssertionError(f"no {text!r} in the log:\n{self.log}")

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the node."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for its end; get the exit code."""
        code = self._process.wait(timeout_s)
        for thread in self._threads:
            thread.join(timeout_s)
        return code

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)
        for thread in self._threads:
            thread.join(STOP_TIMEOUT_S)

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                if found := _READY.search(line):
                    self.url = self._reachable(found[1])
                    self._ready.set()
        self._ready.set()

    def _reachable(self, url: str) -> str:
        if self._host is None:
            return url
        address, port = url.removeprefix("http://").split(":")
        return f"http://{self._host.forward(int(port), address)}"

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            self._log.extend(stream)


def node_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without settings of a node, with ``extra`` on top."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOCALAI_")}
    return {**kept, "NO_COLOR": "1", **extra}


@contextmanager
def running_node(
    folder: Path,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    *,
    command: str = "run",
    host: Host | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[NodeProcess]:
    """A node on a free port with its models and data below ``folder``; ready inside the block, gone after it.

    ``prefix`` is a command that becomes the node, such as one that gives it a small disk. When the block fails, the
    node's log is printed.
    """
    words = [*prefix, sys.executable, "-m", "localai.node.cli", command, "--address", "127.0.0.1:0", *arguments]
    process = subprocess.Popen(
        words if host is None else host.command(words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=node_environment(environment or {}),
    )
    node = NodeProcess(process, host)
    try:
        node.wait_ready()
        yield node
    except BaseException:
        print(node.log[-20_000:], file=sys.stderr)
        raise
    finally:
        if process.poll() is None:
            node.send_signal(signal.SIGTERM)
            try:
                node.wait()
            except subprocess.TimeoutExpired:
                node.kill()
                raise
