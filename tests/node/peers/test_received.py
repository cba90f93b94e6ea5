"""What is made of a peer's words: honest ones stay as they are, hostile ones cannot harm."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import Category, InvalidRequest, WireError
from localai.mesh.ids import PeerId
from localai.node.inference import (
    MAX_CHOICES,
    MAX_INPUTS,
    MAX_TOP_LOGPROBS,
    SEEDS,
    Detokenized,
    DetokenizeRequest,
    Embedded,
    EmbedRequest,
    Event,
    Failed,
    Finished,
    FinishReason,
    GenerateRequest,
    Progress,
    Request,
    RequestId,
    RerankRequest,
    Sampling,
    Scored,
    Started,
    TextInput,
    Tokenized,
    TokenizeRequest,
    TokenLogprob,
    Tokens,
    Usage,
)
from localai.node.peers.received import (
    MAX_EVENT_BYTES,
    MAX_ID_CHARS,
    MAX_REPLICAS,
    believed_event,
    believed_replicas,
    check_request,
    check_request_id,
    is_model_name,
    shown_text,
)
from localai.node.routing.decide import decide
from localai.node.routing.replica import Candidate, ReplicaLoad, Work, in_flight_now

STOP: FinishReason = "stop"
numbers = st.integers(-(2**63), 2**64 - 1)
hostile_loads = st.builds(
    ReplicaLoad,
    model=st.text(max_size=5),
    context_size=numbers,
    slots=numbers,
    active=numbers,
    yours=numbers,
    loaded=st.booleans(),
    refuses=st.booleans(),
    load_s=st.floats(),
    prompt_tps=st.floats(),
    decode_tps=st.floats(),
)


@given(st.lists(hostile_loads, max_size=5), st.integers(1, 10**6), st.integers(1, 10**6))
def test_no_heartbeat_can_break_routing(replicas: list[ReplicaLoad], prompt: int, output: int) -> None:
    believed = believed_replicas(replicas)
    found = [Candidate(PeerId("a"), load, in_flight_now(load, 0)) for load in believed]
    choice = decide(found, Work(prompt, output), lambda _: 0)
    assert (choice is None) == (not believed)
    if choice is not None:
        assert all(0 <= each.estimate.total_s < math.inf for each in choice.considered)
    assert believed_replicas(believed) == believed


def test_an_honest_heartbeat_is_believed() -> None:
    honest = (
        ReplicaLoad("org/model-7b.Q4", 4096, 4, 3, 1, True, False, 1.5, 300.0, 30.0),
        ReplicaLoad("Ünïcode mödel", refuses=True),
    )
    assert believed_replicas(honest) == honest


def test_a_model_counts_once_and_only_so_many() -> None:
    twice = (ReplicaLoad("m", slots=1), ReplicaLoad("m", slots=2), ReplicaLoad("n"))
    assert believed_replicas(twice) == (twice[0], twice[2])
    endless = (ReplicaLoad(str(number)) for number in range(10**9))
    assert len(believed_replicas(endless)) == MAX_REPLICAS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("m", True),
        ("org/model with blanks-7B.gguf", True),
        ("x" * 256, True),
        ("", False),
        ("x" * 257, False),
        (" m", False),
        ("m\n", False),
        ("a\x1b[2Jb", False),
        ("lone \udc80", False),
        ("right\u202eleft", False),
    ],
)
def test_names_of_models(name: str, expected: bool) -> None:
    assert is_model_name(name) is expected


def test_texts_are_shown_in_one_line() -> None:
    assert shown_text("a\r\nb\x1b[31m\u2028c") == "a  b [31m c"
    assert shown_text("é" * 300, 5) == "é" * 5


REQUEST = GenerateRequest(RequestId("1"), "m", TextInput("x"))


def test_requests_that_dialects_make_pass() -> None:
    check_request(REQUEST)
    check_request_id(REQUEST)
    full = Sampling(2.0, 0.0, 2**31 - 1, 1.0, 10.0, -2.0, 2.0, SEEDS - 1)
    check_request(
        msgspec.structs.replace(
            REQUEST, sampling=full, max_tokens=1, choices=MAX_CHOICES, stop=("x" * 1000,) * 16, deadline_s=3.0
        )
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"max_tokens": 0},
        {"max_tokens": -(2**63)},
        {"choices": 0},
        {"choices": 10**9},
        {"stop": ("",)},
        {"stop": ("x",) * 17},
        {"stop": ("x" * 1001,)},
        {"weight": math.nan},
        {"weight": -1.0},
        {"weight": math.inf},
        {"deadline_s": math.nan},
        {"deadline_s": math.inf},
        {"logprobs": -1},
        {"logprobs": 21},
        {"logit_bias": ((-1, 0.0),)},
        {"logit_bias": ((1, 100.5),)},
        {"logit_bias": ((1, math.nan),)},
    ],
)
def test_requests_that_could_harm_a_worker_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_request(msgspec.structs.replace(REQUEST, **changes))
    assert caught.value.param == next(iter(changes))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, math.nan) for name in Sampling.__struct_fields__ if name not in ("top_k", "seed")),
        ("temperature", -0.1),
        ("temperature", math.inf),
        ("top_k", -1),
        ("top_k", 2**31),
        ("repeat_penalty", 0.0),
        ("seed", -1),
        ("seed", SEEDS),
    ],
)
def test_sampling_that_could_harm_a_worker_is_refused(name: str, value: float) -> None:
    sampling = msgspec.structs.replace(Sampling(), **{name: value})
    with pytest.raises(InvalidRequest) as caught:
        check_request(msgspec.structs.replace(REQUEST, sampling=sampling))
    assert caught.value.param == name


def test_other_tasks_are_bounded_too() -> None:
    text = TextInput("x")
    check_request(EmbedRequest(RequestId("a"), "m", (text,) * MAX_INPUTS, 1))
    check_request(RerankRequest(RequestId("a"), "m", "q", ("d",) * MAX_INPUTS))
    check_request(TokenizeRequest(RequestId("a"), "m", "x"))
    check_request(DetokenizeRequest(RequestId("a"), "m", (1,)))
    harmful: list[tuple[Request, str]] = [
        (EmbedRequest(RequestId("a"), "m", (text,) * (MAX_INPUTS + 1)), "input"),
        (EmbedRequest(RequestId("a"), "m", (text,), 0), "dimensions"),
        (RerankRequest(RequestId("a"), "m", "q", ("d",) * (MAX_INPUTS + 1)), "documents"),
        (TokenizeRequest(RequestId("a"), "m", "x", weight=math.inf), "weight"),
    ]
    for request, param in harmful:
        with pytest.raises(InvalidRequest) as caught:
            check_request(request)
        assert caught.value.param == param


def test_an_id_that_every_event_would_repeat_is_short() -> None:
    check_request_id(msgspec.structs.replace(REQUEST, id=RequestId("x" * MAX_ID_CHARS)))
    with pytest.raises(WireError, match="64"):
        check_request_id(msgspec.structs.replace(REQUEST, id=RequestId("x" * (MAX_ID_CHARS + 1))))


FAILED = Failed(Category.UNAVAILABLE, "peer_lost", "Try again.", "model", 1.0)


@pytest.mark.parametrize(
    "event",
    [
        Progress("prefill", 1, 2),
        Started("0" * 64, 3, 1, "0" * 64, "plain"),
        Tokens(0, (1,), b"x" * MAX_EVENT_BYTES),
        Tokens(0, (1,), b"x", (TokenLogprob(1, b"x", -1.0, ((1, b"x", -1.0),) * MAX_TOP_LOGPROBS),)),
        Embedded(MAX_INPUTS - 1, b""),
        Scored((0.5,) * MAX_INPUTS),
        Tokenized((1,)),
        Detokenized(b"x"),
        Finished((STOP,) * MAX_CHOICES, Usage(0, 0, 0)),
        FAILED,
        msgspec.structs.replace(FAILED, param=None, retry_after_s=None),
    ],
)
def test_honest_events_are_believed(event: Event) -> None:
    assert believed_event(event) == event


@pytest.mark.parametrize(
    "event",
    [
        Started("0" * 257, 3),
        Started("", 3, 0, "t" * 257),
        Started("", 3, 0, "", "p" * 257),
        Tokens(0, (1,), b"x" * (MAX_EVENT_BYTES + 1)),
        Tokens(0, (1,) * (MAX_EVENT_BYTES + 1), b""),
        Tokens(0, (1,), b"", (TokenLogprob(1, b"x", -1.0),) * (MAX_EVENT_BYTES + 1)),
        Tokens(0, (1,), b"x", (TokenLogprob(1, b"x", -1.0, ((1, b"x", -1.0),) * (MAX_TOP_LOGPROBS + 1)),)),
        Embedded(MAX_INPUTS, b""),
        Embedded(-1, b""),
        Scored((0.5,) * (MAX_INPUTS + 1)),
        Scored((math.nan,)),
        Finished((STOP,) * (MAX_CHOICES + 1), Usage(0, 0)),
        Finished(("stop",), Usage(-1, 0)),
        Finished(("stop",), Usage(0, -1)),
        Finished(("stop",), Usage(0, 0, -1)),
    ],
)
def test_events_that_no_worker_gives_break_the_protocol(event: Event) -> None:
    with pytest.raises(WireError):
        believed_event(event)


@pytest.mark.parametrize(
    ("given", "expected"), [(math.nan, None), (-1.0, None), (math.inf, 3600.0), (1e300, 3600.0), (0.0, 0.0)]
)
def test_a_failure_is_made_fit_to_be_shown(given: float, expected: float | None) -> None:
    failed = believed_event(Failed(Category.INTERNAL, "c\n" * 999, "m\x1b" * 9999, "p\0" * 999, given))
    assert isinstance(failed, Failed)
    assert failed.retry_after_s == expected
    assert failed.param is not None
    assert (len(failed.code), len(failed.message), len(failed.param)) == (256, 2000, 256)
    assert (failed.code + failed.message + failed.param).isprintable()
