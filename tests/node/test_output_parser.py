from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import Category
from localai.node.inference import (
    ChatInput,
    ChatMessage,
    Detokenized,
    Embedded,
    Event,
    Failed,
    Finished,
    GenerateRequest,
    Progress,
    RequestId,
    Scored,
    Started,
    TextInput,
    Timings,
    TokenInput,
    Tokenized,
    TokenLogprob,
    Tokens,
    Tool,
    Usage,
)
from localai.node.output_parser import (
    TAGGED,
    TAGGED_THINKING,
    AnswerEvent,
    AnswerFinished,
    AnswerStarted,
    ChoiceFinished,
    OutputParser,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStart,
)

USAGE = Usage(3, 5)
LOST = Failed(Category.UNAVAILABLE, "worker_lost", "It died.")


def request(choices: int = 1, stop: tuple[str, ...] = ()) -> GenerateRequest:
    return GenerateRequest(RequestId("r"), "m", TextInput("x"), choices=choices, stop=stop)


def run(asked: GenerateRequest, events: list[Event]) -> list[AnswerEvent]:
    parser = OutputParser(asked)
    out = [answer for event in events for answer in parser.feed(event)]
    return out + parser.end_of_stream()


def test_a_whole_answer() -> None:
    out = run(
        request(),
        [Progress("queued"), Started("d", 3), Tokens(0, (1,), b"Hi"), Finished(("stop",), USAGE, Timings(1, 2, 3))],
    )
    assert out == [
        AnswerStarted(3),
        TextDelta(0, "Hi"),
        ChoiceFinished(0, "stop"),
        AnswerFinished(USAGE, Timings(1, 2, 3)),
    ]


def test_a_character_is_shown_when_its_last_byte_is_there() -> None:
    data = "é".encode()
    out = run(request(), [Tokens(0, (1,), data[:1]), Tokens(0, (2,), data[1:]), Finished(("stop",), USAGE)])
    assert out[0] == TextDelta(0, "é")


def test_half_a_character_at_the_end_becomes_a_replacement() -> None:
    out = run(request(), [Tokens(0, (1,), b"a\xc3"), Finished(("length",), USAGE)])
    assert out[:2] == [TextDelta(0, "a"), TextDelta(0, "\ufffd")]


def test_text_is_cut_before_a_stop_string_and_the_choice_says_which() -> None:
    out = run(
        request(stop=("END",)),
        [Tokens(0, (1,), b"so E"), Tokens(0, (2,), b"ND"), Finished(("stop_string",), USAGE)],
    )
    assert out[:2] == [TextDelta(0, "so "), ChoiceFinished(0, "stop_string", "END")]


def test_bytes_held_back_for_a_stop_string_come_at_the_end_without_one() -> None:
    out = run(request(stop=("END",)), [Tokens(0, (1,), b"EN"), Finished(("stop",), USAGE)])
    assert out[:2] == [TextDelta(0, "EN"), ChoiceFinished(0, "stop")]


def test_choices_do_not_mix() -> None:
    out = run(
        request(choices=2),
        [
            Tokens(1, (1,), b"\xc3"),
            Tokens(0, (1,), b"a"),
            Tokens(1, (2,), b"\xa9"),
            Finished(("stop", "length"), USAGE),
        ],
    )
    assert out[:4] == [
        TextDelta(0, "a"),
        TextDelta(1, "é"),
        ChoiceFinished(0, "stop"),
        ChoiceFinished(1, "length"),
    ]


def test_a_stream_without_an_end_is_a_failure() -> None:
    (*_, last) = run(request(), [Started("d", 3), Tokens(0, (1,), b"a")])
    assert isinstance(last, Failed)
    assert last.category is Category.UPSTREAM_FAILED


def test_what_contradicts_the_request_is_a_failure() -> None:
    for events in ([Tokens(1, (1,), b"a")], [Tokens(-1, (1,), b"a")], [Finished(("stop", "stop"), USAGE)]):
        (*_, last) = run(request(), list(events))
        assert isinstance(last, Failed)


EVENTS = st.lists(
    st.one_of(
        st.just(Progress("prefill", 1, 2)),
        st.just(Started("d", 3)),
        st.builds(Tokens, st.integers(-1, 2), st.just((1,)), st.binary(max_size=4)),
        st.builds(Finished, st.lists(st.just("stop"), max_size=3).map(tuple), st.just(USAGE)),
        st.just(LOST),
    ),
    max_size=12,
)


@given(EVENTS, st.integers(1, 2), st.lists(st.text("ab", min_size=1, max_size=2), max_size=2))
def test_any_event_sequence_gives_exactly_one_terminal_at_the_end(
    events: list[Event], choices: int, stop: list[str]
) -> None:
    out = run(request(choices, tuple(stop)), events)
    terminals = [event for event in out if isinstance(event, (AnswerFinished, Failed))]
    assert terminals == [out[-1]]
    assert all(event.text for event in out if isinstance(event, TextDelta))
    if isinstance(out[-1], AnswerFinished):
        assert [event.choice for event in out if isinstance(event, ChoiceFinished)] == list(range(choices))


def asked_with_tools(**changes: object) -> GenerateRequest:
    prompt = ChatInput((ChatMessage("user", "x"),), (Tool("look"),))
    return GenerateRequest(RequestId("r"), "m", prompt, **changes)  # type: ignore[arg-type]  # real fields


CALL = b'<tool_call>{"name": "look", "arguments": {"at": 1}}</tool_call>'
TAGGED_START = Started("d", 3, parser_id=TAGGED)


def test_reasoning_and_calls_come_as_what_they_are() -> None:
    events: list[Event] = [TAGGED_START, Tokens(0, (1,), b"<think>h"), Tokens(0, (2,), b"m</think>so " + CALL)]
    _, *deltas, finished, _ = run(asked_with_tools(), [*events, Finished(("stop",), USAGE)])
    thought, more, text, start, arguments = deltas
    assert (thought, more) == (ReasoningDelta(0, "h"), ReasoningDelta(0, "m"))
    assert text == TextDelta(0, "so ")
    assert isinstance(start, ToolCallStart)
    assert (start.index, start.name, start.id[:5], len(start.id)) == (0, "look", "call_", 29)
    assert arguments == ToolArgumentsDelta(0, 0, '{"at": 1}')
    assert finished == ChoiceFinished(0, "stop", None, called_tools=True)


def test_calls_have_ids_of_their_own_and_the_same_ones_again() -> None:
    asked = asked_with_tools(choices=2)
    tokens = [Tokens(choice, (1,), CALL + CALL) for choice in (0, 1)]
    events: list[Event] = [TAGGED_START, *tokens, Finished(("stop", "stop"), USAGE)]
    ids = [[event.id for event in run(asked, events) if isinstance(event, ToolCallStart)] for _ in range(2)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 4


def asked_in_chat(stop: tuple[str, ...] = ()) -> GenerateRequest:
    return GenerateRequest(RequestId("r"), "m", ChatInput((ChatMessage("user", "x"),)), stop=stop)


def test_without_tools_a_call_is_text_and_without_the_parser_everything_is() -> None:
    for asked, started in ((asked_in_chat(), TAGGED_START), (asked_with_tools(), Started("d", 3))):
        out = run(asked, [started, Tokens(0, (1,), CALL), Finished(("stop",), USAGE)])
        assert out[1:3] == [TextDelta(0, CALL.decode()), ChoiceFinished(0, "stop")]


def test_what_is_held_back_at_the_end_is_told_apart_too() -> None:
    asked = asked_in_chat(stop=("</x",))
    events: list[Event] = [TAGGED_START, Tokens(0, (1,), b"<think>b</thi"), Finished(("stop",), USAGE)]
    assert run(asked, events)[1:3] == [ReasoningDelta(0, "b"), ReasoningDelta(0, "</thi")]


def test_the_reasoning_may_begin_in_the_prompt() -> None:
    events: list[Event] = [Started("d", 3, parser_id=TAGGED_THINKING), Tokens(0, (1,), b"b</think>\na")]
    out = run(asked_in_chat(), [*events, Finished(("stop",), USAGE)])
    assert out[1:3] == [ReasoningDelta(0, "b"), TextDelta(0, "a")]


def test_a_call_without_arguments_has_an_empty_object() -> None:
    tokens = Tokens(0, (1,), b'<tool_call>{"name": "look", "arguments": ""}</tool_call>\n' + CALL)
    out = run(asked_with_tools(), [TAGGED_START, tokens, Finished(("stop",), USAGE)])
    assert [event.text for event in out if isinstance(event, ToolArgumentsDelta)] == ["{}", '{"at": 1}']
    assert not [event for event in out if isinstance(event, TextDelta)]


def test_how_a_text_goes_on_is_text_tags_and_all() -> None:
    for parser_id in (TAGGED, TAGGED_THINKING):
        for prompt in (TextInput("x"), TokenInput((1,))):
            asked = GenerateRequest(RequestId("r"), "m", prompt)
            events: list[Event] = [Started("d", 3, parser_id=parser_id), Tokens(0, (1,), b"<think>a</think> b")]
            out = run(asked, [*events, Finished(("stop",), USAGE)])
            assert out[1] == TextDelta(0, "<think>a</think> b")


def test_probabilities_come_with_the_text_of_their_tokens() -> None:
    one, two = TokenLogprob(1, b"\xc3", -1.0), TokenLogprob(2, b"\xa9", -2.0)
    out = run(
        request(stop=("END",)),
        [
            Tokens(0, (1,), b"\xc3", (one,)),
            Tokens(0, (2,), b"\xa9", (two,)),
            Tokens(0, (3,), b"END", (one,)),
            Tokens(0, (4,), b"!", (two,)),
            Finished(("stop_string",), USAGE),
        ],
    )
    assert out[0] == TextDelta(0, "é", (one, two))
    assert out[1] == ChoiceFinished(0, "stop_string", "END")


def test_the_answer_to_another_kind_of_request_is_a_failure() -> None:
    others: tuple[Event, ...] = (Embedded(0, b""), Scored(()), Tokenized(()), Detokenized(b""))
    for other in others:
        (failed,) = run(request(), [other])
        assert isinstance(failed, Failed)
        assert failed.category is Category.UPSTREAM_FAILED
