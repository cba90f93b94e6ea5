from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.api.dialects.answer import AnswerHead
from localai.api.dialects.chat import ChatRenderer, parse_chat
from localai.api.schemas.openai_requests import ChatBody
from localai.mesh.errors import Category, InvalidRequest, LocalAIError, Unsupported
from localai.node.answer_rules import AnswerRules
from localai.node.inference import ChatInput, ChatMessage, Failed, GenerateRequest, RequestId, Sampling, Timings, Usage
from localai.node.output_parser import AnswerEvent, AnswerFinished, AnswerStarted, ChoiceFinished, TextDelta
from localai.node.request_defaults import RequestDefaults

HELLO = [{"role": "user", "content": "hi"}]
LOST = Failed(Category.UNAVAILABLE, "worker_lost", "It died.")


def parse(**fields: Any) -> GenerateRequest:
    return parse_chat(msgspec.convert({"messages": HELLO, **fields}, ChatBody), RequestId("r"), "m")


def test_a_plain_request() -> None:
    assert parse() == GenerateRequest(RequestId("r"), "m", ChatInput((ChatMessage("user", "hi"),)), Sampling())


def test_content_may_be_parts_or_nothing_and_developers_are_the_system() -> None:
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None},
        {"role": "user"},
    ]
    assert parse(messages=messages).prompt == ChatInput(
        (ChatMessage("system", "ab"), ChatMessage("assistant", ""), ChatMessage("user", ""))
    )


def test_the_newer_token_limit_wins() -> None:
    assert parse(max_tokens=5).max_tokens == 5
    assert parse(max_tokens=5, max_completion_tokens=7).max_tokens == 7


def test_other_fields() -> None:
    request = parse(n=3, stop=["a"], ignore_eos=True, temperature=0.5, user="u", tool_choice="auto", logprobs=False)
    assert (request.choices, request.stop, request.ignore_eos, request.sampling.temperature) == (3, ("a",), True, 0.5)


def test_the_request_goes_before_the_definition() -> None:
    defaults = RequestDefaults(Sampling(temperature=0.1), max_tokens=9, choices=2, ignore_eos=True)
    asked = msgspec.convert({"messages": HELLO}, ChatBody)
    request = parse_chat(asked, RequestId("r"), "m", defaults)
    assert (request.sampling, request.max_tokens, request.choices, request.ignore_eos) == (
        defaults.sampling,
        9,
        2,
        True,
    )
    asked = msgspec.convert(
        {"messages": HELLO, "temperature": 0, "max_tokens": 3, "n": 1, "ignore_eos": False}, ChatBody
    )
    request = parse_chat(asked, RequestId("r"), "m", defaults)
    assert (request.sampling, request.max_tokens, request.choices, request.ignore_eos) == (
        Sampling(temperature=0),
        3,
        1,
        False,
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"temperature": 3}, "temperature"),
        ({"max_completion_tokens": -5}, "max_completion_tokens"),
        ({"n": 0}, "n"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"functions": [{}]}, "functions"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"grammar": "root ::= x"}, "grammar"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
    ],
)
def test_what_is_not_built_yet_is_refused_and_not_ignored(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        parse(**fields)
    assert caught.value.param == param


def head(choices: int = 1, *, include_usage: bool = False) -> AnswerHead:
    return AnswerHead("chatcmpl-1", 7, "m", choices, include_usage)


def stream(renderer: ChatRenderer, answers: list[AnswerEvent]) -> list[Any]:
    """Decoded payloads of a stream."""
    payloads = [event.data for answer in answers for event in renderer.stream(answer)]
    return [json.loads(data) if data != b"[DONE]" else "[DONE]" for data in payloads]


ANSWER: list[AnswerEvent] = [
    AnswerStarted(3),
    TextDelta(0, "Hel"),
    TextDelta(0, "lo"),
    ChoiceFinished(0, "stop"),
    AnswerFinished(Usage(3, 2, 1), Timings()),
]


def test_a_stream_in_openais_order() -> None:
    chunks = stream(ChatRenderer(head(include_usage=True)), ANSWER)
    assert [chunk["choices"] for chunk in chunks[:-1]] == [
        [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None, "logprobs": None}],
        [{"index": 0, "delta": {"content": "Hel"}, "finish_reason": None, "logprobs": None}],
        [{"index": 0, "delta": {"content": "lo"}, "finish_reason": None, "logprobs": None}],
        [{"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": None}],
        [],
    ]
    assert [chunk["usage"] for chunk in chunks[:4]] == [None] * 4
    assert chunks[4]["usage"]["total_tokens"] == 5
    assert chunks[5] == "[DONE]"
    assert all(
        (c["id"], c["object"], c["created"], c["model"]) == ("chatcmpl-1", "chat.completion.chunk", 7, "m")
        for c in chunks[:5]
    )


def test_usage_is_left_out_unless_asked_for() -> None:
    chunks = stream(ChatRenderer(head()), ANSWER)
    assert len(chunks) == 5
    assert all("usage" not in chunk for chunk in chunks[:-1])


def test_an_empty_answer_still_has_its_role_and_reason() -> None:
    chunks = stream(ChatRenderer(head(2)), [ChoiceFinished(0, "stop"), ChoiceFinished(1, "length"), ANSWER[-1]])
    assert [chunk["choices"][0]["delta"] for chunk in chunks[:-1]] == [
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": ""},
        {},
        {},
    ]


def test_a_failure_inside_a_stream_is_an_error_event_and_the_end() -> None:
    *_, error, done = stream(ChatRenderer(head()), [*ANSWER[:2], LOST])
    assert error["error"]["code"] == "worker_lost"
    assert error["error"]["message"] == "It died."
    assert done == "[DONE]"


def test_rules_of_the_definition() -> None:
    rules = AnswerRules(cut=("l+",), prefix="> ")
    answers: list[AnswerEvent] = [
        TextDelta(0, "Hello"),
        ChoiceFinished(0, "stop"),
        AnswerFinished(Usage(1, 1), Timings()),
    ]
    body = ChatRenderer(head(), rules).whole(answers)
    assert body.choices[0].message.content == "> Heo"
    chunks = stream(ChatRenderer(head(), rules), answers)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "> "}, {"content": "Hello"}, {}]


def test_a_whole_answer() -> None:
    body = msgspec.to_builtins(ChatRenderer(head()).whole(ANSWER))
    assert body["object"] == "chat.completion"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"content": "Hello", "role": "assistant", "refusal": None},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ]
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}
    with pytest.raises(LocalAIError):
        ChatRenderer(head()).whole([LOST])


@st.composite
def answers(draw: st.DrawFn) -> tuple[int, list[AnswerEvent]]:
    """What an exchange gives: deltas, then an end for every choice, or a failure at any point."""
    choices = draw(st.integers(1, 3))
    deltas = draw(st.lists(st.builds(TextDelta, st.integers(0, choices - 1), st.text(min_size=1, max_size=4))))
    events: list[AnswerEvent] = [AnswerStarted(1), *deltas]
    if draw(st.booleans()):
        return choices, [*events[: draw(st.integers(0, len(events)))], LOST]
    ends: list[AnswerEvent] = [
        ChoiceFinished(choice, draw(st.sampled_from(["stop", "length"]))) for choice in range(choices)
    ]
    return choices, [*events, *ends, AnswerFinished(Usage(1, len(deltas)), Timings())]


@given(answers(), st.booleans())
def test_any_stream_is_well_formed_and_says_what_the_whole_answer_says(
    drawn: tuple[int, list[AnswerEvent]], include_usage: bool
) -> None:
    choices, events = drawn
    chunks = stream(ChatRenderer(head(choices, include_usage=include_usage)), events)
    assert chunks.count("[DONE]") == 1
    assert chunks[-1] == "[DONE]"
    errors = [chunk for chunk in chunks[:-1] if "error" in chunk]
    if isinstance(events[-1], Failed):
        assert errors == [chunks[-2]]
        return
    assert not errors
    body = msgspec.to_builtins(ChatRenderer(head(choices)).whole(events))
    for choice in body["choices"]:
        parts = [c["choices"][0] for c in chunks[:-1] if c["choices"] and c["choices"][0]["index"] == choice["index"]]
        assert "".join(part["delta"].get("content", "") for part in parts) == choice["message"]["content"]
        assert [part["finish_reason"] for part in parts if part["finish_reason"]] == [choice["finish_reason"]]
        assert parts[0]["delta"].get("role") == "assistant"
