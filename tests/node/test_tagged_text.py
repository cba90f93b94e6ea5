"""Answer, reasoning and calls told apart by tags, wherever the text is cut."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localai.node import tagged_text
from localai.node.tagged_text import Called, Piece, Said, TagSplitter


def split(*texts: str, with_tools: bool = True, thinking: bool = False) -> list[Piece]:
    splitter = TagSplitter(with_tools=with_tools, thinking=thinking)
    pieces = [piece for text in texts for piece in splitter.feed(text)]
    return joined([*pieces, *splitter.finish()])


def joined(pieces: list[Piece]) -> list[Piece]:
    out: list[Piece] = []
    for piece in pieces:
        last = out[-1] if out else None
        if isinstance(piece, Said) and isinstance(last, Said) and piece.kind == last.kind:
            out[-1] = Said(piece.kind, last.text + piece.text)
        else:
            out.append(piece)
    return out


def call(name: str = "look", **arguments: object) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("plain", [Said("text", "plain")]),
        ("<think>hm</think>yes", [Said("reasoning", "hm"), Said("text", "yes")]),
        ("\n<think></think>b", [Said("text", "b")]),
        ("Put <think> first.</think>", [Said("text", "Put <think> first.</think>")]),
        ("<think>a</think><think>b</think>", [Said("reasoning", "a"), Said("text", "<think>b</think>")]),
        (f"{call()}<think>b", [Called("look", "{}"), Said("text", "<think>b")]),
        (" \n<thin", [Said("text", " \n<thin")]),
        (" \n", [Said("text", " \n")]),
        ("<think>a</think>\r\n\n    b\n", [Said("reasoning", "a"), Said("text", "    b\n")]),
        ("<think>a</think>\n\n", [Said("reasoning", "a")]),
        (f"<think>a</think>\n\n{call()}", [Said("reasoning", "a"), Called("look", "{}")]),
        ("<think>never closed", [Said("reasoning", "never closed")]),
        ("a </think> b <thin", [Said("text", "a </think> b <thin")]),
        (call(at=1), [Called("look", '{"at": 1}')]),
        (
            f"so: {call()}\n{call('go')}",
            [Said("text", "so: "), Called("look", "{}"), Called("go", "{}")],
        ),
        (f"\n{call()}\n", [Called("look", "{}")]),
        (f"{call()}\nso", [Called("look", "{}"), Said("text", "\nso")]),
        (f"{call()}\n<tool_call>1", [Called("look", "{}"), Said("text", "\n<tool_call>1")]),
        ('<tool_call>{"name": "look"}', [Called("look", "{}")]),
        ('<tool_call>{"name": "look", "parameters": {"a": "ü"}}</tool_call>', [Called("look", '{"a": "ü"}')]),
        ('<tool_call>{"name": "look", "arguments": "{\\"a\\":1}"}</tool_call>', [Called("look", '{"a": 1}')]),
        (call(text='</tool_call>"</tool_call>\\'), [Called("look", '{"text": "</tool_call>\\"</tool_call>\\\\"}')]),
        ('<tool_call>{"a</tool_call>', [Said("text", '<tool_call>{"a</tool_call>')]),
        ("<tool_call>no json</tool_call>!", [Said("text", "<tool_call>no json</tool_call>!")]),
        ('<tool_call>{"name": ""}</tool_call>', [Said("text", '<tool_call>{"name": ""}</tool_call>')]),
        ('<tool_call>{"name": "\\ud800"}', [Said("text", '<tool_call>{"name": "\\ud800"}')]),
        ("<tool_call>[1]", [Said("text", "<tool_call>[1]")]),
    ],
)
def test_texts(text: str, pieces: list[Piece]) -> None:
    assert split(text) == pieces
    assert split(*text) == pieces


@pytest.mark.parametrize("arguments", ["null", '""', '" "', '"null"', '"{}"', "{}"])
def test_no_arguments_are_an_empty_object(arguments: str) -> None:
    assert split(f'<tool_call>{{"name": "look", "arguments": {arguments}}}</tool_call>') == [Called("look", "{}")]


@pytest.mark.parametrize(
    "arguments",
    [
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": -Infinity}',
        "[1]",
        "1",
        '"[1]"',
        '"{\\"a\\": NaN}"',
        '"x"',
        r'{"a": "\ud800"}',
        '{"a":' * 9999 + "1" + "}" * 9999,
    ],
)
def test_a_call_whose_arguments_are_no_object_is_text(arguments: str) -> None:
    text = f'<tool_call>{{"name": "look", "arguments": {arguments}}}</tool_call>'
    assert split(text) == [Said("text", text)]


def test_the_prompt_may_have_opened_the_reasoning() -> None:
    assert split("a", "</think>", "\nb", thinking=True) == [Said("reasoning", "a"), Said("text", "b")]
    assert split("a</thi", thinking=True) == [Said("reasoning", "a</thi")]
    assert split("a", thinking=True) == [Said("reasoning", "a")]


def test_more_of_an_open_call_costs_its_own_length() -> None:
    splitter = TagSplitter(with_tools=True)
    splitter.feed('<tool_call>{"name": "look", "arguments": {"text": "' + "x" * 500_000)
    tracemalloc.start()
    try:
        assert splitter.feed("xxxx") == []
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()
    assert splitter.feed('"}}</tool_call>') == [Called("look", json.dumps({"text": "x" * 500_004}))]


def test_without_tools_a_call_is_text() -> None:
    assert split(call(), with_tools=False) == [Said("text", call())]


def test_a_call_that_is_far_too_long_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagged_text, "MAX_CALL_CHARS", 10)
    assert split("<tool_call>", "x" * 11, "after") == [Said("text", "<tool_call>" + "x" * 11 + "after")]
    text = "<tool_call>" + "x" * 11 + call() + "<tool_call>1</tool_call>"
    assert split(text) == split(*text) == [Said("text", text)]
    assert split(f"<tool_call>{'x' * 10}</tool_call>") == [Said("text", f"<tool_call>{'x' * 10}</tool_call>")]


def test_text_comes_as_soon_as_it_is_certain() -> None:
    splitter = TagSplitter(with_tools=True)
    assert splitter.feed("Hello <") == [Said("text", "Hello ")]
    assert splitter.feed("b>") == [Said("text", "<b>")]


_PARTS = st.sampled_from(
    ["a", "ü ", "\n", '"', "\\", "<", ">", "</", "think>", "<think>", "</think>", "<tool_call>", "</tool_call>"]
) | st.sampled_from([call(), call(text='"</tool_call>')])


@settings(max_examples=120)
@given(st.lists(_PARTS, max_size=12).map("".join), st.sampled_from([20, tagged_text.MAX_CALL_CHARS]), st.data())
def test_where_the_text_is_cut_does_not_matter(text: str, longest: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    parts = [text[first:last] for first, last in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    thinking = data.draw(st.booleans())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tagged_text, "MAX_CALL_CHARS", longest)
        assert split(*parts, thinking=thinking) == split(text, thinking=thinking)
