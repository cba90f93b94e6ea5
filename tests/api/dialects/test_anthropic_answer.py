from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.api.dialects.anthropic_answer import SIGNATURE, STREAM, MessageForm, MessageRenderer, Thinking
from localai.api.dialects.exchange import join_deltas
from localai.mesh.errors import Category, LocalAIError
from localai.node.answer_rules import NO_RULES, AnswerRules
from localai.node.inference import Failed, FinishReason, Timings, Usage
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
DONE = AnswerFinished(Usage(9, 4, 3), Timings())
HIDDEN, SHOWN = MessageForm(), MessageForm("shown")
ANSWER: list[AnswerEvent] = [
    AnswerStarted(9),
    ReasoningDelta(0, "H"),
    ReasoningDelta(0, "m."),
    TextDelta(0, "Loo"),
    TextDelta(0, "king."),
    ToolCallStart(0, 0, "call_1", "look"),
    ToolArgumentsDelta(0, 0, '{"a":'),
    ToolArgumentsDelta(0, 0, "1}"),
    ToolCallStart(0, 1, "call_2", "feel"),
    ToolArgumentsDelta(0, 1, "{}"),
    TextDelta(0, "Well."),
    ChoiceFinished(0, "stop", called_tools=True),
    DONE,
]


def renderer(form: MessageForm = HIDDEN, rules: AnswerRules = NO_RULES) -> MessageRenderer:
    return MessageRenderer("msg_1", "m", rules, form)


def stream(answers: Iterable[AnswerEvent], form: MessageForm = HIDDEN, rules: AnswerRules = NO_RULES) -> Any:
    """Payloads of a stream, each checked against the name of its event."""
    made = renderer(form, rules)
    payloads = []
    for event in (event for answer in answers for event in made.stream(answer)):
        payloads.append(json.loads(event.data))
        assert payloads[-1]["type"] == event.event
    return payloads


def whole(answers: list[AnswerEvent], form: MessageForm = HIDDEN, rules: AnswerRules = NO_RULES) -> Any:
    return json.loads(msgspec.json.encode(renderer(form, rules).whole(answers)))


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def more(index: int, kind: str, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **delta}}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def usage(given: int, taken: int, read: int = 0) -> dict[str, int]:
    return {
        "input_tokens": given,
        "output_tokens": taken,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": read,
    }


def test_a_stream_in_anthropics_order() -> None:
    assert stream(ANSWER, SHOWN) == [
        {
            "type": "message_start",
            "message": {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "m",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": usage(9, 0),
            },
        },
        {"type": "ping"},
        start(0, type="thinking", thinking="", signature=""),
        more(0, "thinking_delta", thinking="H"),
        more(0, "thinking_delta", thinking="m."),
        more(0, "signature_delta", signature=SIGNATURE),
        stop(0),
        start(1, type="text", text=""),
        more(1, "text_delta", text="Loo"),
        more(1, "text_delta", text="king."),
        stop(1),
        start(2, type="tool_use", id="call_1", name="look", input={}),
        more(2, "input_json_delta", partial_json='{"a":1}'),
        stop(2),
        start(3, type="tool_use", id="call_2", name="feel", input={}),
        more(3, "input_json_delta", partial_json="{}"),
        stop(3),
        start(4, type="text", text=""),
        more(4, "text_delta", text="Well."),
        stop(4),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": usage(6, 4, 3),
        },
        {"type": "message_stop"},
    ]


def test_a_whole_answer() -> None:
    assert whole(ANSWER, SHOWN) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": SIGNATURE},
            {"type": "text", "text": "Looking."},
            {"type": "tool_use", "id": "call_1", "name": "look", "input": {"a": 1}},
            {"type": "tool_use", "id": "call_2", "name": "feel", "input": {}},
            {"type": "text", "text": "Well."},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": usage(6, 4, 3),
    }
    with pytest.raises(LocalAIError, match="It died"):
        renderer().whole([TextDelta(0, "a"), LOST])


def test_nothing_is_sent_before_the_first_piece() -> None:
    made = renderer()
    assert made.stream(AnswerStarted(1)) == []
    assert made.stream(ChoiceFinished(0, "stop")) == []


def test_hidden_thoughts_begin_the_stream_and_are_not_in_it() -> None:
    answers: list[AnswerEvent] = [TextDelta(0, "a"), ReasoningDelta(0, "Hm."), TextDelta(0, "b"), DONE]
    kinds = [event["type"] for event in stream([ReasoningDelta(0, "Hm."), *answers])]
    assert kinds[:3] == ["message_start", "ping", "content_block_start"]
    assert kinds.count("content_block_start") == 1
    assert whole(answers)["content"] == [{"type": "text", "text": "ab"}]
    assert [event["type"] for event in stream([ReasoningDelta(0, "H"), ReasoningDelta(0, "m")])] == [
        "message_start",
        "ping",
    ]


def test_omitted_thoughts_leave_their_signature() -> None:
    form = MessageForm("omitted")
    answers: list[AnswerEvent] = [ReasoningDelta(0, "Hm."), TextDelta(0, "a"), DONE]
    assert stream(answers, form)[2:5] == [
        start(0, type="thinking", thinking="", signature=""),
        more(0, "signature_delta", signature=SIGNATURE),
        stop(0),
    ]
    assert whole(answers, form)["content"][0] == {"type": "thinking", "thinking": "", "signature": SIGNATURE}


@pytest.mark.parametrize(
    ("finished", "reason", "sequence"),
    [
        (ChoiceFinished(0, "stop"), "end_turn", None),
        (ChoiceFinished(0, "length"), "max_tokens", None),
        (ChoiceFinished(0, "stop_string", "END"), "stop_sequence", "END"),
        (ChoiceFinished(0, "stop_string"), "end_turn", None),  # a stop word of the definition
        (ChoiceFinished(0, "stop", called_tools=True), "tool_use", None),
        (ChoiceFinished(0, "length", called_tools=True), "max_tokens", None),
    ],
)
def test_every_stop_reason(finished: ChoiceFinished, reason: str, sequence: str | None) -> None:
    answers: list[AnswerEvent] = [TextDelta(0, "a"), finished, DONE]
    body = whole(answers)
    assert (body["stop_reason"], body["stop_sequence"]) == (reason, sequence)
    assert stream(answers)[-2]["delta"] == {"stop_reason": reason, "stop_sequence": sequence}


def test_an_answer_without_words_has_an_empty_text() -> None:
    assert whole([DONE])["content"] == [{"type": "text", "text": ""}]
    assert [event["type"] for event in stream([DONE])] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("", {}),
        (" ", {}),
        ('{"a": [1]}', {"a": [1]}),
        ('{"a":', {"raw": '{"a":'}),
        ("[1]", {"raw": "[1]"}),
        ('{"a": NaN}', {"raw": '{"a": NaN}'}),
        ('{"a":' * 100_000, {"raw": '{"a":' * 100_000}),
    ],
)
def test_the_input_of_a_call_is_always_an_object(written: str, sent: Any) -> None:
    answers: list[AnswerEvent] = [ToolCallStart(0, 0, "c", "f"), ToolArgumentsDelta(0, 0, written), DONE]
    assert whole(answers)["content"] == [{"type": "tool_use", "id": "c", "name": "f", "input": sent}]
    (delta,) = [event["delta"] for event in stream(answers) if event["type"] == "content_block_delta"]
    assert json.loads(delta["partial_json"]) == sent


def test_eager_input_is_sent_as_it_comes() -> None:
    deltas = [
        event["delta"]["partial_json"]
        for event in stream(ANSWER, MessageForm("hidden", frozenset({"look"})))
        if event["type"] == "content_block_delta" and event["delta"]["type"] == "input_json_delta"
    ]
    assert deltas == ['{"a":', "1}", "{}"]


def test_rules_of_the_definition() -> None:
    rules = AnswerRules(cut=("l+",), prefix="> ")
    answers: list[AnswerEvent] = [
        TextDelta(0, "Hello"),
        ToolCallStart(0, 0, "c", "f"),
        TextDelta(0, "all"),
        TextDelta(0, "!"),
        DONE,
    ]
    body = whole(answers, rules=rules)
    assert [block.get("text") for block in body["content"]] == ["> Heo", None, "a!"]
    said = [event["delta"] for event in stream(answers, rules=rules) if event["type"] == "content_block_delta"]
    assert [delta.get("text") for delta in said] == ["> ", "Hello", None, "all", "!"]
    only_thought: list[AnswerEvent] = [ReasoningDelta(0, "Hm."), DONE]
    assert whole(only_thought, SHOWN, rules)["content"][-1] == {"type": "text", "text": "> "}


@pytest.mark.parametrize(
    ("category", "kind"),
    [
        (Category.UNAVAILABLE, "overloaded_error"),
        (Category.INTERNAL, "api_error"),
        (Category.UPSTREAM_FAILED, "api_error"),
        (Category.RATE_LIMITED, "rate_limit_error"),
        (Category.TIMEOUT, "timeout_error"),
        (Category.INVALID_REQUEST, "invalid_request_error"),
    ],
)
def test_a_failure_inside_a_stream_is_its_last_event(category: Category, kind: str) -> None:
    *_, last = stream([TextDelta(0, "a"), Failed(category, "c", "It died.")])
    assert last == {"type": "error", "error": {"type": kind, "message": "It died."}}


def test_silences_are_broken_by_pings() -> None:
    assert STREAM.keep_alive == b'event: ping\ndata: {"type":"ping"}\n\n'


@st.composite
def answers(draw: st.DrawFn) -> list[AnswerEvent]:
    """What an exchange gives for one choice: pieces in any order, then the end, or a failure at any point."""
    text = st.text(min_size=1, max_size=4)
    events: list[AnswerEvent] = [AnswerStarted(9)] if draw(st.booleans()) else []
    calls = 0
    for kind in draw(st.lists(st.sampled_from(["text", "reasoning", "call"]), max_size=8)):
        if kind == "text":
            events.append(TextDelta(0, draw(text)))
        elif kind == "reasoning":
            events.append(ReasoningDelta(0, draw(text)))
        else:
            written = json.dumps(draw(st.dictionaries(text, st.integers(), max_size=2)))
            cut = draw(st.integers(1, len(written) - 1))
            events.append(ToolCallStart(0, calls, f"call_{calls}", draw(st.sampled_from(["look", "feel"]))))
            events += [ToolArgumentsDelta(0, calls, part) for part in (written[:cut], written[cut:])]
            calls += 1
    if draw(st.booleans()):
        return [*events[: draw(st.integers(0, len(events)))], LOST]
    reason: FinishReason = draw(st.sampled_from(["stop", "stop_string", "length"]))
    ended = ChoiceFinished(0, reason, "END" if reason == "stop_string" else None, calls > 0)
    return [*events, ended, AnswerFinished(Usage(9, 5, draw(st.integers(0, 9))), Timings())]


def folded(events: list[Any]) -> Any:
    """The message that a client puts together."""
    message: dict[str, Any] = {}
    written = ""
    open_block: int | None = None
    for event in events:
        match event["type"]:
            case "message_start":
                assert not message
                message = event["message"]
            case "content_block_start":
                assert open_block is None
                assert event["index"] == len(message["content"])
                open_block, written = event["index"], ""
                message["content"].append(event["content_block"])
            case "content_block_delta":
                assert event["index"] == open_block
                block, delta = message["content"][-1], event["delta"]
                match delta.pop("type"):
                    case "input_json_delta":
                        written += delta["partial_json"]
                    case "signature_delta":
                        block["signature"] = delta["signature"]
                    case _:
                        ((name, new),) = delta.items()
                        block[name] += new
            case "content_block_stop":
                assert event["index"] == open_block
                open_block = None
                if message["content"][-1]["type"] == "tool_use":
                    message["content"][-1]["input"] = json.loads(written)
            case "message_delta":
                assert open_block is None
                message.update(event["delta"])
                message["usage"] = event["usage"]
            case kind:
                assert kind in ("ping", "message_stop")
    return message


@given(answers(), st.sampled_from(["shown", "omitted", "hidden"]), st.booleans(), st.booleans())
def test_any_stream_is_well_formed_and_says_what_the_whole_answer_says(
    events: list[AnswerEvent], thinking: Thinking, is_eager: bool, has_prefix: bool
) -> None:
    form = MessageForm(thinking, frozenset({"look"} if is_eager else ()))
    rules = AnswerRules(prefix="> ") if has_prefix else NO_RULES
    sent = stream(events, form, rules)
    if isinstance(events[-1], Failed):
        assert [event["type"] for event in sent].count("error") == 1
        assert sent[-1]["type"] == "error"
        folded(sent[:-1])
        return
    assert [event["type"] for event in sent].count("message_stop") == 1
    assert sent[-1]["type"] == "message_stop"
    assert folded(sent) == folded(stream(join_deltas(events), form, rules)) == whole(events, form, rules)
