from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.api.bodies import decode_body
from localai.api.dialects.answer import AnswerHead
from localai.api.dialects.chat import ChatForm, ChatRenderer, chat_form, parse_chat
from localai.api.schemas.openai_requests import ChatBody
from localai.mesh.errors import Category, InvalidRequest, LocalAIError, Unsupported
from localai.node.answer_rules import AnswerRules
from localai.node.inference import (
    ChatInput,
    ChatMessage,
    Failed,
    GenerateRequest,
    JsonSchema,
    Media,
    RequestId,
    Sampling,
    Timings,
    TokenLogprob,
    Tool,
    Usage,
)
from localai.node.output_parser import (
    AnswerEvent,
    AnswerFinished,
    AnswerStarted,
    ChoiceFinished,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStart,
)
from localai.node.request_defaults import NO_DEFAULTS, RequestDefaults

HELLO = [{"role": "user", "content": "hi"}]
LOST = Failed(Category.UNAVAILABLE, "worker_lost", "It died.")


def parse(**fields: Any) -> GenerateRequest:
    body = decode_body(json.dumps({"messages": HELLO, **fields}).encode(), ChatBody)
    return parse_chat(body, RequestId("r"), "m")


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
        ({"reasoning_effort": "x" * 33}, "reasoning_effort"),
        ({"reasoning_effort": "lo\nw"}, "reasoning_effort"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"echo": True}, "echo"),
        ({"typical_p": 0.5}, "typical_p"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ],
)
def test_what_nothing_here_can_do_is_refused_and_not_ignored(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        parse(**fields)
    assert caught.value.param == param


def test_tools_and_how_much_to_think() -> None:
    function = {"name": "f", "parameters": {"type": "object"}}
    asked = parse(
        tools=[{"type": "function", "function": function}],
        tool_choice="required",
        parallel_tool_calls=False,
        reasoning_effort="low",
        response_format={"type": "json_object"},
    )
    assert asked.prompt == ChatInput(
        (ChatMessage("user", "hi"),),
        tools=(Tool("f", parameters='{"type": "object"}'),),
        tool_choice="required",
        parallel_tool_calls=False,
        reasoning_effort="low",
    )
    assert asked.constraint == JsonSchema()


def test_thinking_is_turned_off_as_localais_clients_do() -> None:
    off = {"metadata": {"enable_thinking": "false"}}
    efforts = [
        parse(**fields).prompt for fields in (off, {**off, "reasoning_effort": "high"}, {"metadata": {"a": "b"}})
    ]
    assert [prompt.reasoning_effort for prompt in efforts if isinstance(prompt, ChatInput)] == ["none", "high", ""]


def test_fields_that_change_nothing_here_are_taken() -> None:
    extras = {
        "backend": "x",
        "store": True,
        "service_tier": "auto",
        "user": "u",
        "mirostat": 2,
        "tfz": 1,
        "typical_p": 1,
    }
    more = {
        "modalities": ["text"],
        "n_keep": 0,
        "batch": 0,
        "echo": False,
        "negative_prompt": "x",
        "metadata": {"k": "v"},
    }
    assert parse(**extras, **more) == parse()


def test_probabilities_biases_and_media() -> None:
    asked = parse(logprobs=True, top_logprobs=3, logit_bias={"7": -100, "3": 1.5})
    assert (asked.logprobs, asked.logit_bias) == (3, ((3, 1.5), (7, -100.0)))
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/x"}}
    body = decode_body(json.dumps({"messages": [{"role": "user", "content": [picture]}]}).encode(), ChatBody)
    prompt = parse_chat(body, RequestId("r"), "m", NO_DEFAULTS, {"https://example.org/x": b"x"}).prompt
    assert isinstance(prompt, ChatInput)
    assert prompt.messages[0].media == (Media("image", b"x"),)


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
        {},
        {"role": "assistant", "content": ""},
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
            "message": {"content": "Hello", "role": "assistant", "refusal": None, "annotations": ()},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ]
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}
    with pytest.raises(LocalAIError):
        ChatRenderer(head()).whole([LOST])


CALLING: list[AnswerEvent] = [
    ReasoningDelta(0, "Hm."),
    ToolCallStart(0, 0, "call_1", "f"),
    ToolArgumentsDelta(0, 0, '{"a":'),
    ToolArgumentsDelta(0, 0, "1}"),
    ToolCallStart(0, 1, "call_2", "g"),
    ToolArgumentsDelta(0, 1, "{}"),
    ChoiceFinished(0, "stop", called_tools=True),
    AnswerFinished(Usage(3, 2), Timings()),
]


def test_calls_and_reasoning_in_a_whole_answer() -> None:
    choice = msgspec.to_builtins(ChatRenderer(head()).whole(CALLING))["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "content": None,
        "role": "assistant",
        "refusal": None,
        "annotations": (),
        "reasoning": "Hm.",
        "reasoning_content": "Hm.",
        "tool_calls": (
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
            {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ),
    }


def test_calls_and_reasoning_in_a_stream() -> None:
    chunks = stream(ChatRenderer(head(), AnswerRules(prefix="> ")), CALLING)
    assert [chunk["choices"][0]["delta"] for chunk in chunks[:-1]] == [
        {"role": "assistant", "content": ""},
        {"reasoning": "Hm.", "reasoning_content": "Hm."},
        {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
        {"tool_calls": [{"index": 1, "id": "call_2", "type": "function", "function": {"name": "g", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert stream(ChatRenderer(head()), CALLING[1:])[0]["choices"][0]["delta"] == {"role": "assistant", "content": None}


def test_the_older_form_has_one_call() -> None:
    form = ChatForm(is_legacy=True)
    choice = msgspec.to_builtins(ChatRenderer(head(), form=form).whole(CALLING))["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert "tool_calls" not in choice["message"]
    chunks = stream(ChatRenderer(head(), form=form), CALLING[1:])
    assert [chunk["choices"][0]["delta"] for chunk in chunks[:-1]] == [
        {"role": "assistant", "content": None},
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": '{"a":'}},
        {"function_call": {"arguments": "1}"}},
        {},
    ]
    assert chunks[-2]["choices"][0]["finish_reason"] == "function_call"


def test_an_answer_that_was_cut_is_not_to_be_acted_on() -> None:
    cut: list[AnswerEvent] = [*CALLING[:-2], ChoiceFinished(0, "length", called_tools=True), CALLING[-1]]
    assert ChatRenderer(head()).whole(cut).choices[0].finish_reason == "length"
    assert stream(ChatRenderer(head()), cut)[-2]["choices"][0]["finish_reason"] == "length"


def test_probabilities_come_whole_and_in_streams_if_asked_for() -> None:
    likely = TokenLogprob(1, b"a", -0.5)
    answers: list[AnswerEvent] = [TextDelta(0, "a", (likely,)), ChoiceFinished(0, "stop"), ANSWER[-1]]
    shown = {"content": [{"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": []}], "refusal": None}
    for asked, expected in ((True, shown), (False, None)):
        form = ChatForm(has_logprobs=asked)
        body = json.loads(msgspec.json.encode(ChatRenderer(head(), form=form).whole(answers)))
        assert body["choices"][0]["logprobs"] == expected
        chunks = stream(ChatRenderer(head(), form=form), answers)
        assert [chunk["choices"][0]["logprobs"] for chunk in chunks[:-1]] == [None, expected, None]


def test_times_are_told_to_who_asks() -> None:
    timed = [*ANSWER[:-1], AnswerFinished(Usage(3, 2), Timings(1.0, 0.25, 0.5))]
    asked = AnswerHead("chatcmpl-1", 7, "m", 1, include_usage=True, with_timings=True)
    usage = msgspec.to_builtins(ChatRenderer(asked).whole(timed))["usage"]
    assert (usage["timing_prompt_processing"], usage["timing_token_generation"]) == (250.0, 500.0)
    assert stream(ChatRenderer(asked), timed)[-2]["usage"] == usage
    assert "timing_prompt_processing" not in msgspec.to_builtins(ChatRenderer(head()).whole(timed))["usage"]


def test_how_an_answer_is_shown() -> None:
    tool, function = {"function": {"name": "f"}}, {"name": "f"}
    for fields, form in (
        ({}, ChatForm()),
        ({"logprobs": True, "tools": [tool]}, ChatForm(has_logprobs=True)),
        ({"functions": [function]}, ChatForm(is_legacy=True)),
        ({"functions": [function], "tools": [tool]}, ChatForm()),
    ):
        assert chat_form(decode_body(json.dumps(fields).encode(), ChatBody)) == form


@st.composite
def answers(draw: st.DrawFn) -> tuple[int, list[AnswerEvent]]:
    """What an exchange gives: deltas, then an end for every choice, or a failure at any point."""
    choices = draw(st.integers(1, 3))
    calls = [0] * choices
    events: list[AnswerEvent] = [AnswerStarted(1)]
    some = st.text(min_size=1, max_size=4)
    for kind, choice in draw(st.lists(st.tuples(st.sampled_from("trca"), st.integers(0, choices - 1)), max_size=12)):
        match kind:
            case "t":
                text = draw(some)
                events.append(TextDelta(choice, text, (TokenLogprob(1, text.encode(), -0.5),)))
            case "r":
                events.append(ReasoningDelta(choice, draw(some)))
            case "c":
                events.append(ToolCallStart(choice, calls[choice], f"call_{choice}_{calls[choice]}", "f"))
                calls[choice] += 1
            case _ if calls[choice]:
                events.append(ToolArgumentsDelta(choice, calls[choice] - 1, draw(some)))
    if draw(st.booleans()):
        return choices, [*events[: draw(st.integers(0, len(events)))], LOST]
    ends: list[AnswerEvent] = [
        ChoiceFinished(choice, draw(st.sampled_from(["stop", "stop_string", "length"])), None, calls[choice] > 0)
        for choice in range(choices)
    ]
    return choices, [*events, *ends, AnswerFinished(Usage(1, len(events)), Timings())]


def folded(parts: list[Any]) -> dict[str, Any]:
    """One choice as a client puts it together."""
    message: dict[str, Any] = {
        "content": None,
        "reasoning": "",
        "tool_calls": [],
        "function_call": None,
        "logprobs": [],
    }
    for part in parts:
        delta = part["delta"]
        if (content := delta.get("content")) is not None:
            message["content"] = (message["content"] or "") + content
        message["reasoning"] += delta.get("reasoning", "")
        assert delta.get("reasoning") == delta.get("reasoning_content")
        for call in delta.get("tool_calls", []):
            if "id" in call:
                assert call["index"] == len(message["tool_calls"])
                message["tool_calls"].append({"id": call["id"], "type": call["type"], "function": call["function"]})
            else:
                message["tool_calls"][call["index"]]["function"]["arguments"] += call["function"]["arguments"]
        if function := delta.get("function_call"):
            known = message["function_call"] or {"name": function["name"], "arguments": ""}
            message["function_call"] = {**known, "arguments": known["arguments"] + function["arguments"]}
        message["logprobs"] += (part["logprobs"] or {"content": []})["content"]
    return message


FORMS = st.builds(ChatForm, st.booleans(), st.booleans())


@given(answers(), st.booleans(), FORMS, st.sampled_from(["", "> "]))
def test_any_stream_is_well_formed_and_says_what_the_whole_answer_says(
    drawn: tuple[int, list[AnswerEvent]], include_usage: bool, form: ChatForm, prefix: str
) -> None:
    choices, events = drawn
    rules = AnswerRules(prefix=prefix)
    chunks = stream(ChatRenderer(head(choices, include_usage=include_usage), rules, form), events)
    assert chunks.count("[DONE]") == 1
    assert chunks[-1] == "[DONE]"
    errors = [chunk for chunk in chunks[:-1] if "error" in chunk]
    if isinstance(events[-1], Failed):
        assert errors == [chunks[-2]]
        return
    assert not errors
    body = json.loads(msgspec.json.encode(ChatRenderer(head(choices), rules, form).whole(events)))
    for choice in body["choices"]:
        parts = [c["choices"][0] for c in chunks[:-1] if c["choices"] and c["choices"][0]["index"] == choice["index"]]
        said = folded(parts)
        message = choice["message"]
        assert (said["content"] or "") == (message["content"] or "")
        assert said["reasoning"] == message.get("reasoning", "")
        assert said["tool_calls"] == message.get("tool_calls", [])
        assert said["function_call"] == message.get("function_call")
        assert said["logprobs"] == (choice["logprobs"] or {"content": []})["content"]
        assert [part["finish_reason"] for part in parts if part["finish_reason"]] == [choice["finish_reason"]]
        assert [part["delta"].get("role") for part in parts] == ["assistant", *[None] * (len(parts) - 1)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "name", "a"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(ChatBody.__struct_fields__), JSON, max_size=5))
def test_any_body_is_a_request_or_an_error_of_ours(fields: dict[str, Any]) -> None:
    try:
        request = parse(**fields)
    except (InvalidRequest, Unsupported):
        return
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=GenerateRequest) == request
