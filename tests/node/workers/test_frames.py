from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import Category, WireError
from localai.mesh.wire import FrameDecoder
from localai.node.inference import (
    ChatInput,
    ChatMessage,
    Failed,
    Finished,
    GenerateRequest,
    Progress,
    RequestId,
    Sampling,
    Started,
    TextInput,
    Timings,
    TokenInput,
    Tokens,
    Usage,
)
from localai.node.workers.frames import (
    Ask,
    Cancel,
    Events,
    FromWorker,
    Heartbeat,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
    ModelFacts,
    ToWorker,
    from_worker_codec,
    to_worker_codec,
)

FAILED = Failed(Category.TIMEOUT, "timeout", "Slow.", "model", 1.5)
REQUESTS = [
    GenerateRequest(RequestId("a"), "m", ChatInput((ChatMessage("user", "hé"),)), stop=("x",), choices=2),
    GenerateRequest(RequestId("b"), "m", TextInput("t"), Sampling(seed=2**32 - 1), max_tokens=5, deadline_s=1.0),
    GenerateRequest(RequestId("c"), "m", TokenInput((1, 2, 3)), local_only=True, caller="me", weight=2.0),
]
TO_WORKER: list[ToWorker] = [Load("p", 1, 2, 3), Cancel(RequestId("a")), *map(Ask, REQUESTS)]
FROM_WORKER: list[FromWorker] = [
    Hello(1, "llama-cpp", 7),
    LoadProgress(500),
    Loaded(ModelFacts(1, 2, 3, 4, "d", True)),
    LoadFailed(FAILED),
    Heartbeat(1, 2, 0.5, 3, 4),
    Events(
        (
            (RequestId("a"), Progress("prefill", 1, 2)),
            (RequestId("a"), Started("d", 1, 2, "t", "p")),
            (RequestId("a"), Tokens(1, (1, 2), b"\xff\x00")),
            (RequestId("a"), Finished(("stop", "length"), Usage(1, 2, 3), Timings(1.0, 2.0, 3.0))),
            (RequestId("b"), FAILED),
        )
    ),
]


@pytest.mark.parametrize("frame", TO_WORKER)
def test_frames_to_a_worker_survive(frame: ToWorker) -> None:
    (payload,) = FrameDecoder().feed(to_worker_codec().encode(frame))
    assert to_worker_codec().decode(payload) == frame


@pytest.mark.parametrize("frame", FROM_WORKER)
def test_frames_from_a_worker_survive(frame: FromWorker) -> None:
    (payload,) = FrameDecoder().feed(from_worker_codec().encode(frame))
    assert from_worker_codec().decode(payload) == frame


def test_a_newer_worker_may_say_more_than_we_know() -> None:
    """Fields are appended with defaults, so both neighbours of a version understand each other."""
    longer = b"\x95\xa5hello\x01\xa9llama-cpp\x07\xa3new"
    assert from_worker_codec().decode(longer) == Hello(1, "llama-cpp", 7)
    shorter = b"\x93\xa9heartbeat\x01\x02"
    assert from_worker_codec().decode(shorter) == Heartbeat(1, 2)


@given(st.binary(max_size=200))
def test_random_bytes_are_wire_errors(data: bytes) -> None:
    for codec in (to_worker_codec(), from_worker_codec()):
        try:
            codec.decode(data)
        except WireError:
            continue
