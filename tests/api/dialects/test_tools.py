from __future__ import annotations

import json
from typing import Any

import pytest

from localai.api.bodies import decode_body
from localai.api.dialects.tools import MAX_TOOLS, ToolUse, read_tools
from localai.api.schemas.openai_requests import ChatBody
from localai.mesh.errors import InvalidRequest, LocalAIError, Unsupported
from localai.node.inference import Tool

F = Tool("f", "Finds.", '{"type": "object"}', strict=True)
G = Tool("g")
FUNCTION_F = {"name": "f", "description": "Finds.", "parameters": {"type": "object"}, "strict": True}
TOOLS = [{"type": "function", "function": FUNCTION_F}, {"type": "function", "function": {"name": "g"}}]
NAMED = {"type": "function", "function": {"name": "g"}}


def read(**fields: Any) -> ToolUse:
    return read_tools(decode_body(json.dumps(fields).encode(), ChatBody))


@pytest.mark.parametrize(
    "nothing", [{}, {"tools": []}, {"tools": None}, {"tool_choice": "auto"}, {"parallel_tool_calls": True}]
)
def test_no_tools(nothing: dict[str, Any]) -> None:
    assert read(**nothing) == ToolUse()


def test_tools_and_how_many_at_once() -> None:
    assert read(tools=TOOLS) == ToolUse((F, G))
    assert read(tools=TOOLS, parallel_tool_calls=False) == ToolUse((F, G), parallel=False)
    assert read(tools=[{"function": {"name": "g", "parameters": None}}]) == ToolUse((G,))


@pytest.mark.parametrize(
    ("choice", "use"),
    [
        (None, ToolUse((F, G))),
        ("", ToolUse((F, G))),
        ("auto", ToolUse((F, G))),
        ("none", ToolUse((), "none")),
        ("required", ToolUse((F, G), "required")),
        (NAMED, ToolUse((F, G), "required", "g")),
        ({"type": "function", "name": "g"}, ToolUse((F, G), "required", "g")),
        (json.dumps(NAMED), ToolUse((F, G), "required", "g")),
        ('{"type": "function", "name": "f"}', ToolUse((F, G), "required", "f")),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}}, ToolUse((G,), "required")),
        ({"type": "allowed_tools", "allowed_tools": {"tools": [NAMED]}}, ToolUse((G,))),
    ],
)
def test_every_form_of_choice(choice: Any, use: ToolUse) -> None:
    assert read(tools=TOOLS, tool_choice=choice) == use


@pytest.mark.parametrize(
    ("choice", "use"),
    [
        (None, ToolUse((F,), parallel=False, is_legacy=True)),
        ("auto", ToolUse((F,), parallel=False, is_legacy=True)),
        ("none", ToolUse((), "none", parallel=False, is_legacy=True)),
        ("f", ToolUse((F,), "required", "f", parallel=False, is_legacy=True)),
        ({"name": "f"}, ToolUse((F,), "required", "f", parallel=False, is_legacy=True)),
    ],
)
def test_functions_as_they_were(choice: Any, use: ToolUse) -> None:
    assert read(functions=[FUNCTION_F], function_call=choice) == use


def test_functions_beside_tools_are_tools() -> None:
    assert read(tools=TOOLS[1:], functions=[FUNCTION_F]) == ToolUse((G, F))


def test_either_choice_counts_for_both() -> None:
    assert read(tools=TOOLS, function_call={"name": "g"}) == ToolUse((F, G), "required", "g")
    asked = read(functions=[FUNCTION_F], tool_choice="required", function_call="none")
    assert asked == ToolUse((F,), "required", parallel=False, is_legacy=True)


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, Unsupported, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, InvalidRequest, "tools[0]"),
        ({"tools": [{"function": {"name": ""}}]}, InvalidRequest, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "f" * 300}}]}, InvalidRequest, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "f", "parameters": []}}]}, InvalidRequest, "tools[0].function.parameters"),
        ({"functions": [{"name": "f", "parameters": 1}]}, InvalidRequest, "functions[0].parameters"),
        ({"functions": [{"name": "f"}], "function_call": "g"}, InvalidRequest, "function_call"),
        ({"functions": [{"name": "f"}], "function_call": "required"}, InvalidRequest, "function_call"),
        ({"tools": TOOLS[:1] * (MAX_TOOLS + 1)}, InvalidRequest, "tools"),
        ({"tool_choice": "required"}, InvalidRequest, "tool_choice"),
        ({"tool_choice": NAMED}, InvalidRequest, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "any"}, InvalidRequest, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "{bad"}, InvalidRequest, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "name": "h"}}, InvalidRequest, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, InvalidRequest, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "custom"}}, Unsupported, "tool_choice.type"),
        (
            {
                "tools": TOOLS,
                "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "x", "tools": [NAMED]}},
            },
            InvalidRequest,
            "tool_choice",
        ),
        (
            {"tools": TOOLS[:1], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": [NAMED]}}},
            InvalidRequest,
            "tool_choice",
        ),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], kind: type[LocalAIError], param: str) -> None:
    with pytest.raises(kind) as caught:
        read(**fields)
    assert caught.value.param == param
    assert caught.value.message.endswith(".")
