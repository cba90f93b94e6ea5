from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.api.dialects.exchange import join_deltas
from localai.api.dialects.responses import ResponseBuilder, ResponsesRenderer
from localai.api.schemas.responses_objects import Response, Status
from localai.mesh.errors import Category, LocalAIError
from localai.node.answer_rules import NO_RULES, AnswerRules
from localai.node.inference import Failed, Timings, TokenLogprob, ToolCall, Usage
from localai.node.mcp.rounds import RoundEvent, ToolRan
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

LOST = Failed(Category.UNAVAILABLE, "worker_lost", "It died.")
DONE = AnswerFinished(Usage(3, 8, 1), Timings())
STOP = ChoiceFinished(0, "stop")
CUT = ChoiceFinished(0, "length")


def head(status: Status = "in_progress") -> Response:
    return Response(id="resp_1", created_at=5, status=status, model="m")


def builder(rules: AnswerRules = NO_RULES, *, watched: bool = True) -> ResponseBuilder:
    return ResponseBuilder(head(), lambda: 9.9, rules, watched=watched)


def ignore(response: Response) -> None:
    """Nobody keeps it."""


def stream(answers: Iterable[RoundEvent], made: ResponseBuilder | None = None) -> list[Any]:
    """Decoded payloads of a stream; the names of the events are right."""
    renderer = ResponsesRenderer(made or builder(), ignore)
    sent = [event for answer in answers for event in renderer.stream(answer)]
    payloads = [json.loads(event.data) if event.data != b"[DONE]" else "[DONE]" for event in sent]
    for event, payload in zip(sent, payloads, strict=True):
        assert event.event == (payload["type"] if isinstance(payload, dict) else "")
    return payloads


def whole(answers: Iterable[RoundEvent], rules: AnswerRules = NO_RULES) -> Any:
    return json.loads(msgspec.json.encode(ResponsesRenderer(builder(rules, watched=False), ignore).whole(answers)))


def without(payload: Any, *names: str) -> Any:
    return {name: value for name, value in payload.items() if name not in ("sequence_number", *names)}


EVERYTHING: list[AnswerEvent] = [
    AnswerStarted(3),
    ReasoningDelta(0, "h"),
    ReasoningDelta(0, "m"),
    TextDelta(0, "Hel"),
    TextDelta(0, "lo"),
    ToolCallStart(0, 0, "call_1", "f"),
    ToolArgumentsDelta(0, 0, '{"a"'),
    ToolArgumentsDelta(0, 0, ":1}"),
    ToolCallStart(0, 1, "call_2", "g"),
    ToolArgumentsDelta(0, 1, "{}"),
    STOP,
    DONE,
]
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1_0",
    "status": "completed",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "hm"}],
    "encrypted_content": None,
}
TEXT = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
MESSAGE = {"type": "message", "id": "msg_1_1", "status": "completed", "role": "assistant", "content": [TEXT]}
CALLS = [
    {
        "type": "function_call",
        "id": "fc_1_2",
        "status": "completed",
        "call_id": "call_1",
        "name": "f",
        "arguments": '{"a":1}',
    },
    {
        "type": "function_call",
        "id": "fc_1_3",
        "status": "completed",
        "call_id": "call_2",
        "name": "g",
        "arguments": "{}",
    },
]


def test_a_stream_in_openais_order() -> None:
    *events, done = stream(EVERYTHING)
    assert done == "[DONE]"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    created, progress, *inner, completed = events
    assert (created["type"], progress["type"]) == ("response.created", "response.in_progress")
    assert created["response"] == progress["response"] == msgspec.to_builtins(head())
    thought = {"item_id": "rs_1_0", "output_index": 0, "content_index": 0}
    said = {"item_id": "msg_1_1", "output_index": 1, "content_index": 0}
    empty = {**MESSAGE, "status": "in_progress", "content": []}
    first = {"item_id": "fc_1_2", "output_index": 2}
    second = {"item_id": "fc_1_3", "output_index": 3}
    arguments = "response.function_call_arguments"
    assert [without(event) for event in inner] == [
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**THOUGHT, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **thought, "part": {"type": "reasoning_text", "text": ""}},
        {"type": "response.reasoning_text.delta", **thought, "delta": "h"},
        {"type": "response.reasoning_text.delta", **thought, "delta": "m"},
        {"type": "response.reasoning_text.done", **thought, "text": "hm"},
        {"type": "response.content_part.done", **thought, "part": {"type": "reasoning_text", "text": "hm"}},
        {"type": "response.output_item.done", "output_index": 0, "item": THOUGHT},
        {"type": "response.output_item.added", "output_index": 1, "item": empty},
        {"type": "response.content_part.added", **said, "part": {**TEXT, "text": ""}},
        {"type": "response.output_text.delta", **said, "delta": "Hel", "logprobs": []},
        {"type": "response.output_text.delta", **said, "delta": "lo", "logprobs": []},
        {"type": "response.output_text.done", **said, "text": "Hello", "logprobs": []},
        {"type": "response.content_part.done", **said, "part": TEXT},
        {"type": "response.output_item.done", "output_index": 1, "item": MESSAGE},
        {
            "type": "response.output_item.added",
            "output_index": 2,
            "item": {**CALLS[0], "status": "in_progress", "arguments": ""},
        },
        {"type": f"{arguments}.delta", **first, "delta": '{"a"'},
        {"type": f"{arguments}.delta", **first, "delta": ":1}"},
        {"type": f"{arguments}.done", **first, "name": "f", "arguments": '{"a":1}'},
        {"type": "response.output_item.done", "output_index": 2, "item": CALLS[0]},
        {
            "type": "response.output_item.added",
            "output_index": 3,
            "item": {**CALLS[1], "status": "in_progress", "arguments": ""},
        },
        {"type": f"{arguments}.delta", **second, "delta": "{}"},
        {"type": f"{arguments}.done", **second, "name": "g", "arguments": "{}"},
        {"type": "response.output_item.done", "output_index": 3, "item": CALLS[1]},
    ]
    assert completed["type"] == "response.completed"
    assert completed["response"] == whole(EVERYTHING)


def test_the_response_at_the_end() -> None:
    made = whole(EVERYTHING)
    assert (made["status"], made["completed_at"], made["incomplete_details"]) == ("completed", 9, None)
    assert made["output"] == [THOUGHT, MESSAGE, *CALLS]
    assert made["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
        "output_tokens": 8,
        "output_tokens_details": {"reasoning_tokens": 1},  # 2 of 16 characters
        "total_tokens": 11,
    }


@pytest.mark.parametrize(
    ("answers", "tokens"),
    [
        ([TextDelta(0, "x")], 0),
        ([ReasoningDelta(0, "x"), TextDelta(0, "y" * 100)], 1),
        ([ReasoningDelta(0, "x" * 100)], 8),
        ([], 0),
    ],
)
def test_reasoning_tokens_are_estimated(answers: list[AnswerEvent], tokens: int) -> None:
    assert whole([*answers, STOP, DONE])["usage"]["output_tokens_details"] == {"reasoning_tokens": tokens}


def test_without_any_token_nothing_was_thought() -> None:
    made = whole([ReasoningDelta(0, "x"), STOP, AnswerFinished(Usage(1, 0), Timings())])
    assert made["usage"]["output_tokens_details"] == {"reasoning_tokens": 0}


def test_an_empty_answer_is_an_empty_message() -> None:
    events = stream([AnswerStarted(3), STOP, DONE])
    assert [event["type"] for event in events[:-1]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert events[-2]["response"] == whole([STOP, DONE])


def test_the_token_limit() -> None:
    answers: list[AnswerEvent] = [ReasoningDelta(0, "hm"), TextDelta(0, "He"), CUT, DONE]
    last = stream(answers)[-2]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in last["response"]["output"]] == ["completed", "incomplete"]


def test_log_probabilities_come_with_the_text() -> None:
    likely = TokenLogprob(1, b"a", -0.5, ((2, b"\xff", -1.0),))
    shown = {
        "token": "a",
        "bytes": [97],
        "logprob": -0.5,
        "top_logprobs": [{"token": "\ufffd", "bytes": [255], "logprob": -1.0}],
    }
    answers: list[AnswerEvent] = [TextDelta(0, "a", (likely,)), TextDelta(0, "a", (likely,)), STOP, DONE]
    events = stream(answers)
    assert [event["logprobs"] for event in events if "logprobs" in event] == [[shown], [shown], [shown] * 2]
    assert events[-2]["response"]["output"][0]["content"][0]["logprobs"] == [shown] * 2


def test_a_failure_inside_a_stream() -> None:
    *_, error, failed, done = stream([*EVERYTHING[:5], LOST, DONE])
    body = {"code": "worker_lost", "message": "It died.", "param": None}
    assert without(error) == {"type": "error", **body, "error": {**body, "type": "server_error"}}
    assert failed["type"] == "response.failed"
    assert failed["sequence_number"] == error["sequence_number"] + 1
    response = failed["response"]
    assert (response["status"], response["error"]) == ("failed", {"code": "server_error", "message": "It died."})
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]
    assert response["output"][1]["content"][0]["text"] == "Hello"
    assert done == "[DONE]"
    with pytest.raises(LocalAIError, match="It died"):
        whole([*EVERYTHING[:5], LOST])


@pytest.mark.parametrize(
    ("category", "code"),
    [
        (Category.RATE_LIMITED, "rate_limit_exceeded"),
        (Category.INVALID_REQUEST, "invalid_prompt"),
        (Category.INTERNAL, "server_error"),
    ],
)
def test_codes_of_failures(category: Category, code: str) -> None:
    assert stream([TextDelta(0, "x"), Failed(category, "c", "m")])[-2]["response"]["error"]["code"] == code


def test_rules_of_the_definition() -> None:
    rules = AnswerRules(cut=("l+",), prefix="> ")
    answers: list[AnswerEvent] = [
        TextDelta(0, "Hello"),
        ToolCallStart(0, 0, "c", "f"),
        TextDelta(0, "all"),
        STOP,
        DONE,
    ]
    events = stream(answers, builder(rules))
    assert [event["delta"] for event in events[:-1] if "delta" in event] == ["> ", "Hello", "all"]
    first, _call, second = whole(answers, rules)["output"]
    assert (first["content"][0]["text"], second["content"][0]["text"]) == ("> Heo", "> a")


def test_a_call_that_the_node_carried_out_is_two_items() -> None:
    ran = ToolRan(ToolCall("call_1", "add", '{"a":1}'), "here", "42")
    failed = ToolRan(ToolCall("call_2", "fail", ""), "here", "No.", is_error=True)
    answers: list[RoundEvent] = [TextDelta(0, "Look."), ran, failed, TextDelta(0, "It is 42."), STOP, DONE]
    *events, _done = stream(answers)
    before, call, output, failed_call, failed_output, after = events[-1]["response"]["output"]
    assert (before["content"][0]["text"], after["content"][0]["text"]) == ("Look.", "It is 42.")
    finished = {"type": "function_call", "status": "completed"}
    assert call == {**finished, "id": "fc_1_1", "call_id": "call_1", "name": "add", "arguments": '{"a":1}'}
    assert failed_call == {**finished, "id": "fc_1_3", "call_id": "call_2", "name": "fail", "arguments": ""}
    finished = {"type": "function_call_output", "status": "completed"}
    assert output == {**finished, "id": "fco_1_2", "call_id": "call_1", "output": "42"}
    assert failed_output == {**finished, "id": "fco_1_4", "call_id": "call_2", "output": "Error: No."}
    kinds = ("output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done")
    assert [event["type"] for event in events if event.get("output_index") == 1] == [f"response.{k}" for k in kinds]
    assert [without(event) for event in events if event.get("output_index") == 2] == [
        {"type": "response.output_item.added", "output_index": 2, "item": output},
        {"type": "response.output_item.done", "output_index": 2, "item": output},
    ]
    assert whole(answers) == events[-1]["response"]


def test_a_stream_may_begin_with_a_call() -> None:
    events = stream([AnswerStarted(1), ToolRan(ToolCall("c", "f", "{}"), "here", "42"), LOST])
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert [item["type"] for item in events[-2]["response"]["output"]] == ["function_call", "function_call_output"]


def test_what_is_kept_is_known_before_the_client_is_told() -> None:
    kept: list[Response] = []
    renderer = ResponsesRenderer(builder(), kept.append)
    for answer in EVERYTHING[:-1]:
        renderer.stream(answer)
    assert kept == []
    renderer.stream(DONE)
    assert [response.status for response in kept] == ["completed"]
    assert renderer.stream(DONE) == []
    assert len(kept) == 1


def test_in_the_background() -> None:
    made = ResponseBuilder(head("queued"), lambda: 9, number=100)
    events = made.announce()
    assert [(event.__struct_config__.tag, event.sequence_number) for event in events] == [
        ("response.created", 100),
        ("response.queued", 101),
    ]
    assert made.response == head("queued")
    (progress,) = made.feed(AnswerStarted(1))
    assert (progress.__struct_config__.tag, made.response.status) == ("response.in_progress", "in_progress")
    made.feed(TextDelta(0, "He"))
    (cancelled,) = made.cancel()
    assert (cancelled.__struct_config__.tag, made.response.status) == ("response.cancelled", "cancelled")
    (message,) = msgspec.to_builtins(made.response.output)
    assert (message["status"], message["content"][0]["text"]) == ("incomplete", "He")
    ended = made.response
    assert made.cancel() == made.feed(DONE) == []
    assert made.response is ended


def test_cancelled_while_it_waits() -> None:
    made = ResponseBuilder(head("queued"), lambda: 9)
    made.announce()
    made.cancel()
    assert (made.response.status, made.response.output) == ("cancelled", [])


DELTAS = st.lists(
    st.one_of(
        st.builds(TextDelta, st.just(0), st.text(min_size=1, max_size=3)),
        st.builds(ReasoningDelta, st.just(0), st.text(min_size=1, max_size=3)),
        st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=3),
        st.builds(
            ToolRan,
            st.builds(ToolCall, st.text(max_size=3), st.just("f"), st.text(max_size=3)),
            st.just("here"),
            st.text(max_size=3),
            st.booleans(),
        ),
    ),
    max_size=8,
)


@st.composite
def answers(draw: st.DrawFn) -> list[RoundEvent]:
    """What an exchange, or rounds with tools, give for one choice."""
    events: list[RoundEvent] = [AnswerStarted(1)]
    calls = 0
    for delta in draw(DELTAS):
        if isinstance(delta, list):
            events.append(ToolCallStart(0, calls, f"call_{calls}", "f"))
            events += [ToolArgumentsDelta(0, calls, text) for text in delta]
            calls += 1
        else:
            events.append(delta)
    if draw(st.booleans()):
        joined = join_deltas(events)
        events = [*joined]
    if draw(st.booleans()):
        return [*events[: draw(st.integers(0, len(events)))], LOST]
    return [*events, draw(st.sampled_from([STOP, CUT])), DONE]


def rebuilt(events: list[Any]) -> list[Any]:
    """The output as a client puts it together from deltas alone."""
    output: list[Any] = []
    texts: list[str] = []
    for event in events:
        match event["type"].removeprefix("response."):
            case "output_item.added":
                assert event["output_index"] == len(output)
                output.append(event["item"])
                texts.append("")
            case "output_text.delta" | "reasoning_text.delta" | "function_call_arguments.delta":
                assert event["item_id"] == output[event["output_index"]]["id"]
                texts[event["output_index"]] += event["delta"]
            case "content_part.done":
                assert event["part"]["text"] == texts[event["output_index"]]
                output[event["output_index"]]["content"] = [event["part"]]
            case "function_call_arguments.done":
                assert event["arguments"] == texts[event["output_index"]]
                output[event["output_index"]]["arguments"] = event["arguments"]
            case "output_item.done":
                output[event["output_index"]]["status"] = event["item"]["status"]
                assert output[event["output_index"]] == event["item"]
            case _:
                pass
    return output


@given(answers())
def test_any_stream_is_well_formed_and_says_what_the_whole_answer_says(events: list[RoundEvent]) -> None:
    *sent, done = stream(events)
    assert done == "[DONE]"
    assert [event["sequence_number"] for event in sent] == list(range(len(sent)))
    types = [event["type"] for event in sent]
    assert types[:2] == ["response.created", "response.in_progress"]
    endings = {"response.completed", "response.incomplete", "response.failed"}
    assert [kind for kind in types if kind in endings] == types[-1:]
    if events[-1] is LOST:
        assert types[-2:] == ["error", "response.failed"]
        with pytest.raises(LocalAIError):
            whole(events)
        return
    assert sent[-1]["response"]["output"] == rebuilt(sent)
    assert sent[-1]["response"] == whole(events)
