"""Child processes that speak over a socketpair (shell).

A child is always exec'd, never forked from a process with threads. It gets one end of a socketpair as an inherited
descriptor, whose number is appended to its command line, and a small environment of its own: our settings and keys
stay here. Its error output is read line by line into our log, the last lines kept for the report of its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Mapping, Sequence

import structlog

from localai.mesh.errors import SetupError

_LOG = structlog.get_logger()

_KEPT_LINES = 20
_MAX_LINE_BYTES = 8192
_EXIT_TIMEOUT_S = 5.0
_KEPT_NAMES = frozenset(
    {"PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "XDG_CACHE_HOME"}
)
_SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
_KEPT_PREFIXES = ("LC_", "PYTHON", "GGML_", "LLAMA_", "CUDA_", "NVIDIA_", "OMP_", "OPENBLAS_", "COVERAGE_")


def child_environment(parent: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """The part of ``parent`` a child needs to run, with ``extra`` on top. Keys and tokens are never in it."""
    kept = {
        name: value
        for name, value in parent.items()
        if (name in _KEPT_NAMES or name.startswith(_KEPT_PREFIXES)) and not any(word in name for word in _SECRET_WORDS)
    }
    return {**kept, **extra}


class Child:
    """A running child and our end of the socketpair."""

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._name = name
        self._process = process
        self.reader = reader
        self._writer = writer
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._log_task = asyncio.create_task(self._read_log())

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def last_words(self) -> str:
        """The last lines it wrote to its error output."""
        return "\n".join(self._lines)

    def write(self, data: bytes) -> None:
        """Queue bytes for the child; dropped once the connection is closed."""
        if not self._writer.is_closing():
            self._writer.write(data)

    @property
    def unsent_bytes(self) -> int:
        """Bytes queued that the child has not taken."""
        return self._writer.transport.get_write_buffer_size()

    def close_input(self) -> None:
        """Close our end: a well-behaved child exits."""
        self._writer.close()

    def kill(self) -> None:
        """SIGKILL; harmless when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def wait(self) -> int:
        """Wait for its end, killing it after a while; get the exit code (negative: signal)."""
        self._writer.close()
        try:
            code = await asyncio.wait_for(self._process.wait(), _EXIT_TIMEOUT_S)
        except TimeoutError:
            self.kill()
            code = await self._process.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._log_task, 1.0)
        return code

    async def _read_log(self) -> None:
        stream = self._process.stderr
        if stream is None:
            return
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # longer than the limit: the reader has dropped it
                continue
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip()[:1000]
            self._lines.append(text)
            _LOG.debug("child_output", child=self._name, pid=self.pid, line=text)


async def spawn_child(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Child:
    """Start ``arguments`` with the descriptor number of its socket appended.

    Raises:
        SetupError: the program could not be started.
    """
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:
        raise _start_error(name, error) from error
    ours.setblocking(False)
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            str(theirs.fileno()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(theirs.fileno(),),
            env=dict(environment),
            limit=_MAX_LINE_BYTES,
            start_new_session=True,  # a Ctrl-C in our terminal is ours to handle
        )
    except OSError as error:
        ours.close()
        raise _start_error(name, error) from error
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    reader, writer = await asyncio.open_connection(sock=ours)
    return Child(name, process, reader, writer)


def _start_error(name: str, error: OSError) -> SetupError:
    message = f"The child process '{name}' could not be started: {os.strerror(error.errno or 0)}."
    return SetupError(message, detail=repr(error))
