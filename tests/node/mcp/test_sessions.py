from __future__ import annotations

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from localai.mesh.errors import LocalAIError, Unavailable
from localai.node.inference import ToolCall
from localai.node.mcp.connection import McpTimes
from localai.node.mcp.servers import ProgramServer, RemoteServer
from localai.node.mcp.sessions import McpSessions, OpenTools
from localai.node.mcp.toolbox import MAX_CALLS, OfferedTool, ToolOutcome, make_toolbox
from localai.node.testing.mcp_server import remote_server

NOWHERE = ProgramServer("nowhere", "/nowhere/at/all")


@pytest.fixture(scope="module")
def remote() -> Iterator[RemoteServer]:
    with remote_server() as server:
        yield server


@pytest.mark.e2e
async def test_the_tools_of_all_servers_that_work(remote: RemoteServer) -> None:
    sessions = McpSessions()
    opened = await sessions.open("m", [NOWHERE, remote], taken=["add"])
    assert "there_add" in opened.toolbox.origins
    calls = [ToolCall("1", "there_add", '{"a": 1, "b": 2}'), ToolCall("2", "add", "{}"), ToolCall("3", "pid", "[]")]
    right, unknown, wrong = await opened.run(calls)
    assert right == ToolOutcome("3")
    assert unknown.is_error
    assert unknown.text.startswith("There is no tool called 'add'. There are: there_add, ")
    assert wrong == ToolOutcome("The arguments are not a JSON object.", is_error=True)
    await sessions.aclose()


@pytest.mark.e2e
async def test_each_model_has_its_own_connection_as_long_as_it_is_used(remote: RemoteServer) -> None:
    sessions = McpSessions(McpTimes(idle_s=0.0))
    await sessions.ask("a", [remote])
    await sessions.ask("b", [remote])
    await sessions.wait_idle()
    assert sessions.open_count() == 0
    await sessions.aclose()
    sessions = McpSessions()
    for model in ("a", "b", "a"):
        await sessions.ask(model, [remote])
    assert sessions.open_count() == 2
    await sessions.aclose()
    assert sessions.open_count() == 0


async def test_no_server_that_works_is_an_error() -> None:
    sessions = McpSessions()
    with pytest.raises(LocalAIError) as caught:
        await sessions.open("m", [NOWHERE])
    assert caught.value.code == "no_working_mcp_servers"
    assert caught.value.message.startswith("no working MCP servers found: The MCP server 'nowhere' cannot be used")
    await sessions.aclose()


async def test_after_the_end_nothing_is_begun() -> None:
    sessions = McpSessions()
    await sessions.aclose()
    with pytest.raises(Unavailable):
        await sessions.open("m", [NOWHERE])


async def test_too_many_calls_at_once_are_told_to_the_model() -> None:
    tools = OpenTools(make_toolbox([OfferedTool("s", "f")]), {})
    calls = [ToolCall(str(place), "f", "not JSON") for place in range(MAX_CALLS + 1)]
    with capture_logs():
        outcomes = await tools.run(calls)
    assert {outcome.text for outcome in outcomes[:MAX_CALLS]} == {"The arguments are not a JSON object."}
    assert outcomes[MAX_CALLS].text.startswith(f"At most {MAX_CALLS} tools")
