"""A conversation with its tools as LocalAI's prompt templates see it (pure)."""

from __future__ import annotations

import json

from localai.mesh.errors import InvalidRequest
from localai.node.go_template.values import Field, Record
from localai.node.inference import ChatInput, ChatMessage, GenerateRequest, Tool, ToolCall
from localai.node.prompt_templates import PromptExtras, PromptFunction, PromptMessage


def prompt_messages(chat: ChatInput) -> tuple[PromptMessage, ...]:
    """The turns, with the calls of an assistant."""
    return tuple(map(_message, chat.messages))


def prompt_extras(request: GenerateRequest, chat: ChatInput) -> PromptExtras:
    """What the request adds to the turns of ``chat``, its conversation.

    Raises:
        InvalidRequest: the schema of a tool is no JSON object.
    """
    return PromptExtras(
        functions=tuple(map(_function, chat.tools)),
        grammar=request.constraint is not None,
        reasoning_effort=chat.reasoning_effort,
    )


def _message(message: ChatMessage) -> PromptMessage:
    calls = [_call(call, index) for index, call in enumerate(message.tool_calls)]
    return PromptMessage(message.role, message.content, message.name, calls or None)


def _call(call: ToolCall, index: int) -> Record:
    function = Record((Field("Name", call.name, "name"), Field("Arguments", call.arguments, "arguments")))
    return Record(
        (
            Field("Index", index, "index"),
            Field("ID", call.id, "id"),
            Field("Type", "function", "type"),
            Field("FunctionCall", function, "function"),
        )
    )


def _function(tool: Tool) -> PromptFunction:
    try:
        parameters = json.loads(tool.parameters, parse_int=float)
    except (ValueError, RecursionError):
        parameters = None
    if not isinstance(parameters, dict):
        message = f"The parameters of tool '{tool.name[:100]}' are no JSON object that can be read. Simplify them."
        raise InvalidRequest(message, param="tools")
    return PromptFunction(tool.name, tool.description, parameters, tool.strict)
