"""Tools of Anthropic's clients, as the model gets them (pure).

Source: Anthropic's API reference; ``tool_choice`` also as a bare word, as LocalAI takes it. Tools that Anthropic's
own models know without a schema, and those that its servers run, are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from localai.api.dialects.raw_json import object_text
from localai.api.dialects.tools import MAX_NAME_CHARS, MAX_TOOLS, ToolUse
from localai.api.schemas.anthropic_requests import ClientToolBody, ToolChoiceBody
from localai.mesh.errors import InvalidRequest, Unsupported
from localai.node.inference import Tool

EAGER_BETA = "fine-grained-tool-streaming"
"""How the word in ``anthropic-beta`` begins that asks for input as the model writes it."""


def read_tool_use(tools: Sequence[ClientToolBody] | None, choice: str | ToolChoiceBody | None) -> ToolUse:
    """The tools of a request, and whether one must be called.

    Raises:
        InvalidRequest: a tool is unusable, or one that is not there is to be called.
        Unsupported: a tool is none that the client describes.
    """
    given = tools or ()
    if len(given) > MAX_TOOLS:
        raise InvalidRequest(f"There are {len(given)} tools; at most {MAX_TOOLS} are allowed.", param="tools")
    found = tuple(_tool(tool, f"tools[{place}]") for place, tool in enumerate(given))
    names: set[str] = set()
    for place, tool in enumerate(found):
        if tool.name in names:
            path = f"tools[{place}].name"
            raise InvalidRequest(f"'{path}' is that of another tool, too. Give each its own.", param=path)
        names.add(tool.name)
    return _chosen(ToolUse(found), ToolChoiceBody(choice) if isinstance(choice, str) else choice)


def eager_tools(tools: Sequence[ClientToolBody] | None, betas: str) -> frozenset[str]:
    """Tools whose input is to be sent as the model writes it, valid or not. ``betas`` is ``anthropic-beta``."""
    everywhere = any(word.strip().startswith(EAGER_BETA) for word in betas.split(","))
    return frozenset(
        tool.name
        for tool in tools or ()
        if tool.eager_input_streaming or (everywhere and tool.eager_input_streaming is None)
    )


def _tool(tool: ClientToolBody, path: str) -> Tool:
    if tool.type not in (None, "custom"):
        message = f"'{path}' is of type '{tool.type[:50]}', and only tools with a schema can be used. Leave it out."
        raise Unsupported(message, code="unsupported_tool", param=f"{path}.type")
    if not 0 < len(tool.name) <= MAX_NAME_CHARS:
        message = f"'{path}.name' must have 1 to {MAX_NAME_CHARS} characters."
        raise InvalidRequest(message, param=f"{path}.name")
    schema = object_text(tool.input_schema, f"{path}.input_schema")
    return Tool(tool.name, tool.description or "", schema, bool(tool.strict))


def _chosen(use: ToolUse, choice: ToolChoiceBody | None) -> ToolUse:
    if choice is None:
        return use
    use = replace(use, parallel=not choice.disable_parallel_tool_use)
    match choice.type:
        case "" | "auto":
            return use
        case "none":
            return replace(use, tools=(), mode="none")
        case "any" | "tool" if not use.tools:
            raise InvalidRequest("A tool is to be called, but there are none. Send 'tools'.", param="tool_choice")
        case "any":
            return replace(use, mode="required")
        case "tool":
            return replace(use, mode="required", only_tool=_known(use, choice.name or ""))
        case word:
            message = f"'tool_choice.type' is '{word[:50]}'. Use auto, any, none or tool."
            raise InvalidRequest(message, param="tool_choice.type")


def _known(use: ToolUse, name: str) -> str:
    if not name:
        message = "'tool_choice.name' is missing. Name the tool to call."
        raise InvalidRequest(message, code="missing_field", param="tool_choice.name")
    if name not in {tool.name for tool in use.tools}:
        message = f"'tool_choice.name' is '{name[:100]}', which is not among the tools. Add it."
        raise InvalidRequest(message, param="tool_choice.name")
    return name
