"""``POST /mcp/v1/chat/completions``, and the MCP servers of a model (shell)."""

from __future__ import annotations

from aiohttp import web

from localai.api.dialects.mcp_chat import MCP_CHAT_PATHS, render_servers
from localai.api.operations import Operation
from localai.api.responses import json_response
from localai.api.routes.generation import CHAT_OPERATION, chat
from localai.api.routes.mcp_answering import mcp_sessions
from localai.api.routes.paths import add_route
from localai.api.schemas.mcp import ServersBody
from localai.api.state import DISPATCH, MCP
from localai.node.dispatch import missing_model
from localai.node.mcp.answering import chosen_servers
from localai.node.mcp.sessions import McpSessions

_SERVERS = Operation(answer=ServersBody, errors=(404, 500))


def add_to(app: web.Application) -> None:
    """Register the paths of this file, and keep connections to servers while the application runs."""
    app[MCP] = McpSessions()
    app.on_cleanup.append(_close)
    for path in MCP_CHAT_PATHS:
        add_route(app.router, "POST", path, chat, CHAT_OPERATION)
    add_route(app.router, "GET", "/v1/mcp/servers/{model}", servers, _SERVERS)


async def servers(http: web.Request) -> web.Response:
    """The MCP servers of a model and the names of their tools."""
    name = http.match_info["model"]
    dispatch = http.app[DISPATCH]
    if dispatch.find_model(name) is None:
        raise missing_model(name)
    config = dispatch.definition(name)
    asked = await mcp_sessions(http.app).ask(config.name, chosen_servers(config))
    return json_response(render_servers(name, asked))


async def _close(app: web.Application) -> None:
    await app[MCP].aclose()
