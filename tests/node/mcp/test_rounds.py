from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localai.mesh.errors import Category
from localai.node.inference import (
    ChatInput,
    ChatMessage,
    Event,
    Failed,
    Finished,
    FinishReason,
    GenerateRequest,
    RequestId,
    Started,
    Timings,
    Tokens,
    Tool,
    ToolCall,
    Usage,
)
from localai.node.mcp.rounds import RoundEvent, ToolRan, ToolRounds
from localai.node.mcp.toolbox import OfferedTool, ToolOutcome, make_toolbox
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

BOX = make_toolbox([OfferedTool("files", "read"), OfferedTool("web", "get")])
USER = ChatMessage("user", "hello")
OWN = Tool("own")


def rounds(prompt: ChatInput | None = None, max_rounds: int = 10) -> ToolRounds:
    prompt = prompt or ChatInput((USER,))
    return ToolRounds(GenerateRequest(RequestId("r"), "m", prompt), prompt, BOX, max_rounds)


def answer(text: str, reason: FinishReason = "stop") -> list[Event]:
    return [
        Started("", 5, parser_id="tagged"),
        Tokens(0, (1,), text.encode()),
        Finished((reason,), Usage(5, 2, 1), Timings(1, 2, 3)),
    ]


def call(name: str, **arguments: object) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def prompt_of(machine: ToolRounds) -> ChatInput:
    assert isinstance(machine.request.prompt, ChatInput)
    return machine.request.prompt


END = [ChoiceFinished(0, "stop"), AnswerFinished(Usage(5, 2, 1), Timings(1, 2, 3))]


def test_without_calls_it_is_one_answer() -> None:
    machine = rounds()
    assert machine.request.id == "r"
    assert prompt_of(machine).tools == BOX.tools
    assert machine.feed(answer("hi")) == [AnswerStarted(5), TextDelta(0, "hi"), *END]
    assert machine.end_of_stream() == []
    assert machine.closed
    assert machine.pending == ()


def test_a_call_is_carried_out_and_the_model_is_asked_again() -> None:
    machine = rounds()
    events = answer(f"<think>hm</think>Look: {call('read', path='a')}{call('nope')}")
    assert machine.feed(events) == [AnswerStarted(5), ReasoningDelta(0, "hm"), TextDelta(0, "Look: ")]
    assert not machine.closed
    first, second = machine.pending
    assert (first.name, first.arguments, second.name) == ("read", '{"path": "a"}', "nope")

    ran = machine.take([ToolOutcome("content"), ToolOutcome("There is none.", is_error=True)])
    assert ran == [ToolRan(first, "files", "content"), ToolRan(second, "", "There is none.", is_error=True)]
    assert machine.pending == ()
    assert machine.request.id == "r-2"
    assert prompt_of(machine).messages == (
        USER,
        ChatMessage("assistant", "Look: ", reasoning="hm", tool_calls=(first, second)),
        ChatMessage("tool", "content", name="read", tool_call_id=first.id),
        ChatMessage("tool", "Error: There is none.", name="nope", tool_call_id=second.id),
    )
    assert machine.feed(answer("done")) == [
        TextDelta(0, "done"),
        ChoiceFinished(0, "stop"),
        AnswerFinished(Usage(10, 4, 2), Timings(2, 4, 6)),
    ]
    assert machine.closed


def test_calls_of_different_rounds_have_different_ids() -> None:
    machine = rounds()
    machine.feed(answer(call("read")))
    (first,) = machine.pending
    machine.take([ToolOutcome("x")])
    machine.feed(answer(call("read")))
    assert machine.pending[0].id != first.id


def test_the_client_s_own_tools_end_the_answer_and_ours_are_dropped() -> None:
    machine = rounds(ChatInput((USER,), tools=(OWN,)))
    assert prompt_of(machine).tools == (OWN, *BOX.tools)
    out = machine.feed(answer(call("read") + call("own", a=1) + call("get") + call("own")))
    starts = [each for each in out if isinstance(each, ToolCallStart)]
    assert [(start.index, start.name) for start in starts] == [(0, "own"), (1, "own")]
    arguments = [each for each in out if isinstance(each, ToolArgumentsDelta)]
    assert [(each.index, each.text) for each in arguments] == [(0, '{"a": 1}'), (1, "{}")]
    assert out[-2] == ChoiceFinished(0, "stop", called_tools=True)
    assert machine.pending == ()
    assert machine.closed


def test_no_tools_when_the_client_wants_none() -> None:
    machine = rounds(ChatInput((USER,), tool_choice="none"))
    assert prompt_of(machine).tools == ()


def test_a_tool_is_demanded_only_once() -> None:
    machine = rounds(ChatInput((USER,), tools=(OWN,), tool_choice="required", only_tool="own"))
    assert prompt_of(machine).tool_choice == "required"
    machine.feed(answer(call("read")))
    machine.take([ToolOutcome("x")])
    assert (prompt_of(machine).tool_choice, prompt_of(machine).only_tool) == ("auto", "")


def test_in_the_last_round_the_model_must_answer() -> None:
    machine = rounds(max_rounds=1)
    machine.feed(answer(call("read")))
    machine.take([ToolOutcome("x")])
    assert prompt_of(machine).tool_choice == "none"
    (failed,) = machine.feed(answer(call("read")))
    assert isinstance(failed, Failed)
    assert (failed.category, failed.code) == (Category.INTERNAL, "mcp_iteration_limit")
    assert failed.message.startswith("MCP iteration limit reached")
    assert machine.closed


def test_in_the_last_round_the_client_s_tools_stay() -> None:
    machine = rounds(ChatInput((USER,), tools=(OWN,)), max_rounds=1)
    machine.feed(answer(call("read")))
    machine.take([ToolOutcome("x")])
    assert (prompt_of(machine).tools, prompt_of(machine).tool_choice) == ((OWN,), "auto")


def test_an_answer_that_was_cut_is_not_carried_out() -> None:
    machine = rounds()
    out = machine.feed(answer(call("read"), "length"))
    assert out[1:] == [ChoiceFinished(0, "length"), END[1]]
    assert machine.pending == ()


def test_failures_end_it_in_every_round() -> None:
    lost = Failed(Category.UNAVAILABLE, "worker_lost", "It died.")
    machine = rounds()
    assert machine.feed([lost]) == [lost]
    assert machine.closed
    machine = rounds()
    machine.feed(answer(call("read")))
    machine.take([ToolOutcome("x")])
    (failed,) = machine.end_of_stream()
    assert isinstance(failed, Failed)


def test_as_many_outcomes_as_calls() -> None:
    machine = rounds()
    machine.feed(answer(call("read")))
    with pytest.raises(ValueError, match="zip"):
        machine.take([])


TURNS = st.lists(st.lists(st.sampled_from(["text", "read", "get", "own", "nope"]), max_size=4), min_size=1, max_size=5)


@settings(max_examples=80)
@given(TURNS, st.integers(1, 3), st.booleans())
def test_any_conversation_ends_once_and_every_call_gets_a_result(
    turns: list[list[str]], max_rounds: int, with_own: bool
) -> None:
    machine = rounds(ChatInput((USER,), tools=(OWN,) if with_own else ()), max_rounds)
    out: list[RoundEvent] = []
    asked = 0
    for turn in [*turns, []]:
        asked += 1
        text = "".join("words " if each == "text" else call(each) for each in turn)
        events: list[AnswerEvent] = [*machine.feed(answer(text)), *machine.end_of_stream()]
        out += events
        if machine.closed:
            break
        out += machine.take([ToolOutcome("result")] * len(machine.pending))
        messages = prompt_of(machine).messages
        calls = [each.id for message in messages for each in message.tool_calls]
        assert calls == [message.tool_call_id for message in messages if message.role == "tool"]
        assert len(set(calls)) == len(calls)
    terminal = [event for event in out if isinstance(event, AnswerFinished | Failed)]
    assert terminal == out[-1:]
    assert asked <= max_rounds + 1
    assert sum(isinstance(event, AnswerStarted) for event in out) == 1
    assert not any(isinstance(event, ToolCallStart) and event.name != "own" for event in out)


def test_a_result_can_be_sent() -> None:
    ran = ToolRan(ToolCall("c", "read", "{}"), "files", "x")
    assert msgspec.json.decode(msgspec.json.encode(ran), type=ToolRan) == ran
