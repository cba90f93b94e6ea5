"""Bodies about tools of MCP servers (pure). Source: LocalAI's API reference."""

from __future__ import annotations

from typing import Literal

import msgspec


class ToolResultEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a chat stream: the node has carried out a call.

    ``type``, ``name`` and ``result`` are LocalAI's. The rest makes it a chunk without choices, so that clients which
    know only OpenAI's events pass over it.
    """

    type: Literal["mcp_tool_result"] = "mcp_tool_result"
    name: str
    result: str
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: tuple[()] = ()


class ServerBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One server, with the names of its tools, or with what is wrong with it."""

    name: str
    type: Literal["remote", "stdio"]
    tools: msgspec.UnsetType | list[str] = msgspec.UNSET
    error: str = ""


class ServersBody(msgspec.Struct, frozen=True):
    """The MCP servers of a model."""

    model: str
    servers: list[ServerBody]
