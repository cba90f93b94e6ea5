"""What is expected of a candidate: properties that hold for every load and every request."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.ids import PeerId
from localai.node.inference import (
    ChatInput,
    ChatMessage,
    DetokenizeRequest,
    EmbedRequest,
    GenerateRequest,
    Prompt,
    Request,
    RequestId,
    RerankRequest,
    TextInput,
    TokenInput,
    TokenizeRequest,
)
from localai.node.routing.replica import Candidate, ReplicaLoad, Work
from localai.node.routing.score import (
    DEFAULT_OUTPUT_TOKENS,
    UNMEASURED_DECODE_TPS,
    UNMEASURED_LOAD_S,
    UNMEASURED_PROMPT_TPS,
    Speeds,
    best_speeds,
    estimate,
    estimates,
    slowdown,
    work_of,
)

speeds = st.one_of(st.just(0.0), st.floats(1e-3, 1e7))
loads = st.builds(
    ReplicaLoad,
    model=st.just("m"),
    slots=st.integers(1, 256),
    loaded=st.booleans(),
    refuses=st.booleans(),
    load_s=st.floats(0, 3600),
    prompt_tps=speeds,
    decode_tps=speeds,
)
candidates = st.builds(
    Candidate,
    peer=st.one_of(st.none(), st.text("ab", min_size=1, max_size=3).map(PeerId)),
    load=loads,
    in_flight=st.integers(0, 1000),
    round_trip_s=st.floats(0, 10),
)
works = st.builds(Work, prompt_tokens=st.integers(1, 100_000), output_tokens=st.integers(1, 20_000))
UNMEASURED = Speeds(UNMEASURED_PROMPT_TPS, UNMEASURED_DECODE_TPS)


@given(candidates, works)
def test_no_part_of_an_estimate_is_negative(candidate: Candidate, work: Work) -> None:
    made = estimate(candidate, work, UNMEASURED)
    parts = (made.wait_s, made.load_s, made.prompt_s, made.decode_s, made.round_trip_s)
    assert all(part >= 0 for part in parts)
    assert made.total_s == sum(parts)


@given(candidates, works, st.integers(1, 50))
def test_it_grows_with_what_is_in_flight(candidate: Candidate, work: Work, more: int) -> None:
    busier = replace(candidate, in_flight=candidate.in_flight + more)
    assert estimate(busier, work, UNMEASURED).total_s > estimate(candidate, work, UNMEASURED).total_s


@given(candidates, works)
def test_a_model_that_is_loaded_is_never_the_slower_one(candidate: Candidate, work: Work) -> None:
    loaded = replace(candidate, load=msgspec.structs.replace(candidate.load, loaded=True))
    assert estimate(loaded, work, UNMEASURED).total_s <= estimate(candidate, work, UNMEASURED).total_s


@given(st.lists(candidates, min_size=1, max_size=5), works)
def test_the_unmeasured_are_taken_to_be_as_fast_as_the_fastest(others: list[Candidate], work: Work) -> None:
    new = Candidate(None, ReplicaLoad("m", slots=4, loaded=True), 0)
    mine = estimates([*others, new], work)[-1]
    prompt_tps = max(each.load.prompt_tps for each in others) or UNMEASURED_PROMPT_TPS
    decode_tps = max(each.load.decode_tps for each in others) or UNMEASURED_DECODE_TPS
    assert mine.prompt_s == work.prompt_tokens / prompt_tps
    assert mine.decode_s == work.output_tokens / decode_tps


def test_nothing_measured_gives_the_defaults() -> None:
    assert best_speeds([]) == UNMEASURED
    assert best_speeds([Candidate(None, ReplicaLoad("m"), 0)]) == UNMEASURED


def test_the_parts_of_one_estimate() -> None:
    load = ReplicaLoad("m", slots=2, load_s=3.0, prompt_tps=100.0, decode_tps=10.0)
    made = estimate(Candidate(None, load, 3, 0.25), Work(50, 20), UNMEASURED)
    assert (made.load_s, made.prompt_s, made.decode_s, made.round_trip_s) == (3.0, 0.5, 2.0 * slowdown(2), 0.25)
    assert made.wait_s == 2 / 2 * (0.5 + 2.0 * slowdown(2))  # two wait, this one included, for two slots
    never_loaded = msgspec.structs.replace(load, load_s=0.0)
    assert estimate(Candidate(None, never_loaded, 0), Work(1, 1), UNMEASURED).load_s == UNMEASURED_LOAD_S


def test_slots_of_a_careless_peer_do_not_divide_by_nothing() -> None:
    assert estimate(Candidate(None, ReplicaLoad("m", slots=0), 1), Work(1, 1), UNMEASURED).wait_s > 0


def test_neighbours_slow_a_stream_down() -> None:
    assert [slowdown(streams) for streams in (0, 1)] == [1.0, 1.0]
    assert slowdown(2) < slowdown(3) < 3


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        (ChatInput((ChatMessage("user", "x" * 40), ChatMessage("assistant", ""))), 10 + 8 + 1),
        (TextInput("x" * 41), 10 + 1),
        (TokenInput((1, 2, 3)), 3 + 1),
        (TokenInput(()), 1),
    ],
)
def test_the_size_of_a_prompt(prompt: Prompt, tokens: int) -> None:
    assert work_of(GenerateRequest(RequestId("a"), "m", prompt)).prompt_tokens == tokens


@pytest.mark.parametrize(
    ("max_tokens", "choices", "expected"),
    [(None, 1, DEFAULT_OUTPUT_TOKENS), (7, 1, 7), (7, 3, 21), (2**31, 1, 4 * DEFAULT_OUTPUT_TOKENS)],
)
def test_the_size_of_an_answer(max_tokens: int | None, choices: int, expected: int) -> None:
    request = GenerateRequest(RequestId("a"), "m", TextInput(""), max_tokens=max_tokens, choices=choices)
    assert work_of(request).output_tokens == expected


@pytest.mark.parametrize(
    ("request_", "tokens"),
    [
        (EmbedRequest(RequestId("a"), "m", (TextInput("x" * 40), TokenInput((1, 2)))), 13),
        (RerankRequest(RequestId("a"), "m", "q" * 8, ("d" * 12, "d" * 12)), 11),
        (TokenizeRequest(RequestId("a"), "m", "x" * 4000), 1),
        (DetokenizeRequest(RequestId("a"), "m", (1,) * 4000), 1),
    ],
)
def test_tasks_without_an_answer_to_write(request_: Request, tokens: int) -> None:
    assert work_of(request_) == Work(tokens, 0)
