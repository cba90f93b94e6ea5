"""Answer, reasoning and calls told apart by tags, wherever the text is cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localai.node import tagged_text
from localai.node.tagged_text import Called, Piece, Said, TagSplitter


def split(*texts: str, with_tools: bool = True) -> list[Piece]:
    splitter = TagSplitter(with_tools=with_tools)
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
        ("a<think></think>b", [Said("text", "ab")]),
        ("<think>never closed", [Said("reasoning", "never closed")]),
        ("a </think> b <thin", [Said("text", "a </think> b <thin")]),
        (call(at=1), [Called("look", '{"at": 1}')]),
        (
            f"so: {call()}\n{call('go')}",
            [Said("text", "so: "), Called("look", "{}"), Said("text", "\n"), Called("go", "{}")],
        ),
        ('<tool_call>{"name": "look"}', [Called("look", "{}")]),
        ('<tool_call>{"name": "look", "parameters": {"a": "ü"}}</tool_call>', [Called("look", '{"a": "ü"}')]),
        ('<tool_call>{"name": "look", "arguments": "{\\"a\\":1}"}</tool_call>', [Called("look", '{"a":1}')]),
        ("<tool_call>no json</tool_call>!", [Said("text", "<tool_call>no json</tool_call>!")]),
        ('<tool_call>{"name": ""}</tool_call>', [Said("text", '<tool_call>{"name": ""}</tool_call>')]),
        ('<tool_call>{"name": "look", "arguments": {"a": "\\ud800"}}', [Called("look", '{"a": "\\ud800"}')]),
        ('<tool_call>{"name": "\\ud800"}', [Said("text", '<tool_call>{"name": "\\ud800"}')]),
        ("<tool_call>[1]", [Said("text", "<tool_call>[1]")]),
    ],
)
def test_texts(text: str, pieces: list[Piece]) -> None:
    assert split(text) == pieces
    assert split(*text) == pieces


def test_without_tools_a_call_is_text() -> None:
    assert split(call(), with_tools=False) == [Said("text", call())]


def test_a_call_that_is_far_too_long_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagged_text, "MAX_CALL_CHARS", 10)
    assert split("<tool_call>", "x" * 11, "after") == [Said("text", "<tool_call>" + "x" * 11 + "after")]


def test_text_comes_as_soon_as_it_is_certain() -> None:
    splitter = TagSplitter(with_tools=True)
    assert splitter.feed("Hello <") == [Said("text", "Hello ")]
    assert splitter.feed("b>") == [Said("text", "<b>")]


_PARTS = st.sampled_from(
    ["a", "ü ", "<", ">", "</", "think>", "<think>", "</think>", "<tool_call>", "</tool_call>", call()]
)


@settings(max_examples=60)
@given(st.lists(_PARTS, max_size=12).map("".join), st.data())
def test_where_the_text_is_cut_does_not_matter(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    parts = [text[first:last] for first, last in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert split(*parts) == split(text)
