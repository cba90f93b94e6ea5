from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.api.bodies import decode_body
from localai.api.dialects.answer import AnswerHead
from localai.api.dialects.completions import (
    MAX_PROMPTS,
    CompletionRenderer,
    TextForm,
    completion_form,
    echoed_texts,
    parse_completion,
)
from localai.api.schemas.openai_requests import CompletionBody
from localai.mesh.errors import Category, InvalidRequest, LocalAIError, Unsupported
from localai.node.answer_rules import AnswerRules
from localai.node.inference import (
    Failed,
    GenerateRequest,
    JsonSchema,
    RequestId,
    TextInput,
    Timings,
    TokenInput,
    TokenLogprob,
    Usage,
)
from localai.node.output_parser import AnswerEvent, AnswerFinished, AnswerStarted, ChoiceFinished, TextDelta
from localai.node.request_defaults import RequestDefaults

LOST = Failed(Category.UNAVAILABLE, "worker_lost", "It died.")


def body(**fields: Any) -> CompletionBody:
    return decode_body(json.dumps({"prompt": "abc", **fields}).encode(), CompletionBody)


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
        ({"logprobs": 21}, "logprobs"),
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"best_of": 17}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"response_format": "xml"}, "response_format"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"suffix": "x"}, "suffix"), ({"logprobs": 0, "echo": True}, "logprobs"), ({"n_keep": 5}, "n_keep")],
)
def test_what_nothing_here_can_do_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        parse(**fields)
    assert caught.value.param == param


def test_the_best_of_several() -> None:
    asked = body(prompt=["a", "b"], n=1, best_of=3)
    requests = parse_completion(asked, RequestId("r"), "m")
    assert [(request.choices, request.logprobs) for request in requests] == [(3, 0), (3, 0)]
    assert completion_form(asked) == TextForm(shown=1, drawn=3)
    assert echoed_texts(asked, requests) == ("", "")
    assert parse(best_of=3, logprobs=2)[0].logprobs == 2
    assert completion_form(body(n=2, best_of=3, logprobs=2)) == TextForm(has_logprobs=True, shown=2, drawn=3)


def test_an_answer_in_form_and_with_probabilities() -> None:
    asked = parse(response_format={"type": "json_object"}, logprobs=5, suffix="", logit_bias={"1": 2})[0]
    assert (asked.constraint, asked.logprobs, asked.logit_bias) == (JsonSchema(), 5, ((1, 2.0),))


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
    assert echoed_texts(body(prompt="a", logprobs=1), requests, defaults) == ("", "")


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


def likely(text: str, logprob: float) -> tuple[TokenLogprob, ...]:
    return (TokenLogprob(1, text.encode(), logprob),)


def test_the_likeliest_are_shown() -> None:
    deltas: list[AnswerEvent] = [
        TextDelta(choice, text, likely(text, logprob))
        for choice, (text, logprob) in enumerate(
            [("a", -3.0), ("b", -1.0), ("c", -2.0), ("d", -1.0), ("e", -2.0), ("f", -0.5)]
        )
    ]
    ends: list[AnswerEvent] = [ChoiceFinished(choice, "stop") for choice in range(6)]
    form = TextForm(shown=2, drawn=3)
    events = [*deltas, *ends, AnswerFinished(Usage(2, 6), Timings())]
    answer = CompletionRenderer(head(4), ("",) * 4, form=form).whole(events)
    assert [(choice.index, choice.text) for choice in answer.choices] == [(0, "b"), (1, "c"), (2, "f"), (3, "d")]
    assert all(choice.logprobs is None for choice in answer.choices)


def test_a_backend_that_cannot_choose_the_best_is_named_with_the_field_that_was_sent() -> None:
    cannot = Failed(Category.UNSUPPORTED, "unsupported_feature", "No log probabilities.", "logprobs")
    other = Failed(Category.UNSUPPORTED, "unsupported_feature", "No logit bias.", "logit_bias")
    for failed, has_logprobs, param in (
        (cannot, False, "best_of"),
        (cannot, True, "logprobs"),
        (other, False, "logit_bias"),
    ):
        form = TextForm(has_logprobs=has_logprobs, shown=1, drawn=3)
        with pytest.raises(Unsupported, match=param if param == "best_of" else failed.message) as caught:
            CompletionRenderer(head(), ("",), form=form).whole([failed])
        assert (caught.value.param, caught.value.code) == (param, "unsupported_feature")


def test_probabilities_stand_where_their_tokens_are() -> None:
    form = TextForm(has_logprobs=True)
    answers: list[AnswerEvent] = [TextDelta(0, "é", likely("é", -0.5)), TextDelta(0, "b", likely("b", -1)), *ANSWER[3:]]
    renderer = CompletionRenderer(head(), ("",), AnswerRules(prefix="> "), form)
    whole = json.loads(msgspec.json.encode(renderer.whole(answers)))["choices"][0]
    assert whole["text"] == "> éb"
    assert whole["logprobs"] == {
        "tokens": ["é", "b"],
        "token_logprobs": [-0.5, -1.0],
        "top_logprobs": [{"é": -0.5}, {"b": -1.0}],
        "text_offset": [2, 3],
    }


def test_an_edit_says_so() -> None:
    renderer = CompletionRenderer(head(), ("",), form=TextForm("edit"))
    assert renderer.whole(ANSWER).object == "edit"
    assert {chunk["object"] for chunk in stream(renderer, ANSWER)[:-1]} == {"edit"}


def test_times_are_told_to_who_asks() -> None:
    timed = [*ANSWER[:-1], AnswerFinished(Usage(3, 2), Timings(1.0, 0.25, 0.5))]
    asked = AnswerHead("cmpl-1", 7, "m", 1, include_usage=True, with_timings=True)
    usage = msgspec.to_builtins(CompletionRenderer(asked, ("",)).whole(timed))["usage"]
    assert (usage["timing_prompt_processing"], usage["timing_token_generation"]) == (250.0, 500.0)
    assert stream(CompletionRenderer(asked, ("",)), timed)[-2]["usage"] == usage


@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(0, 2), st.text(min_size=1, max_size=4))),
    st.text(max_size=3),
    st.booleans(),
    st.booleans(),
)
def test_any_stream_says_what_the_whole_answer_says(
    choices: int, texts: list[tuple[int, str]], echoed: str, include_usage: bool, has_logprobs: bool
) -> None:
    deltas: list[AnswerEvent] = [TextDelta(choice % choices, text, likely(text, -0.5)) for choice, text in texts]
    ends: list[AnswerEvent] = [ChoiceFinished(choice, "stop") for choice in range(choices)]
    events = [*deltas, *ends, AnswerFinished(Usage(1, 2), Timings())]
    echoes, form = (echoed,) * choices, TextForm(has_logprobs=has_logprobs)
    chunks = stream(CompletionRenderer(head(choices, include_usage=include_usage), echoes, form=form), events)
    assert chunks.count("[DONE]") == 1
    whole = json.loads(msgspec.json.encode(CompletionRenderer(head(choices), echoes, form=form).whole(events)))
    for choice in whole["choices"]:
        parts = [c["choices"][0] for c in chunks[:-1] if c["choices"] and c["choices"][0]["index"] == choice["index"]]
        assert "".join(part["text"] for part in parts) == choice["text"]
        assert [part["finish_reason"] for part in parts if part["finish_reason"]] == ["stop"]
        for name, values in (choice["logprobs"] or {}).items():
            assert [value for part in parts for value in (part["logprobs"] or {}).get(name, [])] == values
