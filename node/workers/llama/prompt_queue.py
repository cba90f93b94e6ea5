"""Requests whose prompts are still to be turned into ids, between the thread that reads and the one that builds.

Building takes long for long prompts (rendering and tokenizing 1 MB: about 0.3 s), so reading goes on meanwhile, and a
request that is cancelled before its turn costs nothing. Safe from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from localai.node.inference import Request, RequestId


class PromptQueue:
    """First in, first out; at most one request is being built."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[RequestId, Request] = {}
        self._building: RequestId | None = None
        self._began = 0.0

    def put(self, request: Request) -> None:
        """Add a request at the end."""
        with self._changed:
            self._waiting[request.id] = request
            self._changed.notify()

    def take(self) -> Request:
        """Wait for the next request; it counts as being built until :meth:`built`."""
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            request = self._waiting.pop(next(iter(self._waiting)))
            self._building = request.id
            self._began = time.monotonic()
            return request

    def built(self, hand_on: Callable[[], None]) -> None:
        """The request taken last is built: hand it on, unless it was cancelled meanwhile."""
        with self._changed:
            wanted, self._building = self._building is not None, None
            if wanted:
                hand_on()

    def cancel(self, request_id: RequestId) -> bool:
        """Forget a request; False when it was handed on before, or never came."""
        with self._changed:
            if self._waiting.pop(request_id, None) is not None:
                return True
            if self._building == request_id:
                self._building = None
                return True
            return False

    def building_s(self) -> float:
        """Seconds for which the current request has been built; 0 when none is."""
        with self._changed:
            return time.monotonic() - self._began if self._building is not None else 0.0
