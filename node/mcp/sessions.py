"""Connections to the MCP servers of all models, and the tools that one request gets from them (shell)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from localai.mesh.errors import LocalAIError, Unavailable, Unsupported
from localai.node.inference import ToolCall
from localai.node.mcp.connection import McpConnection, McpTimes
from localai.node.mcp.servers import McpServer
from localai.node.mcp.toolbox import MAX_CALLS, ServerTools, Toolbox, ToolOutcome, make_toolbox, parse_arguments

_LOG = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OpenTools:
    """The tools of one request, and the connections that carry out calls of them."""

    toolbox: Toolbox
    connections: Mapping[str, McpConnection]
    """By the name of the server."""

    async def run(self, calls: Sequence[ToolCall]) -> list[ToolOutcome]:
        """Carry out calls side by side; get their outcomes in the order of the calls. Nothing is raised."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._run(place, call)) for place, call in enumerate(calls)]
        return [task.result() for task in tasks]

    async def _run(self, place: int, call: ToolCall) -> ToolOutcome:
        origin = self.toolbox.origins.get(call.name)
        if origin is None:
            names = ", ".join(self.toolbox.origins)
            return ToolOutcome(f"There is no tool called '{call.name[:100]}'. There are: {names}.", is_error=True)
        if place >= MAX_CALLS:
            return ToolOutcome(f"At most {MAX_CALLS} tools can be called at once. Call it again.", is_error=True)
        arguments = parse_arguments(call)
        if arguments is None:
            return ToolOutcome("The arguments are not a JSON object.", is_error=True)
        outcome = await self.connections[origin.server].call(origin.name, arguments)
        _LOG.info("mcp_tool_called", server=origin.server, tool=origin.name, is_error=outcome.is_error)
        return outcome


class McpSessions:
    """All connections of a node. Each model has its own, closed when it was not used for a while."""

    def __init__(self, times: McpTimes | None = None) -> None:
        self._times = times or McpTimes()
        self._connections: dict[tuple[str, McpServer], McpConnection] = {}
        self._closed = False

    async def ask(self, model: str, servers: Iterable[McpServer]) -> list[ServerTools]:
        """What each server of a model has, asked side by side.

        Raises:
            Unsupported: the package for it is not installed.
            Unavailable: this node is shutting down.
        """
        servers = tuple(servers)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._ask(model, server)) for server in servers]
        asked = [task.result() for task in tasks]
        for each in asked:
            if isinstance(each.error, Unsupported | Unavailable):
                raise each.error
        return asked

    async def open(self, model: str, servers: Iterable[McpServer], taken: Iterable[str] = ()) -> OpenTools:
        """The tools of a model's servers. A server that cannot be used is left out as long as another one works.

        ``taken`` are names of tools that the client brings.

        Raises:
            LocalAIError: no server works.
            Unsupported: the package for it is not installed.
        """
        asked = await self.ask(model, servers)
        if asked and all(each.error for each in asked):
            reasons = " ".join(each.error.message for each in asked if each.error)
            message = f"no working MCP servers found: {reasons}"
            raise LocalAIError(message[:1000], code="no_working_mcp_servers")
        toolbox = make_toolbox([tool for each in asked for tool in each.tools], taken)
        for tool in toolbox.left_out:
            _LOG.warning("mcp_tool_left_out", model=model, server=tool.server, tool=tool.name)
        return OpenTools(toolbox, {each.server.name: self._connection(model, each.server) for each in asked})

    def open_count(self) -> int:
        """How many connections there are."""
        return sum(connection.is_open for connection in self._connections.values())

    async def wait_idle(self) -> None:
        """Return when every connection has been closed, for want of use or for another reason."""
        await asyncio.gather(*(connection.wait_closed() for connection in self._connections.values()))

    async def aclose(self) -> None:
        """Close all; what is asked afterwards is refused."""
        self._closed = True
        await asyncio.gather(*(connection.aclose() for connection in self._connections.values()))

    async def _ask(self, model: str, server: McpServer) -> ServerTools:
        try:
            return ServerTools(server, await self._connection(model, server).list_tools())
        except LocalAIError as error:
            return ServerTools(server, error=error)

    def _connection(self, model: str, server: McpServer) -> McpConnection:
        if self._closed:
            raise Unavailable("This node is shutting down. Ask another node, or try again later.")
        key = (model, server)
        if key not in self._connections:
            # a definition that changed has other servers: what is not used any more has closed itself
            for old in [old for old, connection in self._connections.items() if not connection.is_open]:
                del self._connections[old]
            self._connections[key] = McpConnection(server, self._times)
        return self._connections[key]
