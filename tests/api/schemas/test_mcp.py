from __future__ import annotations

import msgspec

from localai.api.schemas.mcp import ServerBody, ToolResultEvent


def test_a_result_looks_like_a_chunk_without_choices() -> None:
    event = ToolResultEvent(name="f", result="x", id="c", created=1, model="m")
    assert msgspec.to_builtins(event)["choices"] == ()


def test_a_server_shows_tools_even_if_there_are_none() -> None:
    assert msgspec.to_builtins(ServerBody(name="s", type="stdio", tools=[])) == {
        "name": "s",
        "type": "stdio",
        "tools": [],
    }
