from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.api.dialects.answer import AnswerHead
from localai.api.dialects.completions import MAX_PROMPTS, CompletionRenderer, echoed_texts, parse_completion
from localai.api.schemas.openai_requests import CompletionBody
from localai.mesh.errors import Category, InvalidRequest, LocalAIError, Unsupported
from localai.node.answer_rules import AnswerRules
from localai.node.inference import Failed, GenerateRequest, RequestId, TextInput, Timings, TokenInput, Usage
from localai.node.output_parser import AnswerEvent, AnswerFinished, AnswerStarted, ChoiceFinished, TextDelta
from localai.node.request_defaults import RequestDefaults

LOST = Failed(Category.UNAVAILABLE, "worker_lost", "It died.")


def body(**fields: Any) -> CompletionBody:
    return msgspec.convert({"prompt": "abc", **fields}, CompletionBody)


def parse(**fields: Any) -> tuple[GenerateRequest, ...]:
    return parse_completion(body(**fields), RequestId("r"), "m")


def test_a_plain_request() -> None:
    assert parse(max_tokens=3, n=2, stop="x", ignore_eos=True, best_of=2) == (
        GenerateRequest(RequestId("r"), "m", TextInput("abc"), max_tokens=3, choices=2, stop=("x",), ignore_eos=True),
    )


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", [TextInput("a")]),
        (["a"], [TextInput("a")]),
        (["a", "b"], [TextInput("a"), TextInput("b")]),
        ([1, 2], [TokenInput((1, 2))]),
        ([[1], [2, 3]], [TokenInput((1,)), TokenInput((2, 3))]),
        (["a", [1]], [TextInput("a"), TokenInput((1,))]),
    ],
)
def test_every_form_of_prompt(prompt: Any, prompts: list[Any]) -> None:
    requests = parse(prompt=prompt)
    assert [request.prompt for request in requests] == prompts
    assert len({request.id for request in requests}) == len(prompts)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", ""]}, "prompt[1]"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [[1], [2**40]]}, "prompt[1]"),
        ({"prompt": ["a"] * (MAX_PROMPTS + 1)}, "prompt"),
        ({"prompt": [1], "echo": True}, "echo"),
        ({"max_tokens": -7}, "max_tokens"),
        ({"top_p": 2}, "top_p"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "field",
    [
        {"suffix": "x"},
        {"best_of": 2},
        {"logprobs": 0},
        {"grammar": "x"},
        {"logit_bias": {"1": 1}},
        {"response_format": 1},
    ],
)
def test_what_is_not_built_yet_is_refused(field: dict[str, Any]) -> None:
    with pytest.raises(Unsupported) as caught:
        parse(**field)
    assert caught.value.param in field


def test_echo_gives_each_choice_the_text_of_its_prompt() -> None:
    asked = body(prompt=["a", "b"], n=2, echo=True)
    requests = parse_completion(asked, RequestId("r"), "m")
    assert echoed_texts(asked, requests) == ("a", "a", "b", "b")
    silent = body(prompt=["a", "b"])
    assert echoed_texts(silent, parse_completion(silent, RequestId("r"), "m")) == ("", "")


def test_the_definition_may_ask_for_echo_and_choices() -> None:
    defaults = RequestDefaults(choices=2, max_tokens=4, echo=True)
    silent = body(prompt="a", best_of=2)
    requests = parse_completion(silent, RequestId("r"), "m", defaults)
    assert (requests[0].choices, requests[0].max_tokens) == (2, 4)
    assert echoed_texts(silent, requests, defaults) == ("a", "a")
    assert echoed_texts(body(prompt="a", echo=False), requests, defaults) == ("", "")


def test_rules_of_the_definition() -> None:
    rules = AnswerRules(cut=("l+",), prefix="> ")
    assert CompletionRenderer(head(), ("all ",), rules).whole(ANSWER).choices[0].text == "> a Heo"
    chunks = stream(CompletionRenderer(head(), ("",), rules), ANSWER)
    assert [chunk["choices"][0]["text"] for chunk in chunks[:-1]] == ["> ", "Hel", "lo", ""]


def head(choices: int = 1, *, include_usage: bool = False) -> AnswerHead:
    return AnswerHead("cmpl-1", 7, "m", choices, include_usage)


def stream(renderer: CompletionRenderer, answers: list[AnswerEvent]) -> list[Any]:
    payloads = [event.data for answer in answers for event in renderer.stream(answer)]
    return [json.loads(data) if data != b"[DONE]" else "[DONE]" for data in payloads]


ANSWER: list[AnswerEvent] = [
    AnswerStarted(3),
    TextDelta(0, "Hel"),
    TextDelta(0, "lo"),
    ChoiceFinished(0, "length"),
    AnswerFinished(Usage(3, 2, 1), Timings()),
]


def test_a_stream_in_openais_order() -> None:
    chunks = stream(CompletionRenderer(head(include_usage=True), ("abc",)), ANSWER)
    texts = [[(c["text"], c["finish_reason"]) for c in chunk["choices"]] for chunk in chunks[:-1]]
    assert texts == [[("abc", None)], [("Hel", None)], [("lo", None)], [("", "length")], []]
    assert chunks[4]["usage"]["total_tokens"] == 5
    assert all(chunk["object"] == "text_completion" for chunk in chunks[:-1])
    assert chunks[-1] == "[DONE]"


def test_a_failure_is_an_error_event_and_the_end() -> None:
    *_, error, done = stream(CompletionRenderer(head(), ("",)), [ANSWER[1], LOST])
    assert error["error"]["code"] == "worker_lost"
    assert done == "[DONE]"
    with pytest.raises(LocalAIError):
        CompletionRenderer(head(), ("",)).whole([LOST])


@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(0, 2), st.text(min_size=1, max_size=4))),
    st.text(max_size=3),
    st.booleans(),
)
def test_any_stream_says_what_the_whole_answer_says(
    choices: int, texts: list[tuple[int, str]], echoed: str, include_usage: bool
) -> None:
    deltas: list[AnswerEvent] = [TextDelta(choice % choices, text) for choice, text in texts]
    ends: list[AnswerEvent] = [ChoiceFinished(choice, "stop") for choice in range(choices)]
    events = [*deltas, *ends, AnswerFinished(Usage(1, 2), Timings())]
    echoes = (echoed,) * choices
    chunks = stream(CompletionRenderer(head(choices, include_usage=include_usage), echoes), events)
    assert chunks.count("[DONE]") == 1
    whole = msgspec.to_builtins(CompletionRenderer(head(choices), echoes).whole(events))
    for choice in whole["choices"]:
        parts = [c["choices"][0] for c in chunks[:-1] if c["choices"] and c["choices"][0]["index"] == choice["index"]]
        assert "".join(part["text"] for part in parts) == choice["text"]
        assert [part["finish_reason"] for part in parts if part["finish_reason"]] == ["stop"]
