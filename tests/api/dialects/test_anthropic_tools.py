from __future__ import annotations

import json
from typing import Any

import pytest

from localai.api.bodies import decode_body
from localai.api.dialects.anthropic_tools import eager_tools, read_tool_use
from localai.api.dialects.tools import ToolUse
from localai.api.schemas.anthropic_requests import PromptBody
from localai.mesh.errors import InvalidRequest, LocalAIError, Unsupported
from localai.node.inference import Tool

LOOK = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}
FEEL = {"name": "feel", "type": "custom", "input_schema": {}, "strict": True}
TOOLS = (Tool("look", "Looks.", '{"type": "object"}'), Tool("feel", "", "{}", True))


def body(**fields: Any) -> PromptBody:
    return decode_body(json.dumps(fields).encode(), PromptBody)


def use(**fields: Any) -> ToolUse:
    given = body(**fields)
    return read_tool_use(given.tools, given.tool_choice)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolUse(TOOLS)),
        ("", ToolUse(TOOLS)),
        ("auto", ToolUse(TOOLS)),
        ("any", ToolUse(TOOLS, "required")),
        ("none", ToolUse((), "none")),
        ({"type": "auto"}, ToolUse(TOOLS)),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolUse(TOOLS, parallel=False)),
        ({"type": "any", "disable_parallel_tool_use": False}, ToolUse(TOOLS, "required")),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolUse(TOOLS, "required", parallel=False)),
        ({"type": "tool", "name": "feel"}, ToolUse(TOOLS, "required", "feel")),
        ({"type": "none"}, ToolUse((), "none")),
    ],
)
def test_every_choice(choice: Any, expected: ToolUse) -> None:
    assert use(tools=[LOOK, FEEL], tool_choice=choice) == expected


def test_no_tools() -> None:
    assert use() == use(tools=[], tool_choice={"type": "auto"}) == ToolUse()


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({"tools": [{"name": "x", "type": "web_search_20250305"}]}, Unsupported, "tools[0].type"),
        ({"tools": [{"name": "bash", "type": "bash_20250124"}]}, Unsupported, "tools[0].type"),
        ({"tools": [{"name": "", "input_schema": {}}]}, InvalidRequest, "tools[0].name"),
        ({"tools": [{"name": "x" * 257, "input_schema": {}}]}, InvalidRequest, "tools[0].name"),
        ({"tools": [{"name": "x"}]}, InvalidRequest, "tools[0].input_schema"),
        ({"tools": [LOOK, FEEL, LOOK]}, InvalidRequest, "tools[2].name"),
        ({"tools": [LOOK] * 513}, InvalidRequest, "tools"),
        ({"tool_choice": "any"}, InvalidRequest, "tool_choice"),
        ({"tool_choice": {"type": "tool", "name": "look"}}, InvalidRequest, "tool_choice"),
        ({"tools": [LOOK], "tool_choice": "look"}, InvalidRequest, "tool_choice.type"),
        ({"tools": [LOOK], "tool_choice": {"type": "tool"}}, InvalidRequest, "tool_choice.name"),
        ({"tools": [LOOK], "tool_choice": {"type": "tool", "name": "feel"}}, InvalidRequest, "tool_choice.name"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], kind: type[LocalAIError], param: str) -> None:
    with pytest.raises(kind) as caught:
        use(**fields)
    assert caught.value.param == param


def test_whose_input_is_streamed_as_it_comes() -> None:
    eager, waits = {**LOOK, "eager_input_streaming": True}, {**FEEL, "eager_input_streaming": False}
    tools = body(tools=[eager, waits, {"name": "third"}]).tools
    assert eager_tools(tools, "") == {"look"}
    assert eager_tools(tools, "other, fine-grained-tool-streaming-2025-05-14") == {"look", "third"}
    assert eager_tools(None, "fine-grained-tool-streaming-2025-05-14") == frozenset()
