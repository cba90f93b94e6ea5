from __future__ import annotations

import json
from array import array
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.api.dialects.answer import AnswerHead
from localai.api.dialects.ollama_answer import (
    OllamaRenderer,
    first_embedding,
    render_calls,
    render_embed,
    render_time,
)
from localai.mesh.errors import Category, LocalAIError, UpstreamFailed
from localai.node.answer_rules import AnswerRules
from localai.node.inference import (
    Embedded,
    EmbedRequest,
    Event,
    Failed,
    Finished,
    Progress,
    RequestId,
    TextInput,
    Timings,
    TokenLogprob,
    ToolCall,
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

HEAD = AnswerHead("r", 1_700_000_000, "m:latest", 1)
TIME = "2023-11-14T22:13:20Z"
LOST = Failed(Category.UNAVAILABLE, "worker_lost", "It died.")
END: list[AnswerEvent] = [ChoiceFinished(0, "stop"), AnswerFinished(Usage(3, 2), Timings(0.5, 0.25, 1.0))]
COUNTS = {
    "total_duration": 1_750_000_000,
    "load_duration": 500_000_000,
    "prompt_eval_count": 3,
    "prompt_eval_duration": 250_000_000,
    "eval_count": 2,
    "eval_duration": 1_000_000_000,
}


def renderer(*, chat: bool = True, rules: AnswerRules | None = None) -> OllamaRenderer:
    return OllamaRenderer(HEAD, rules or AnswerRules(), chat=chat)


def stream(made: OllamaRenderer, answers: list[AnswerEvent]) -> list[Any]:
    return [json.loads(event.data) for answer in answers for event in made.stream(answer)]


def test_a_conversation_in_lines() -> None:
    answers: list[AnswerEvent] = [AnswerStarted(3), ReasoningDelta(0, "Hm"), TextDelta(0, "Hel"), TextDelta(0, "lo")]
    same = {"model": "m:latest", "created_at": TIME}
    assert stream(renderer(), answers + END) == [
        {**same, "message": {"role": "assistant", "content": "", "thinking": "Hm"}, "done": False},
        {**same, "message": {"role": "assistant", "content": "Hel"}, "done": False},
        {**same, "message": {"role": "assistant", "content": "lo"}, "done": False},
        {**same, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", **COUNTS},
    ]


def test_a_prompts_answer_in_lines_and_whole() -> None:
    answers: list[AnswerEvent] = [ReasoningDelta(0, "Hm"), TextDelta(0, "Hi"), ChoiceFinished(0, "length"), END[1]]
    same = {"model": "m:latest", "created_at": TIME}
    assert stream(renderer(chat=False), answers) == [
        {**same, "response": "", "thinking": "Hm", "done": False},
        {**same, "response": "Hi", "done": False},
        {**same, "response": "", "done": True, "done_reason": "length", **COUNTS},
    ]
    body = msgspec.to_builtins(renderer(chat=False).whole(answers))
    assert body == {
        **same,
        "response": "Hi",
        "thinking": "Hm",
        "done": True,
        "done_reason": "length",
        **COUNTS,
    }


def test_calls_are_sent_when_they_are_complete() -> None:
    answers: list[AnswerEvent] = [
        TextDelta(0, "Look:"),
        ToolCallStart(0, 0, "call_1", "look"),
        ToolArgumentsDelta(0, 0, '{"at":'),
        ToolArgumentsDelta(0, 0, "1}"),
        ToolCallStart(0, 1, "call_2", "wait"),
        ToolArgumentsDelta(0, 1, "{}"),
        ChoiceFinished(0, "stop", called_tools=True),
        END[1],
    ]
    calls = [
        {"id": "call_1", "function": {"index": 0, "name": "look", "arguments": {"at": 1}}},
        {"id": "call_2", "function": {"index": 1, "name": "wait", "arguments": {}}},
    ]
    lines = stream(renderer(), answers)
    assert [line["message"].get("tool_calls") for line in lines] == [None, [calls[0]], [calls[1]], None]
    whole = json.loads(msgspec.json.encode(renderer().whole(answers)))
    assert whole["message"] == {"role": "assistant", "content": "Look:", "tool_calls": calls}
    assert all("message" not in line for line in stream(renderer(chat=False), answers))


@pytest.mark.parametrize("text", ["", "[1]", "{bad", "[" * 100_000])
def test_arguments_that_are_no_object_become_one(text: str) -> None:
    (call,) = render_calls([ToolCall("c", "f", text)])
    assert json.loads(bytes(call.function.arguments)) == {"text": text}


def test_log_probabilities() -> None:
    likely = TokenLogprob(1, b"a", -0.5, ((1, b"a", -0.5), (2, b"\xff", -1.0)))
    answers: list[AnswerEvent] = [TextDelta(0, "ab", (likely, TokenLogprob(3, b"b", 0.0))), *END]
    expected = [
        {
            "token": "a",
            "logprob": -0.5,
            "bytes": [97],
            "top_logprobs": [
                {"token": "a", "logprob": -0.5, "bytes": [97]},
                {"token": "�", "logprob": -1.0, "bytes": [255]},
            ],
        },
        {"token": "b", "logprob": 0.0, "bytes": [98]},
    ]
    assert stream(renderer(), answers)[0]["logprobs"] == expected
    assert msgspec.to_builtins(renderer().whole(answers))["logprobs"] == expected


def test_rules_of_the_definition() -> None:
    rules = AnswerRules(cut=("l+",), prefix="> ")
    answers: list[AnswerEvent] = [TextDelta(0, "Hello"), *END]
    assert msgspec.to_builtins(renderer(rules=rules).whole(answers))["message"]["content"] == "> Heo"
    assert [line["message"]["content"] for line in stream(renderer(rules=rules), answers)] == ["> ", "Hello", ""]
    assert [line["message"]["content"] for line in stream(renderer(rules=rules), END)] == ["> ", ""]


def test_nothing_but_loading() -> None:
    assert msgspec.to_builtins(renderer(chat=False).done("load")) == {
        "model": "m:latest",
        "created_at": TIME,
        "response": "",
        "done": True,
        "done_reason": "load",
    }


def test_a_failure_is_the_last_line_or_raised() -> None:
    assert stream(renderer(), [TextDelta(0, "a"), LOST])[-1] == {"error": "It died."}
    with pytest.raises(LocalAIError):
        renderer().whole([LOST])


ASKED = EmbedRequest(RequestId("r"), "m", (TextInput("a"), TextInput("b")))


def vector(*numbers: float) -> bytes:
    return array("f", numbers).tobytes()


def test_vectors_in_the_order_of_their_texts() -> None:
    events: list[Event] = [
        Progress("queued"),
        Embedded(1, vector(0.5)),
        Embedded(0, vector(1, -2)),
        Finished((), Usage(7, 0), Timings(0.5, 1, 0.25)),
    ]
    response = render_embed(events, ASKED, "m:latest")
    assert msgspec.to_builtins(response) == {
        "model": "m:latest",
        "embeddings": [[1, -2], [0.5]],
        "total_duration": 1_750_000_000,
        "load_duration": 500_000_000,
        "prompt_eval_count": 7,
    }
    assert first_embedding(response).embedding == [1, -2]


@pytest.mark.parametrize(
    "events", [[], [Embedded(0, vector(1))], [Embedded(0, b"abc"), Embedded(1, b"")], [Embedded(7, b"")]]
)
def test_every_text_must_have_its_vector(events: list[Event]) -> None:
    with pytest.raises(UpstreamFailed):
        render_embed(events, ASKED, "m")


def test_times() -> None:
    assert render_time(1.5) == "1970-01-01T00:00:01.500000Z"


PIECES = st.lists(
    st.one_of(
        st.builds(TextDelta, st.just(0), st.text(min_size=1, max_size=4)),
        st.builds(ReasoningDelta, st.just(0), st.text(min_size=1, max_size=4)),
        st.dictionaries(st.text(max_size=3), st.integers(), max_size=2).map(json.dumps) | st.text(min_size=1),
    ),
    max_size=8,
)


@given(PIECES, st.sampled_from(["stop", "stop_string", "length"]), st.booleans(), st.none() | st.integers(0, 9))
def test_any_lines_say_what_the_whole_answer_says(pieces: list[Any], reason: Any, chat: bool, lost: int | None) -> None:
    answers: list[AnswerEvent] = [AnswerStarted(1)]
    calls = 0
    for piece in pieces:
        if isinstance(piece, str):
            answers += [ToolCallStart(0, calls, f"c{calls}", "f")]
            answers += [ToolArgumentsDelta(0, calls, part) for part in (piece[:2], piece[2:]) if part]
            calls += 1
        else:
            answers.append(piece)
    answers += [ChoiceFinished(0, reason), AnswerFinished(Usage(1, 2), Timings(1, 1, 1))]
    if lost is not None:
        answers = [*answers[: min(lost, len(answers) - 1)], LOST]
    lines = stream(renderer(chat=chat), answers)
    assert [("done" in line and line["done"]) or "error" in line for line in lines] == [False] * (len(lines) - 1) + [
        True
    ]
    if lost is not None:
        assert "error" in lines[-1]
        return
    whole = json.loads(msgspec.json.encode(renderer(chat=chat).whole(answers)))
    if not chat:
        for key in ("response", "thinking"):
            assert "".join(line.get(key, "") for line in lines) == whole.get(key, "")
        lines[-1].pop("response"), whole.pop("response"), whole.pop("thinking", None)
        assert lines[-1] == whole
        return
    for key in ("content", "thinking"):
        assert "".join(line["message"].get(key, "") for line in lines) == whole["message"].get(key, "")
    found = [call for line in lines for call in line["message"].get("tool_calls", [])]
    assert found == whole["message"].get("tool_calls", [])
    lines[-1].pop("message"), whole.pop("message")
    assert lines[-1] == whole
