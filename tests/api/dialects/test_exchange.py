from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from localai.api.dialects.answer import AnswerHead
from localai.api.dialects.chat import ChatRenderer
from localai.api.dialects.completions import CompletionRenderer
from localai.api.dialects.exchange import Exchange, join_deltas
from localai.mesh.errors import Category
from localai.node.inference import (
    Event,
    Failed,
    Finished,
    FinishReason,
    GenerateRequest,
    Progress,
    RequestId,
    Started,
    TextInput,
    Timings,
    Tokens,
    Usage,
)
from localai.node.output_parser import AnswerEvent, AnswerFinished, AnswerStarted, ChoiceFinished, TextDelta

LOST = Failed(Category.UNAVAILABLE, "worker_lost", "It died.")


def requests(count: int, choices: int = 1) -> tuple[GenerateRequest, ...]:
    return tuple(GenerateRequest(RequestId(f"r{i}"), "m", TextInput("x"), choices=choices) for i in range(count))


def whole(text: bytes, choices: int = 1) -> list[Event]:
    tokens: list[Event] = [Tokens(choice, (1,), text) for choice in range(choices)]
    stop: FinishReason = "stop"
    return [Started("", 2), *tokens, Finished((stop,) * choices, Usage(2, 3, 1), Timings(1, 1, 1))]


def test_one_request_passes_through() -> None:
    exchange = Exchange(requests(1))
    out = exchange.feed(whole(b"hi"))
    assert out == [
        AnswerStarted(2),
        TextDelta(0, "hi"),
        ChoiceFinished(0, "stop"),
        AnswerFinished(Usage(2, 3, 1), Timings(1, 1, 1)),
    ]
    assert exchange.closed


def test_all_requests_stay_here_or_none() -> None:
    exchange = Exchange(requests(2))
    exchange.keep_here(False)
    assert exchange.requests == requests(2)
    exchange.keep_here(True)
    assert [request.local_only for request in exchange.requests] == [True, True]


def test_choices_of_later_prompts_follow_and_usage_adds_up() -> None:
    exchange = Exchange(requests(2, choices=2))
    first = exchange.feed(whole(b"a", 2))
    assert not exchange.closed
    assert not any(isinstance(answer, AnswerFinished) for answer in first)
    assert exchange.next_request() == []
    second = exchange.feed(whole(b"b", 2))
    assert [answer.choice for answer in (*first, *second) if isinstance(answer, TextDelta)] == [0, 1, 2, 3]
    assert second[-1] == AnswerFinished(Usage(4, 6, 2), Timings(2, 2, 2))


def test_a_failure_ends_everything() -> None:
    exchange = Exchange(requests(2))
    assert exchange.feed([LOST]) == [LOST]
    assert exchange.closed
    assert exchange.feed(whole(b"late")) == []


def test_a_stream_that_just_stops_is_a_failure() -> None:
    exchange = Exchange(requests(2))
    exchange.feed([Started("", 2)])
    (failed,) = exchange.next_request()
    assert isinstance(failed, Failed)
    assert exchange.closed


ANSWERS = st.lists(
    st.one_of(
        st.builds(TextDelta, st.integers(0, 2), st.text(min_size=1, max_size=3)),
        st.just(ChoiceFinished(0, "stop")),
        st.just(AnswerStarted(1)),
    ),
    max_size=12,
)


@given(ANSWERS)
def test_joining_keeps_every_text_and_every_other_event(answers: list[AnswerEvent]) -> None:
    joined = join_deltas(answers)
    for choice in range(3):
        before, after = (
            "".join(a.text for a in side if isinstance(a, TextDelta) and a.choice == choice)
            for side in (answers, joined)
        )
        assert before == after
    assert [a for a in answers if not isinstance(a, TextDelta)] == [a for a in joined if not isinstance(a, TextDelta)]
    neighbours = itertools.pairwise(joined)
    assert not any(
        isinstance(a, TextDelta) and isinstance(b, TextDelta) and a.choice == b.choice for a, b in neighbours
    )


RAW_TOKENS = st.builds(Tokens, st.integers(-1, 4), st.just((1,)), st.binary(min_size=1, max_size=5))
ENDS = st.builds(
    Finished, st.lists(st.sampled_from(["stop", "length"]), min_size=1, max_size=3).map(tuple), st.just(Usage(1, 2))
)
RAW = st.one_of(RAW_TOKENS, RAW_TOKENS, st.just(Started("d", 3)), st.just(Progress("queued")), ENDS, st.just(LOST))


@given(st.integers(1, 3), st.lists(st.lists(RAW, max_size=8), min_size=1, max_size=3), st.booleans())
def test_any_raw_events_become_one_well_formed_stream(choices: int, streams: list[list[Event]], usage: bool) -> None:
    requests = tuple(
        GenerateRequest(RequestId(str(place)), "m", TextInput("p"), choices=choices, stop=("ab",))
        for place in range(len(streams))
    )
    exchange = Exchange(requests)
    answers: list[AnswerEvent] = []
    for events in streams:
        answers += exchange.feed(events)
        if not exchange.closed:
            answers += exchange.next_request()
        if exchange.closed:
            break
    total = choices * len(requests)
    head = AnswerHead("id", 1, "m", total, usage)
    for renderer in (ChatRenderer(head), CompletionRenderer(head, ("e",) * total)):
        payloads = [event.data for answer in join_deltas(answers) for event in renderer.stream(answer)]
        assert payloads.count(b"[DONE]") == 1
        assert payloads[-1] == b"[DONE]"
        chunks = [json.loads(payload) for payload in payloads[:-1]]
        failed = isinstance(answers[-1], Failed)
        assert [place for place, chunk in enumerate(chunks) if "error" in chunk] == [len(chunks) - 1] * failed
        if not failed:
            body = msgspec.to_builtins(renderer.whole(answers))
            texts = [choice["text"] if "text" in choice else choice["message"]["content"] for choice in body["choices"]]
            assert streamed_texts(chunks, total) == texts


def streamed_texts(chunks: list[Any], count: int) -> list[str]:
    texts = [""] * count
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice.get("text", "") + choice.get("delta", {}).get("content", "")
    return texts
