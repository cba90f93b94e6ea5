"""The conformance suite passes on workers that keep the promises, and notices those that do not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from localai.node.inference import Finished, GenerateRequest, Tokens
from localai.node.testing.check_worker import check_worker
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.connection import WorkerConnection, WorkerEnd
from localai.node.workers.frames import Cancel, Events, FromWorker, Load, ToWorker

LOAD = Load("unused", 4096, 4, 1)


def flowing(request: GenerateRequest) -> bytes:
    return b"Rivers run from the hills down to the sea, and the sea gives the rain back to the hills."


async def test_the_fake_worker_conforms() -> None:
    async def connect() -> WorkerConnection:
        return FakeWorker(answer=flowing)

    await check_worker(connect, LOAD)


class TwoEnds(FakeWorker):
    """Sends the terminal event twice."""

    async def receive(self) -> Sequence[FromWorker] | WorkerEnd:
        received = await super().receive()
        if isinstance(received, WorkerEnd):
            return received
        return [*received, *(frame for frame in received if isinstance(frame, Events))]


class LosesTokens(FakeWorker):
    """Drops one token of each answer."""

    async def receive(self) -> Sequence[FromWorker] | WorkerEnd:
        received = await super().receive()
        if isinstance(received, WorkerEnd):
            return received
        return [self._thin(frame) for frame in received]

    def _thin(self, frame: FromWorker) -> FromWorker:
        if not isinstance(frame, Events) or not any(isinstance(event, Finished) for _, event in frame.events):
            return frame
        return Events(tuple(item for item in frame.events if not isinstance(item[1], Tokens)))


class NeverCancels(FakeWorker):
    """Ignores Cancel."""

    def send(self, frame: ToWorker) -> None:
        if not isinstance(frame, Cancel):
            super().send(frame)


@pytest.mark.parametrize("kind", [TwoEnds, LosesTokens, NeverCancels])
async def test_broken_workers_are_noticed(kind: type[FakeWorker]) -> None:
    async def connect() -> WorkerConnection:
        return kind(answer=flowing)

    with pytest.raises(AssertionError):
        await check_worker(connect, LOAD)
