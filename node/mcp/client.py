"""One open connection to an MCP server through the official package (shell).

The only importer of ``mcp``, which is an optional extra and takes a while to import: imported when it is used, in a
thread. A program gets a small environment and its error output goes to our log; a remote server gets its token. None
of them can ask anything of this node: no sampling, no questions to the user.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TextIO

import anyio
import httpx2
import msgspec
import structlog
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED

from localai.node.mcp.servers import McpServer, ProgramServer, RemoteServer
from localai.node.mcp.toolbox import MAX_TOOLS, OfferedTool, ToolOutcome, cut_text, result_text

_LOG = structlog.get_logger()

MAX_ANSWER_BYTES = 4 << 20
"""Of one JSON answer of a remote server; one event of a stream may have 1 MiB."""
_MAX_PAGES = 16
_MAX_LINE_BYTES = 8192
_NETWORK_S = 30.0
for _name in ("mcp", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # they name addresses, which may hold keys


@asynccontextmanager
async def open_client(server: McpServer) -> AsyncIterator[Client]:
    """A connection that has shaken hands. Leaving ends the program, or the session of a remote server.

    Raises:
        Exception: whatever the package raises when there is no connection.
    """
    opened = _open_remote(server) if isinstance(server, RemoteServer) else _open_program(server)
    async with opened as client:
        yield client


async def list_tools(client: Client, server: str) -> tuple[OfferedTool, ...]:
    """The tools that the server has now, at most a little more than :data:`MAX_TOOLS`.

    Raises:
        Exception: whatever the package raises.
    """
    tools: list[OfferedTool] = []
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        page = await client.list_tools(cursor=cursor, cache_mode="refresh")
        for tool in page.tools:
            schema = msgspec.json.encode(tool.input_schema).decode()
            tools.append(OfferedTool(server, tool.name, tool.description or "", schema))
        cursor = page.next_cursor
        if cursor is None or len(tools) >= MAX_TOOLS:
            break
    return tuple(tools)


async def call_tool(client: Client, name: str, arguments: dict[str, object]) -> ToolOutcome:
    """What a call gave; an error that the server reports is an outcome too.

    Raises:
        Exception: the connection is lost, or the answer is unusable.
    """
    try:
        result = await client.call_tool(name, arguments)
    except MCPError as error:
        if is_lost(error):
            raise
        return ToolOutcome(cut_text(error.message), is_error=True)
    return ToolOutcome(result_text(result.model_dump(mode="json", by_alias=True)), result.is_error)


def is_lost(error: BaseException) -> bool:
    """Whether nothing can be asked over the connection any more."""
    closed = isinstance(error, MCPError) and error.code == CONNECTION_CLOSED
    return closed or isinstance(error, anyio.ClosedResourceError | anyio.BrokenResourceError | httpx2.TransportError)


@asynccontextmanager
async def _open_remote(server: RemoteServer) -> AsyncIterator[Client]:
    token = server.token.reveal()
    async with (
        httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx2.Timeout(_NETWORK_S, read=None),  # whoever asks has a limit for the whole
            trust_env=False,
            event_hooks={"response": [_bound]},
        ) as http,
        Client(streamable_http_client(server.url, http_client=http)) as client,
    ):
        yield client


async def _bound(response: httpx2.Response) -> None:
    stream = response.stream
    is_events = response.headers.get("Content-Type", "").startswith("text/event-stream")
    if isinstance(stream, httpx2.AsyncByteStream) and not is_events:
        response.stream = _BoundedStream(stream)


class _BoundedStream(httpx2.AsyncByteStream):
    """A body that is cut off, as a broken connection, when it is too long."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_ANSWER_BYTES
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise httpx2.StreamError(f"The answer has more than {MAX_ANSWER_BYTES} bytes.")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


@asynccontextmanager
async def _open_program(server: ProgramServer) -> AsyncIterator[Client]:
    parameters = StdioServerParameters(
        command=server.command,
        args=list(server.args),
        env={name: value.reveal() for name, value in server.env},
    )
    async with _logged_output(server.name) as output, Client(stdio_client(parameters, output)) as client:
        yield client


@asynccontextmanager
async def _logged_output(name: str) -> AsyncIterator[TextIO]:
    """A file whose lines go into our log."""
    read_end, write_end = os.pipe()
    reader = asyncio.StreamReader(limit=_MAX_LINE_BYTES)
    loop = asyncio.get_running_loop()
    with os.fdopen(write_end, "w") as output:
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", 0)
        )
        logging_lines = asyncio.create_task(_log_lines(name, reader))
        try:
            yield output
        finally:
            logging_lines.cancel()
            transport.close()


async def _log_lines(name: str, reader: asyncio.StreamReader) -> None:
    while True:
        try:
            line = await reader.readline()
        except ValueError:  # longer than the limit: the reader has dropped it
            continue
        if not line:
            return
        _LOG.debug("mcp_server_output", server=name, line=line.decode("utf-8", "replace").rstrip()[:1000])
