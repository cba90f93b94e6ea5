"""A real MCP server, made with the official package, as a process of its own (for tests).

Run without arguments it speaks over its standard input and output; with ``--http TOKEN`` over HTTP on a free port of
loopback, which it prints, and answers only to that bearer token.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from localai.mesh.secrets import Secret
from localai.node.mcp.servers import ProgramServer, RemoteServer

VARIABLE = "LOCALAI_TEST_VARIABLE"
_MODULE = "localai.node.testing.mcp_server"

Message = MutableMapping[str, Any]
AsgiApp = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


def program_server(name: str = "here", **env: str) -> ProgramServer:
    """The server as a program of this machine."""
    variables = tuple((key, Secret(value)) for key, value in env.items())
    return ProgramServer(name, sys.executable, ("-m", _MODULE), variables)


@contextmanager
def remote_server(name: str = "there", token: str = "test-token") -> Iterator[RemoteServer]:
    """The server over HTTP, running until the end of the block."""
    command = [sys.executable, "-m", _MODULE, "--http", token]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield RemoteServer(name, f"http://127.0.0.1:{port}/mcp", Secret(token))
        finally:
            process.kill()  # it would wait for calls that never end


def make_server() -> Any:
    """A server with one tool for everything that can happen to a call."""
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("test", log_level="CRITICAL")

    @server.tool(description="Adds two numbers.")
    def add(a: int, b: int) -> str:
        return str(a + b)

    @server.tool(description="What is in a variable of the environment.")
    def variable(name: str) -> str:
        return os.environ.get(name, "nothing")

    @server.tool(description="The number of the process.")
    def pid() -> str:
        return str(os.getpid())

    @server.tool(description="Always fails.")
    def fail() -> str:
        raise ValueError("It does not work on Mondays.")

    @server.tool(description="Ends the server without an answer.")
    def die() -> str:
        os._exit(3)

    @server.tool(description="Never answers.")
    async def hang() -> str:
        await asyncio.Event().wait()
        return ""

    @server.tool(description="A long text.")
    def talk(chars: int) -> str:
        return "x" * chars

    return server


def with_token(app: AsgiApp, token: str) -> AsgiApp:
    """The application, for requests with the bearer token only."""

    async def guarded(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        expected = (b"authorization", f"Bearer {token}".encode())
        if scope["type"] == "http" and expected not in scope["headers"]:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await app(scope, receive, send)

    return guarded


def _end_with_input() -> None:
    """Tests that are killed leave nothing running."""
    sys.stdin.read()
    os._exit(0)


def main(arguments: list[str]) -> None:
    """Serve until the end of the input, or the end of the process."""
    server = make_server()
    if not arguments:
        print("a line for the log", file=sys.stderr, flush=True)
        server.run("stdio")
        return
    import uvicorn

    threading.Thread(target=_end_with_input, daemon=True).start()
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    app = with_token(server.streamable_http_app(json_response=True), arguments[1])
    uvicorn.Server(uvicorn.Config(app, log_level="critical")).run([listener])


if __name__ == "__main__":
    main(sys.argv[1:])
