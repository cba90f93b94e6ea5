"""The tools of several MCP servers as one set that a model can be given, and results as text (pure).

A model sees one flat list of functions. A tool keeps its own name where that is free and fits; else the name of its
server stands before it. What is too much for a prompt is left out or cut, never refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from localai.mesh.errors import LocalAIError
from localai.node.inference import Tool, ToolCall
from localai.node.mcp.servers import McpServer

MAX_TOOLS = 128
MAX_NAME_CHARS = 64
MAX_DESCRIPTION_CHARS = 4000
MAX_SCHEMA_CHARS = 1 << 16
MAX_RESULT_CHARS = 50_000
MAX_CALLS = 16
"""Calls of one answer that are carried out."""
_ODD = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool as a server describes it. ``schema`` is JSON text."""

    server: str
    name: str
    description: str = ""
    schema: str = "{}"


@dataclass(frozen=True, slots=True)
class ServerTools:
    """What one server says that it has, or why it could not be asked."""

    server: McpServer
    tools: tuple[OfferedTool, ...] = ()
    error: LocalAIError | None = None


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What a call gave: text for the model, which may be an error."""

    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools of one request."""

    tools: tuple[Tool, ...] = ()
    """As the model sees them."""
    origins: Mapping[str, OfferedTool] = field(default_factory=dict)
    """Name that the model uses -> the tool."""
    left_out: tuple[OfferedTool, ...] = ()
    """Tools beyond the limits, or for which there was no name."""


def make_toolbox(offered: Iterable[OfferedTool], taken: Iterable[str] = ()) -> Toolbox:
    """The tools in their order. ``taken`` are names that the client's own tools have."""
    used = set(taken)
    origins: dict[str, OfferedTool] = {}
    left_out: list[OfferedTool] = []
    for tool in offered:
        name = _free_name(tool, used)
        if not name or len(origins) == MAX_TOOLS or len(tool.schema) > MAX_SCHEMA_CHARS:
            left_out.append(tool)
            continue
        used.add(name)
        origins[name] = tool
    tools = tuple(Tool(name, tool.description[:MAX_DESCRIPTION_CHARS], tool.schema) for name, tool in origins.items())
    return Toolbox(tools, origins, tuple(left_out))


def parse_arguments(call: ToolCall) -> dict[str, Any] | None:
    """The arguments of a call; no text counts as none, and None means that they are no JSON object."""
    try:
        arguments = msgspec.json.decode(call.arguments.strip() or "{}")
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    return arguments if isinstance(arguments, dict) else None


def result_text(result: Mapping[str, Any]) -> str:
    """What a model is told of a result (a ``CallToolResult`` as JSON has it), at most about
    :data:`MAX_RESULT_CHARS` characters. Pictures and sounds are only named."""
    parts = [_block_text(block) for block in result.get("content") or ()]
    structured = result.get("structuredContent")
    if not parts and structured is not None:
        parts = [json.dumps(structured, ensure_ascii=False)]
    return cut_text("\n".join(part for part in parts if part))


def cut_text(text: str) -> str:
    """The beginning of a text that is too long, and a note that it was cut."""
    if len(text) <= MAX_RESULT_CHARS:
        return text
    return f"{text[:MAX_RESULT_CHARS]}\n[{len(text) - MAX_RESULT_CHARS} more characters were cut off]"


def _free_name(tool: OfferedTool, used: set[str]) -> str:
    """A name for the model; empty when there is none."""
    own, server = _ODD.sub("_", tool.name), _ODD.sub("_", tool.server)
    names = (own[:MAX_NAME_CHARS], f"{server}_{own}"[:MAX_NAME_CHARS])
    return next((name for name in names if name and name not in used), "")


def _block_text(block: Mapping[str, Any]) -> str:
    match block:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "resource", "resource": {"text": str(text)}}:
            return text
        case {"type": "resource" | "resource_link" as kind, **rest}:
            inner = rest.get("resource")
            uri = (inner if isinstance(inner, Mapping) else rest).get("uri", "")
            return f"[{kind}: {uri}]"
        case {"type": str(kind)}:
            return f"[{kind}: {block.get('mimeType') or 'unknown type'}, not shown]"
        case _:
            return ""
