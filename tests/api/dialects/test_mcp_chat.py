from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localai.api.dialects.answer import AnswerHead
from localai.api.dialects.chat import ChatRenderer
from localai.api.dialects.mcp_chat import MCP_CHAT_PATHS, McpChatRenderer, render_servers, wanted_servers
from localai.mesh.errors import Category, Unsupported, UpstreamFailed
from localai.node.inference import Failed, Timings, ToolCall, Usage
from localai.node.mcp.rounds import RoundEvent, ToolRan
from localai.node.mcp.servers import ProgramServer, RemoteServer
from localai.node.mcp.toolbox import OfferedTool, ServerTools
from localai.node.output_parser import AnswerFinished, AnswerStarted, ChoiceFinished, ReasoningDelta, TextDelta

HEAD = AnswerHead("chatcmpl-1", 7, "m", 1)
RAN = ToolRan(ToolCall("c", "add", "{}"), "here", "42")
END: list[RoundEvent] = [ChoiceFinished(0, "stop"), AnswerFinished(Usage(1, 2, 0), Timings())]


def renderer() -> McpChatRenderer:
    return McpChatRenderer(HEAD, ChatRenderer(HEAD))


def streamed(answers: list[RoundEvent]) -> list[Any]:
    shown = renderer()
    data = [event.data for answer in answers for event in shown.stream(answer)]
    assert data[-1] == b"[DONE]"
    return [json.loads(each) for each in data[:-1]]


@pytest.mark.parametrize(
    ("path", "metadata", "servers"),
    [
        ("/v1/chat/completions", None, None),
        ("/v1/chat/completions", {"mcp_servers": " , "}, None),
        ("/v1/chat/completions", {"mcp_servers": "a, b"}, ("a", "b")),
        (MCP_CHAT_PATHS[0], None, ()),
        (MCP_CHAT_PATHS[1] + "/", {"other": "x"}, ()),
        (MCP_CHAT_PATHS[2], {"mcp_servers": "a"}, ("a",)),
    ],
)
def test_which_servers_are_wanted(path: str, metadata: Any, servers: tuple[str, ...] | None) -> None:
    assert wanted_servers(path, metadata) == servers


@pytest.mark.parametrize("key", ["mcp_prompt", "mcp_prompt_args", "mcp_resources"])
def test_prompts_and_resources_are_refused(key: str) -> None:
    assert wanted_servers("/v1/chat/completions", {key: ""}) is None
    with pytest.raises(Unsupported) as caught:
        wanted_servers("/v1/chat/completions", {key: "x"})
    assert (caught.value.code, caught.value.param) == ("unsupported_field", f"metadata.{key}")


def test_a_result_is_an_event_of_its_own_that_is_also_a_chunk() -> None:
    events = streamed([AnswerStarted(1), TextDelta(0, "Look."), RAN, TextDelta(0, "42"), *END])
    (result,) = (event for event in events if event.get("type"))
    assert result == {
        "type": "mcp_tool_result",
        "name": "add",
        "result": "42",
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "m",
        "choices": [],
    }


def test_failures_are_those_of_chat() -> None:
    failed = Failed(Category.INTERNAL, "mcp_iteration_limit", "MCP iteration limit reached.")
    shown, plain = renderer().stream(failed), ChatRenderer(HEAD).stream(failed)
    assert shown == plain


PARTS = st.sampled_from([TextDelta(0, "word "), TextDelta(0, "x"), ReasoningDelta(0, "hm"), RAN])


@settings(max_examples=80)
@given(st.lists(PARTS, max_size=8))
def test_folding_the_stream_gives_the_answer(parts: list[RoundEvent]) -> None:
    answers: list[RoundEvent] = [AnswerStarted(1), *parts, *END]
    events = streamed(answers)
    whole = msgspec.to_builtins(renderer().whole(answers))
    texts = [choice["delta"].get("content") or "" for event in events for choice in event["choices"]]
    assert "".join(texts) == (whole["choices"][0]["message"]["content"] or "")
    assert [event["name"] for event in events if "type" in event] == ["add" for part in parts if part == RAN]


def test_rounds_are_set_apart_only_where_there_is_text_before() -> None:
    whole = msgspec.to_builtins(
        renderer().whole([RAN, TextDelta(0, "a"), TextDelta(0, "b"), RAN, RAN, TextDelta(0, "c"), *END])
    )
    assert whole["choices"][0]["message"]["content"] == "ab\n\nc"


def test_servers_and_what_is_wrong_with_them() -> None:
    asked = [
        ServerTools(RemoteServer("far", "http://x/"), (OfferedTool("far", "add"),)),
        ServerTools(ProgramServer("near", "x"), error=UpstreamFailed("It is broken.")),
    ]
    assert msgspec.to_builtins(render_servers("m", asked)) == {
        "model": "m",
        "servers": [
            {"name": "far", "type": "remote", "tools": ["add"]},
            {"name": "near", "type": "stdio", "tools": [], "error": "It is broken."},
        ],
    }
