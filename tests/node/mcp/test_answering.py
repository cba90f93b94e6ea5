from __future__ import annotations

from contextlib import aclosing

import pytest

from localai.mesh.errors import InvalidRequest, LocalAIError, Unsupported
from localai.node.catalog import Catalog
from localai.node.dispatch import Dispatch
from localai.node.inference import ChatInput, ChatMessage, GenerateRequest, Prompt, RequestId, TextInput
from localai.node.mcp.answering import answer_with_tools, chat_prompt, chosen_servers, open_tools
from localai.node.mcp.connection import McpConnection, McpTimes
from localai.node.mcp.rounds import RoundEvent, ToolRan
from localai.node.mcp.servers import ProgramServer
from localai.node.mcp.sessions import McpSessions, OpenTools
from localai.node.mcp.toolbox import OfferedTool, make_toolbox
from localai.node.model_config import ModelConfig
from localai.node.output_parser import AnswerFinished, ChoiceFinished, TextDelta
from localai.node.supervisor import ModelSupervisor
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.connection import WorkerConnection
from localai.node.workers.frames import Load
from localai.node.workers.lifecycle import LifecycleConfig

A, B = ProgramServer("a", "/nowhere/a"), ProgramServer("b", "/nowhere/b")
CONFIG = ModelConfig("m", "m.gguf", mcp_servers=(A, B))
CHAT = ChatInput((ChatMessage("user", "hello"),))


def request(prompt: Prompt = CHAT, choices: int = 1) -> GenerateRequest:
    return GenerateRequest(RequestId("r"), "m", prompt, choices=choices)


def test_servers_by_name_or_all_of_them() -> None:
    assert chosen_servers(CONFIG) == (A, B)
    assert chosen_servers(CONFIG, ("b", "a", "b")) == (B, A)


def test_servers_that_are_not_there() -> None:
    with pytest.raises(InvalidRequest, match=r"no MCP server 'c'\. It has: a, b"):
        chosen_servers(CONFIG, ("c",))
    with pytest.raises(LocalAIError, match="no MCP servers configured for the model 'm'"):
        chosen_servers(ModelConfig("m", "m.gguf"))


@pytest.mark.parametrize("asked", [request(TextInput("x")), request(choices=2)])
async def test_requests_that_cannot_have_tools(asked: GenerateRequest) -> None:
    with pytest.raises(Unsupported):
        chat_prompt(asked)
    with pytest.raises(Unsupported):
        await open_tools(McpSessions(), CONFIG, asked)


async def test_no_tools_of_servers_that_do_not_work() -> None:
    with pytest.raises(LocalAIError, match="no working MCP servers found"):
        await open_tools(McpSessions(), CONFIG, request(), ("a",))


async def test_asks_carries_out_and_asks_again() -> None:
    def answer(asked: GenerateRequest) -> bytes:
        assert isinstance(asked.prompt, ChatInput)
        is_first = len(asked.prompt.messages) == 1
        return b'<tool_call>{"name": "f", "arguments": {}}</tool_call>' if is_first else b"done"

    def supervise(config: ModelConfig) -> ModelSupervisor:
        async def spawn() -> WorkerConnection:
            return FakeWorker(answer, parser_id="tagged")

        return ModelSupervisor(config.name, Load("m", 512, 2, 1), spawn, LifecycleConfig(backoff_s=(0.0,)))

    dispatch = Dispatch(supervise, Catalog((CONFIG,)))
    events: list[RoundEvent] = []
    tools = OpenTools(make_toolbox([OfferedTool("a", "f")]), {"a": McpConnection(A, McpTimes())})
    try:
        async with aclosing(answer_with_tools(dispatch, request(), tools)) as batches:
            async for batch in batches:
                events += batch
    finally:
        await dispatch.aclose(0.0)
    (ran,) = (event for event in events if isinstance(event, ToolRan))
    assert (ran.server, ran.is_error) == ("a", True)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "done"
    assert isinstance(events[-2], ChoiceFinished)
    assert isinstance(events[-1], AnswerFinished)
