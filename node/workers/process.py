"""A worker in a process of its own (shell)."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Sequence

from localai.mesh.child import Child, child_environment, spawn_child
from localai.mesh.errors import RateLimited, WireError
from localai.mesh.wire import FrameDecoder
from localai.node.workers.connection import WorkerEnd
from localai.node.workers.frames import Ask, FromWorker, ToWorker, from_worker_codec, to_worker_codec

_READ_BYTES = 1 << 16
MAX_UNSENT_BYTES = 8 << 20
"""What may wait for a worker that does not read: bounds what clients that leave at once can make us hold."""
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
        data = self._to_worker.encode(frame)
        if isinstance(frame, Ask) and self._child.unsent_bytes + len(data) > MAX_UNSENT_BYTES:
            raise RateLimited(
                "The model's worker does not keep up with its requests. Try again soon.", retry_after_s=1.0
            )
        self._child.write(data)

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
