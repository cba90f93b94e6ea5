"""A worker in a process of its own (shell)."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Sequence

from localai.mesh.child import Child, child_environment, spawn_child
from localai.mesh.errors import WireError
from localai.mesh.wire import FrameDecoder
from localai.node.workers.connection import WorkerEnd
from localai.node.workers.frames import FromWorker, ToWorker, from_worker_codec, to_worker_codec

_READ_BYTES = 1 << 16
_MAINS = {"llama-cpp": "localai.node.workers.llama.main"}
BACKENDS = frozenset(_MAINS)
"""Backend names this node has a worker for."""


class WorkerProcess:
    """Frames over the socketpair of one child. Implements ``WorkerConnection``."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._decoder = FrameDecoder()
        self._to_worker = to_worker_codec()
        self._from_worker = from_worker_codec()
        self._end: WorkerEnd | None = None

    @property
    def pid(self) -> int:
        """Process id, for status pages and tests."""
        return self._child.pid

    def send(self, frame: ToWorker) -> None:
        """See ``WorkerConnection.send``."""
        self._child.write(self._to_worker.encode(frame))

    async def receive(self) -> Sequence[FromWorker] | WorkerEnd:
        """See ``WorkerConnection.receive``."""
        while self._end is None:
            try:
                data = await self._child.reader.read(_READ_BYTES)
            except ConnectionError:
                data = b""
            if not data:
                self._end = WorkerEnd(await self._child.wait(), self._child.last_words)
                break
            try:
                frames = deque(self._from_worker.decode(payload) for payload in self._decoder.feed(data))
            except WireError as error:
                self.kill()
                await self._child.wait()
                self._end = WorkerEnd(None, error.message)
                break
            if frames:
                return frames
        return self._end

    def terminate(self) -> None:
        """See ``WorkerConnection.terminate``."""
        self._child.close_input()

    def kill(self) -> None:
        """See ``WorkerConnection.kill``."""
        self._child.kill()


async def spawn_worker(backend: str, model: str, threads: int) -> WorkerProcess:
    """Start the worker program of ``backend``.

    ``OMP_WAIT_POLICY=passive``: spinning OpenMP threads beside one busy neighbour cost a factor of 145.

    Raises:
        SetupError: the process could not be started.
    """
    environment = child_environment(
        os.environ,
        {
            "OMP_WAIT_POLICY": "passive",
            "OMP_NUM_THREADS": str(threads),
            "GGML_NO_BACKTRACE": "1",
            "HF_HUB_OFFLINE": "1",
        },
    )
    return WorkerProcess(await spawn_child(model, [sys.executable, "-m", _MAINS[backend]], environment))
