from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from localai.mesh.errors import Unsupported, UpstreamFailed
from localai.mesh.secrets import Secret
from localai.node.mcp.connection import McpConnection, McpTimes
from localai.node.mcp.servers import McpServer, ProgramServer, RemoteServer
from localai.node.mcp.toolbox import ToolOutcome
from localai.node.testing.mcp_server import program_server, remote_server

TIMES = McpTimes(connect_s=20.0, call_s=20.0)


@pytest.fixture(scope="module")
def remote() -> Iterator[RemoteServer]:
    with remote_server() as server:
        yield server


@pytest.mark.e2e
async def test_one_connection_serves_many_and_is_closed_at_the_end(remote: RemoteServer) -> None:
    connection = McpConnection(remote, TIMES)
    assert not connection.is_open
    with capture_logs() as logs:
        lists = await asyncio.gather(*(connection.list_tools() for _ in range(5)))
        outcomes = await asyncio.gather(*(connection.call("add", {"a": n, "b": 1}) for n in range(5)))
    assert all(lists)
    assert outcomes == [ToolOutcome(str(n + 1)) for n in range(5)]
    assert [entry["event"] for entry in logs].count("mcp_connected") == 1
    assert connection.is_open
    await connection.aclose()
    assert not connection.is_open
    await connection.wait_closed()


@pytest.mark.e2e
async def test_a_program_that_died_is_started_again() -> None:
    connection = McpConnection(program_server(), TIMES)
    first = await connection.call("pid", {})
    died = await connection.call("die", {})
    assert died == ToolOutcome("The tool's server ended or answered something unusable.", is_error=True)
    second = await connection.call("pid", {})
    assert second.text.isdigit()
    assert second != first
    await connection.aclose()


@pytest.mark.e2e
async def test_a_connection_that_was_lost_unnoticed_is_made_again_for_the_next_request() -> None:
    with remote_server() as server:
        connection = McpConnection(server, TIMES)
        await connection.list_tools()
    with pytest.raises(UpstreamFailed):
        await connection.list_tools()  # tried on the old connection, then on a new one
    await connection.aclose()


@pytest.mark.e2e
async def test_a_call_has_its_time_and_the_connection_goes_on(remote: RemoteServer) -> None:
    connection = McpConnection(remote, McpTimes(call_s=0.2))
    await connection.list_tools()
    assert await connection.call("hang", {}) == ToolOutcome("The tool did not answer within 0.2 s.", is_error=True)
    assert connection.is_open
    await connection.aclose()


@pytest.mark.e2e
async def test_an_idle_connection_is_closed_and_made_again(remote: RemoteServer) -> None:
    connection = McpConnection(remote, McpTimes(idle_s=0.0))
    await connection.list_tools()
    await connection.wait_closed()
    assert not connection.is_open
    assert await connection.call("add", {"a": 1, "b": 2}) == ToolOutcome("3")
    await connection.aclose()


BROKEN: list[tuple[McpServer, str]] = [
    (ProgramServer("s", "/nowhere/at/all"), "there is no such program"),
    (ProgramServer("s", "/bin/false"), "no connection can be made"),
    (ProgramServer("s", "/bin/sleep", ("60",)), "it does not answer within 0.5 s"),
    (RemoteServer("s", "http://127.0.0.1:9/?key=hidden", Secret("hidden")), "no connection can be made"),
]


@pytest.mark.e2e
@pytest.mark.parametrize(("server", "reason"), BROKEN)
async def test_what_cannot_be_reached_is_named_without_its_secrets(server: McpServer, reason: str) -> None:
    connection = McpConnection(server, McpTimes(connect_s=0.5 if "0.5" in reason else 20.0))
    with capture_logs() as logs, pytest.raises(UpstreamFailed) as caught:
        await connection.list_tools()
    assert caught.value.code == "mcp_server_failed"
    assert caught.value.message.startswith(f"The MCP server 's' cannot be used: {reason}.")
    outcome = await connection.call("add", {})
    assert outcome.is_error
    assert "cannot be used" in outcome.text
    assert "hidden" not in repr((logs, caught.value, caught.value.detail, outcome))
    await connection.aclose()


async def test_whoever_lacks_the_package_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[Any] = [name for name in sys.modules if name == "mcp" or name.startswith("mcp.")]
    for name in [*names, "localai.node.mcp.client"]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "mcp", None)
    connection = McpConnection(RemoteServer("s", "http://127.0.0.1:9/"), TIMES)
    with pytest.raises(Unsupported) as caught:
        await connection.list_tools()
    assert caught.value.code == "mcp_not_installed"
    assert "pip install 'localai-mesh[mcp]'" in caught.value.message
    await connection.aclose()


async def test_closing_while_connecting_tells_whoever_waits() -> None:
    connection = McpConnection(ProgramServer("s", "/bin/sleep", ("60",)), TIMES)
    listing = asyncio.create_task(connection.list_tools())
    await asyncio.sleep(0)  # one step: it has begun to connect
    assert connection.is_open
    await connection.aclose()
    with pytest.raises(UpstreamFailed):
        await listing
