"""Answers of every dialect whose tools are those of MCP servers (shell)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from typing import Protocol

import msgspec
from aiohttp import web

from localai.api.dialects.answer import StreamRenderer
from localai.api.middleware import DISPATCHED
from localai.api.responses import json_response
from localai.api.route_headers import is_local_only, keep_route
from localai.api.routes.answering import missing_model_begun
from localai.api.state import DISPATCH, MCP, SETTINGS
from localai.api.streaming import stream_batches
from localai.mesh.errors import Forbidden
from localai.node.inference import GenerateRequest
from localai.node.mcp.answering import answer_with_tools, open_tools
from localai.node.mcp.rounds import RoundEvent
from localai.node.mcp.sessions import McpSessions


def mcp_sessions(app: web.Application) -> McpSessions:
    """The connections to MCP servers, for whoever may use them.

    Raises:
        Forbidden: they are switched off.
    """
    if not app[SETTINGS].mcp:
        message = "Tools of MCP servers are switched off on this node. Its owner can allow them: no --disable-mcp."
        raise Forbidden(message, code="mcp_disabled")
    return app[MCP]


class RoundRenderer(StreamRenderer[RoundEvent], Protocol):
    """One answer of one dialect that shows what tools gave."""

    def whole(self, answers: Iterable[RoundEvent]) -> msgspec.Struct:
        """See ``Renderer.whole``."""


async def answer_with_mcp(
    http: web.Request, request: GenerateRequest, servers: tuple[str, ...], renderer: RoundRenderer, *, stream: bool
) -> web.StreamResponse:
    """The answer of a conversation with the tools of the named MCP servers of the model, all if none is named.

    Raises:
        LocalAIError: there are no such servers, or it failed before anything was sent.
    """
    dispatch = http.app[DISPATCH]
    if is_local_only(http.headers):
        request = msgspec.structs.replace(request, local_only=True)
    with missing_model_begun(http, request.model):
        dispatch.check_answerable(request.model, local_only=request.local_only)
    config = dispatch.definition(request.model)
    tools = await open_tools(mcp_sessions(http.app), config, request, servers)
    http[DISPATCHED] = True
    batches = answer_with_tools(dispatch, request, tools, config.tool_rounds, keep_route(http))
    with missing_model_begun(http, request.model):
        if stream:
            return await stream_batches(http, batches, renderer)
        answers: list[RoundEvent] = []
        async with aclosing(batches):
            async for batch in batches:
                answers += batch
        return json_response(renderer.whole(answers))
