"""Chat with tools of MCP servers: which servers a request means, and how results are shown (pure).

Source: LocalAI's API reference. The node carries out the calls, so clients see neither them nor the rounds between: one
answer, and in streams one event for each result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from localai.api.dialects.answer import AnswerHead, Renderer
from localai.api.schemas.mcp import ServerBody, ServersBody, ToolResultEvent
from localai.api.sse import SseEvent
from localai.mesh.errors import Unsupported
from localai.node.inference import Failed
from localai.node.mcp.rounds import RoundEvent, ToolRan
from localai.node.mcp.servers import RemoteServer
from localai.node.mcp.toolbox import ServerTools
from localai.node.output_parser import AnswerEvent, TextDelta

MCP_CHAT_PATHS = ("/mcp/v1/chat/completions", "/v1/mcp/chat/completions", "/mcp/chat/completions")
_SERVERS = "mcp_servers"
_NOT_BUILT = ("mcp_prompt", "mcp_prompt_args", "mcp_resources")
_BETWEEN = "\n\n"
"""Stands between texts of different rounds, which models end and begin without a blank."""


def wanted_servers(path: str, metadata: Mapping[str, str] | None) -> tuple[str, ...] | None:
    """Names of the MCP servers whose tools a chat request wants; empty for all of the model, None for no tools.

    Raises:
        Unsupported: it asks for their prompts or resources.
    """
    names = named_servers(metadata)
    return names if names or path.removesuffix("/") in MCP_CHAT_PATHS else None


def named_servers(metadata: Mapping[str, str] | None) -> tuple[str, ...]:
    """The MCP servers that a request's metadata names.

    Raises:
        Unsupported: it asks for their prompts or resources.
    """
    metadata = metadata or {}
    for key in _NOT_BUILT:
        if metadata.get(key):
            message = f"'metadata.{key}' is not supported by this version yet. Send the request without it."
            raise Unsupported(message, code="unsupported_field", param=f"metadata.{key}")
    return tuple(name.strip() for name in metadata.get(_SERVERS, "").split(",") if name.strip())


class McpChatRenderer:
    """A chat answer in several rounds, shown as one. ``inner`` renders everything but results."""

    def __init__(self, head: AnswerHead, inner: Renderer) -> None:
        self._head = head
        self._inner = inner
        self._has_text = False
        self._is_new_round = False

    def stream(self, answer: RoundEvent | Failed) -> list[SseEvent]:
        """The events to send for it."""
        if isinstance(answer, ToolRan):
            self._next_round()
            return [self._result(answer)]
        return self._inner.stream(self._spaced(answer))

    def whole(self, answers: Iterable[RoundEvent]) -> msgspec.Struct:
        """The body of a non-streamed answer: the text of all rounds, without results.

        Raises:
            LocalAIError: the answer failed.
        """
        joined: list[AnswerEvent] = []
        for answer in answers:
            if isinstance(answer, ToolRan):
                self._next_round()
            else:
                joined.append(self._spaced(answer))
        return self._inner.whole(joined)

    def _next_round(self) -> None:
        self._is_new_round = self._has_text

    def _spaced(self, answer: AnswerEvent) -> AnswerEvent:
        if not isinstance(answer, TextDelta):
            return answer
        between = _BETWEEN if self._is_new_round else ""
        self._is_new_round, self._has_text = False, True
        return msgspec.structs.replace(answer, text=between + answer.text) if between else answer

    def _result(self, ran: ToolRan) -> SseEvent:
        head = self._head
        event = ToolResultEvent(
            name=ran.call.name, result=ran.output, id=head.id, created=head.created, model=head.model
        )
        return SseEvent(msgspec.json.encode(event))


def render_servers(model: str, asked: Iterable[ServerTools]) -> ServersBody:
    """The servers of a model, in the order of its definition."""
    return ServersBody(
        model,
        [
            ServerBody(
                name=each.server.name,
                type="remote" if isinstance(each.server, RemoteServer) else "stdio",
                tools=[tool.name for tool in each.tools],
                error=each.error.message if each.error else "",
            )
            for each in asked
        ],
    )
