"""The official package against servers made with it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from mcp import MCPError
from structlog.testing import capture_logs

from localai.node.mcp.client import MAX_ANSWER_BYTES, call_tool, is_lost, list_tools, open_client
from localai.node.mcp.servers import McpServer, RemoteServer
from localai.node.mcp.toolbox import ToolOutcome
from localai.node.testing.mcp_server import VARIABLE, program_server, remote_server

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def remote() -> Iterator[RemoteServer]:
    with remote_server() as server:
        yield server


@pytest.fixture(params=["program", "remote"])
def server(request: pytest.FixtureRequest, remote: RemoteServer) -> McpServer:
    return remote if request.param == "remote" else program_server()


async def test_tools_are_listed_and_called(server: McpServer) -> None:
    async with open_client(server) as client:
        tools = await list_tools(client, "s")
        add = next(tool for tool in tools if tool.name == "add")
        assert (add.server, add.description) == ("s", "Adds two numbers.")
        assert '"required":["a","b"]' in add.schema.replace(" ", "")
        assert await call_tool(client, "add", {"a": 1, "b": 2}) == ToolOutcome("3")
        failed = await call_tool(client, "fail", {})
        assert failed.is_error
        unknown = await call_tool(client, "nothing", {})
        assert unknown == ToolOutcome("Unknown tool: nothing", is_error=True)


async def test_a_program_gets_its_variables_and_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALAI_API_KEY", "ours")
    with capture_logs() as logs:
        async with open_client(program_server("here", **{VARIABLE: "theirs"})) as client:
            pid = int((await call_tool(client, "pid", {})).text)
            assert await call_tool(client, "variable", {"name": VARIABLE}) == ToolOutcome("theirs")
            assert await call_tool(client, "variable", {"name": "LOCALAI_API_KEY"}) == ToolOutcome("nothing")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert {"event": "mcp_server_output", "log_level": "debug", "server": "here", "line": "a line for the log"} in logs


async def test_the_token_opens_a_remote_server(remote: RemoteServer) -> None:
    with pytest.raises((MCPError, ExceptionGroup)):
        async with open_client(RemoteServer("there", remote.url)):
            pass


async def test_a_remote_answer_is_bounded(remote: RemoteServer) -> None:
    async with open_client(remote) as client:
        outcome = await call_tool(client, "talk", {"chars": MAX_ANSWER_BYTES})
        assert outcome.is_error
        assert "more than" in outcome.text
        assert await call_tool(client, "add", {"a": 1, "b": 2}) == ToolOutcome("3")


async def test_the_end_of_a_server_is_noticed() -> None:
    async with open_client(program_server()) as client:
        with pytest.raises(MCPError) as caught:
            await call_tool(client, "die", {})
        assert is_lost(caught.value)
    assert not is_lost(ValueError())
