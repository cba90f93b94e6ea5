"""A connection to one MCP server that is made when needed, made again when lost, and closed when idle (shell).

The package wants a connection to be opened and closed by one task, so a task of its own holds each one; requests of
any number of conversations go over it side by side.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from localai.mesh.errors import LocalAIError, Unsupported, UpstreamFailed
from localai.node.mcp.servers import McpServer
from localai.node.mcp.toolbox import OfferedTool, ToolOutcome

if TYPE_CHECKING:
    from mcp import Client

_LOG = structlog.get_logger()

INSTALL = "pip install 'localai-mesh[mcp]'"
_CLIENT = "localai.node.mcp.client"


@dataclass(frozen=True, slots=True)
class McpTimes:
    """How long things may take, in seconds."""

    connect_s: float = 30.0
    list_s: float = 30.0
    call_s: float = 120.0
    idle_s: float = 300.0
    """A connection that nobody used for so long is closed."""
    close_s: float = 8.0
    """A program that does not end gets killed by the package well before."""


class _Held:
    """One connection and the task that holds it."""

    def __init__(self) -> None:
        self.ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self.is_closing = False
        self.users = 0
        self.changed = asyncio.Event()
        """Set when nobody uses it any more, or when it is to be closed."""
        self.last_use = 0.0
        self.task: asyncio.Task[None] | None = None


class McpConnection:
    """What one model has to one server."""

    def __init__(self, server: McpServer, times: McpTimes) -> None:
        self._server = server
        self._times = times
        self._held: _Held | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, or one is being made."""
        return self._held is not None

    async def list_tools(self) -> tuple[OfferedTool, ...]:
        """The tools that the server has now. A connection that turns out to be lost is made again.

        Raises:
            UpstreamFailed: the server cannot be asked.
            Unsupported: the package for it is not installed.
        """
        was_open = self.is_open
        try:
            return await self._list()
        except UpstreamFailed:
            if not was_open or (self._held is not None and self._held.users):
                raise  # a new connection would not be better, or would end what others wait for
        self._drop()
        return await self._list()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolOutcome:
        """Call a tool. Whatever goes wrong is an outcome that the model can be told.

        A call that was under way when the connection broke is not repeated: it may have had its effect.
        """
        times = self._times
        try:
            async with self._client() as client, asyncio.timeout(times.call_s):
                outcome: ToolOutcome = await _package().call_tool(client, name, dict(arguments))
                return outcome
        except LocalAIError as error:
            return ToolOutcome(error.message, is_error=True)
        except TimeoutError:
            return ToolOutcome(f"The tool did not answer within {times.call_s:g} s.", is_error=True)
        except Exception as error:  # the package raises what its many layers raise
            self._failed("mcp_call_failed", error)
            return ToolOutcome("The tool's server ended or answered something unusable.", is_error=True)

    async def aclose(self) -> None:
        """End the connection, and those that are just ending."""
        self._drop()
        tasks = list(self._tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._times.close_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def wait_closed(self) -> None:
        """Return when no connection is held or ending any more."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _list(self) -> tuple[OfferedTool, ...]:
        name, list_s = self._server.name, self._times.list_s
        try:
            async with self._client() as client, asyncio.timeout(list_s):
                tools: tuple[OfferedTool, ...] = await _package().list_tools(client, name)
                return tools
        except LocalAIError:
            raise
        except TimeoutError:
            raise _unusable(name, f"it does not list its tools within {list_s:g} s") from None
        except Exception as error:  # the package raises what its many layers raise
            self._failed("mcp_list_failed", error)
            raise _unusable(name, "it does not list its tools") from error

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Client]:
        held = self._held
        if held is None:
            held = self._held = _Held()
            held.ready.add_done_callback(_look_at)
            # a context of its own: the request that is first is not the one that later log lines are about
            held.task = asyncio.create_task(self._hold(held), context=contextvars.Context())
            self._tasks.add(held.task)
            held.task.add_done_callback(self._tasks.discard)
        held.users += 1
        try:
            yield await asyncio.shield(held.ready)
        finally:
            held.users -= 1
            held.last_use = asyncio.get_running_loop().time()
            if held.users == 0:
                held.changed.set()

    async def _hold(self, held: _Held) -> None:
        name = self._server.name
        try:
            package = await _import_package()
            opened = package.open_client(self._server)
            async with asyncio.timeout(self._times.connect_s):
                client = await opened.__aenter__()
            try:
                if not held.ready.done():
                    held.ready.set_result(client)
                _LOG.info("mcp_connected", server=name)
                await self._until_idle(held)
            finally:
                await opened.__aexit__(None, None, None)
        except LocalAIError as error:
            self._not_ready(held, error)
        except TimeoutError:
            reason = f"it does not answer within {self._times.connect_s:g} s"
            self._not_ready(held, _unusable(name, reason))
        except FileNotFoundError:
            self._not_ready(held, _unusable(name, "there is no such program"))
        except Exception as error:  # the package raises what its many layers raise
            self._not_ready(held, _unusable(name, "no connection can be made", _kinds(error)))
        finally:
            if self._held is held:
                self._held = None
        _LOG.info("mcp_closed", server=name)

    async def _until_idle(self, held: _Held) -> None:
        loop = asyncio.get_running_loop()
        held.last_use = loop.time()
        while not held.is_closing:
            held.changed.clear()
            left_s = held.last_use + self._times.idle_s - loop.time()
            if held.users == 0 and left_s <= 0:
                self._drop()  # now, so that nobody begins to use what is about to close
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(None if held.users else left_s):
                    await held.changed.wait()

    def _not_ready(self, held: _Held, error: LocalAIError) -> None:
        _LOG.warning("mcp_server_failed", server=self._server.name, error=error.message, kind=error.detail)
        if not held.ready.done():
            held.ready.set_exception(error)

    def _failed(self, event: str, error: Exception) -> None:
        _LOG.warning(event, server=self._server.name, kind=_kinds(error))
        if _package().is_lost(error):
            self._drop()

    def _drop(self) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        held.is_closing = True
        held.changed.set()
        if not held.ready.done():
            # said here, because a task that is cancelled before its first step says nothing
            held.ready.set_exception(_unusable(self._server.name, "this node is closing the connection"))
            if held.task is not None:
                held.task.cancel()


async def _import_package() -> Any:
    """What speaks MCP.

    Raises:
        Unsupported: it is not installed.
    """
    try:
        return await asyncio.to_thread(_package)
    except ModuleNotFoundError as error:
        message = f"Tools of MCP servers need a package that is not installed. Run: {INSTALL}"
        raise Unsupported(message, code="mcp_not_installed", detail=repr(error)) from error


def _package() -> Any:
    return importlib.import_module(_CLIENT)


def _unusable(name: str, reason: str, detail: str = "") -> UpstreamFailed:
    message = f"The MCP server '{name}' cannot be used: {reason}. Check the 'mcp' block of the model's definition."
    return UpstreamFailed(message, code="mcp_server_failed", detail=detail)


def _kinds(error: BaseException) -> str:
    """Names of the exceptions, never their texts: those hold addresses and what a server says."""
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(_kinds(each) for each in error.exceptions)[:200]
    return type(error).__name__


def _look_at(ready: asyncio.Future[Client]) -> None:
    """Nobody may be left to ask why there is no connection."""
    if not ready.cancelled():
        ready.exception()
