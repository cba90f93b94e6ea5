"""Answers a conversation whose tools are those of MCP servers (shell): asks, carries out calls, asks again."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from localai.mesh.errors import InvalidRequest, LocalAIError, Unsupported
from localai.node.dispatch import Dispatch, OnRoute, ignore_route
from localai.node.inference import ChatInput, GenerateRequest
from localai.node.mcp.rounds import DEFAULT_ROUNDS, RoundEvent, ToolRounds
from localai.node.mcp.servers import McpServer
from localai.node.mcp.sessions import McpSessions, OpenTools
from localai.node.model_config import ModelConfig

NO_SERVERS = "no MCP servers configured"
"""What LocalAI says."""


def chosen_servers(config: ModelConfig, names: tuple[str, ...] = ()) -> tuple[McpServer, ...]:
    """The MCP servers of a model, or those that are named.

    Raises:
        LocalAIError: the model has none.
        InvalidRequest: there is none of a name.
    """
    if not config.mcp_servers:
        advice = "Add an 'mcp' block to its definition on this node."
        message = f"{NO_SERVERS} for the model '{config.name[:100]}'. {advice}"
        raise LocalAIError(message, code="no_mcp_servers")
    by_name = {server.name: server for server in config.mcp_servers}
    for name in names:
        if name not in by_name:
            message = f"The model has no MCP server '{name[:100]}'. It has: {', '.join(by_name)}."
            raise InvalidRequest(message, code="unknown_mcp_server", param="metadata.mcp_servers")
    return tuple(by_name[name] for name in dict.fromkeys(names or by_name))


async def open_tools(
    sessions: McpSessions, config: ModelConfig, request: GenerateRequest, names: tuple[str, ...] = ()
) -> OpenTools:
    """The tools of a model's MCP servers, for :func:`answer_with_tools`. ``names`` chooses servers, all without.

    Raises:
        LocalAIError: the model has no servers, or none works.
        InvalidRequest: there is no server of a name.
        Unsupported: the package for it is not installed, or the request cannot have tools.
    """
    servers = chosen_servers(config, names)
    prompt = chat_prompt(request)
    return await sessions.open(config.name, servers, [tool.name for tool in prompt.tools])


def chat_prompt(request: GenerateRequest) -> ChatInput:
    """The conversation of a request that can have MCP tools.

    Raises:
        Unsupported: it is none, or asks for several answers.
    """
    if request.choices != 1 or not isinstance(request.prompt, ChatInput):
        message = "Tools of MCP servers need a conversation and one answer. Send the request with 'n' = 1."
        raise Unsupported(message, code="unsupported_field", param="n")
    return request.prompt


async def answer_with_tools(
    dispatch: Dispatch,
    request: GenerateRequest,
    tools: OpenTools,
    max_rounds: int | None = None,
    on_route: OnRoute = ignore_route,
) -> AsyncGenerator[list[RoundEvent], None]:
    """The answer, all that is ready at a time: text as the model writes it, a ``ToolRan`` for each call that was
    carried out, and exactly one terminal event at the end. Closing it early stops the work.

    The model is asked again at most ``max_rounds`` times, :data:`DEFAULT_ROUNDS` if None.

    Raises:
        Unsupported: the request cannot have tools.
    """
    rounds = ToolRounds(request, chat_prompt(request), tools.toolbox, max_rounds or DEFAULT_ROUNDS)
    while True:
        async with aclosing(dispatch.answer_batches(rounds.request, on_route)) as batches:
            async for batch in batches:
                if answers := rounds.feed(batch):
                    yield [*answers]
        if answers := rounds.end_of_stream():
            yield [*answers]
        if not rounds.pending:
            return
        yield rounds.take(await tools.run(rounds.pending))
