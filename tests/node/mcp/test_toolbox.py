from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localai.node.inference import Tool, ToolCall
from localai.node.mcp.toolbox import (
    MAX_DESCRIPTION_CHARS,
    MAX_RESULT_CHARS,
    MAX_SCHEMA_CHARS,
    MAX_TOOLS,
    OfferedTool,
    make_toolbox,
    parse_arguments,
    result_text,
)


def test_a_tool_keeps_its_name_where_it_is_free() -> None:
    offered = [OfferedTool("a", "find", "Finds.", '{"x":1}'), OfferedTool("b", "find"), OfferedTool("b", "open")]
    box = make_toolbox(offered, taken=["open"])
    assert box.tools == (Tool("find", "Finds.", '{"x":1}'), Tool("b_find"), Tool("b_open"))
    assert box.origins["b_find"] == offered[1]
    assert box.left_out == ()


def test_names_are_made_to_fit() -> None:
    box = make_toolbox([OfferedTool("my server", "files/read.all"), OfferedTool("s", "n" * 100)])
    assert [tool.name for tool in box.tools] == ["files_read_all", "n" * 64]


def test_what_is_too_much_is_left_out_or_cut() -> None:
    same = [OfferedTool("a", "x"), OfferedTool("a", "x"), OfferedTool("a", "x")]
    assert make_toolbox(same).left_out == (same[2],)
    big = OfferedTool("a", "big", schema="x" * (MAX_SCHEMA_CHARS + 1))
    assert make_toolbox([big]).left_out == (big,)
    many = [OfferedTool("a", f"t{place}") for place in range(MAX_TOOLS + 2)]
    assert make_toolbox(many).left_out == tuple(many[MAX_TOOLS:])
    long = make_toolbox([OfferedTool("a", "long", "d" * (MAX_DESCRIPTION_CHARS + 1))])
    assert len(long.tools[0].description) == MAX_DESCRIPTION_CHARS


OFFERED = st.builds(OfferedTool, st.text(max_size=4), st.text(max_size=3) | st.just("n" * 70))


@settings(max_examples=60)
@given(st.lists(OFFERED, max_size=12), st.lists(st.sampled_from(["a", "n", "_"])))
def test_names_are_unique_and_usable(offered: list[OfferedTool], taken: list[str]) -> None:
    box = make_toolbox(offered, taken)
    names = [tool.name for tool in box.tools]
    assert len({*names, *taken}) == len(names) + len(set(taken))
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names)
    assert list(box.origins) == names
    assert len(box.tools) + len(box.left_out) == len(offered)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [('{"a": 1}', {"a": 1}), ("", {}), ("  ", {}), ("[1]", None), ("{", None), ("[" * 100_000, None), ("\ud800", None)],
)
def test_arguments(text: str, arguments: Any) -> None:
    assert parse_arguments(ToolCall("c", "f", text)) == arguments


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}, "one\ntwo"),
        ({"content": [{"type": "image", "data": "xxxx", "mimeType": "image/png"}]}, "[image: image/png, not shown]"),
        ({"content": [{"type": "audio"}]}, "[audio: unknown type, not shown]"),
        ({"content": [{"type": "resource", "resource": {"uri": "file:///a", "text": "inside"}}]}, "inside"),
        ({"content": [{"type": "resource", "resource": {"uri": "file:///a", "blob": "x"}}]}, "[resource: file:///a]"),
        ({"content": [{"type": "resource_link", "uri": "file:///b", "name": "b"}]}, "[resource_link: file:///b]"),
        ({"content": [{}]}, ""),
        ({"content": [], "structuredContent": {"a": "ä"}}, '{"a": "ä"}'),
        ({"content": [{"type": "text", "text": "1"}], "structuredContent": {"result": 1}}, "1"),
        ({}, ""),
    ],
)
def test_results_as_text(result: Any, text: str) -> None:
    assert result_text(result) == text


def test_a_long_result_is_cut() -> None:
    text = result_text({"content": [{"type": "text", "text": "x" * (MAX_RESULT_CHARS + 5)}]})
    assert text.startswith("x" * MAX_RESULT_CHARS + "\n")
    assert text.endswith("[5 more characters were cut off]")
