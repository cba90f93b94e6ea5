"""A body of the Responses API to a request, and to the response as it is before it has begun (pure).

Source: OpenAI's API reference. The response echoes what really holds: fields that only hint at something
(``verbosity``, ``service_tier``, ...) come back, and ``truncation`` says that nothing is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from localai.api.dialects.generation import read_generation, read_max_tokens
from localai.api.dialects.mcp_chat import named_servers
from localai.api.dialects.responses_input import Fetched, messages_from_items
from localai.api.dialects.tools import MAX_NAME_CHARS, MAX_TOOLS, Mode
from localai.api.schemas.responses_objects import ReasoningConfig, Response, TextConfig
from localai.api.schemas.responses_requests import FunctionTool, InputItem, ResponsesBody, TextFormat, ToolChoice
from localai.mesh.errors import InvalidRequest, Unsupported
from localai.node.inference import (
    MAX_TOP_LOGPROBS,
    ChatInput,
    ChatMessage,
    Constraint,
    GenerateRequest,
    JsonSchema,
    RequestId,
    Tool,
)
from localai.node.request_defaults import NO_DEFAULTS, RequestDefaults

MAX_METADATA = 16
MAX_METADATA_KEY_CHARS = 64
MAX_METADATA_VALUE_CHARS = 512
MAX_SCHEMA_DEPTH = 200
"""Objects and lists inside each other: all of them must fit into the response too, a few levels further down."""
_NOTHING_FETCHED: Fetched = {}
_LOGPROBS = "message.output_text.logprobs"
_MODES: Mapping[str, Mode] = {"auto": "auto", "required": "required", "none": "none"}
_TRUNCATIONS = (None, "auto", "disabled")
_MAX_EFFORT_CHARS = 32


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which tools there are, and whether the model may, must or must not call one."""

    tools: tuple[FunctionTool, ...]
    mode: Mode
    only_tool: str = ""


def check_stored_options(body: ResponsesBody) -> None:
    """Make sure that what is to happen with the response fits together.

    Raises:
        InvalidRequest: it does not.
    """
    if body.background and body.store is False:
        raise InvalidRequest("background=true requires store=true", code="background_needs_store", param="background")


def parse_responses(
    body: ResponsesBody,
    items: Sequence[InputItem],
    response_id: str,
    model: str,
    defaults: RequestDefaults = NO_DEFAULTS,
    history: Sequence[InputItem] = (),
    fetched: Fetched = _NOTHING_FETCHED,
) -> GenerateRequest:
    """The request that a body stands for. ``items`` are its own, ``history`` those of the chain before it.

    ``fetched`` is what lies at the ``input_urls`` of both.

    Raises:
        InvalidRequest: a field is missing or out of range.
        Unsupported: a field asks for something that no request can say.
    """
    _refuse(body)
    _check(body)
    turns = messages_from_items([*history, *items], len(history), fetched)
    if not (items and turns):
        message = "failed to parse input: 'input' is empty. Send a text or at least one item."
        raise InvalidRequest(message, param="input")
    instructions = (ChatMessage("system", body.instructions),) if body.instructions else ()
    choice = _choice(body)
    prompt = ChatInput(
        (*instructions, *turns),
        tools=tuple(_tool(tool) for tool in choice.tools),
        tool_choice=choice.mode,
        only_tool=choice.only_tool,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        reasoning_effort=(body.reasoning.effort or "") if body.reasoning else "",
    )
    request = read_generation(body, RequestId(response_id), model, prompt, defaults)
    return msgspec.structs.replace(
        request,
        choices=1,
        max_tokens=read_max_tokens(body.max_output_tokens, "max_output_tokens", defaults.max_tokens),
        constraint=_constraint(body) or request.constraint,
        logprobs=_logprobs(body),
    )


def wanted_mcp_servers(body: ResponsesBody, *, automatic: bool) -> tuple[str, ...] | None:
    """Names of the MCP servers whose tools a request wants; empty for all of the model, None for no tools.

    ``automatic`` says that the model has servers that may be used: a request that says nothing of tools gets them all.

    Raises:
        Unsupported: it asks for their prompts or resources.
    """
    if names := named_servers(body.metadata):
        return names
    return () if automatic and not body.tools and body.tool_choice != "none" else None


def response_head(
    body: ResponsesBody, request: GenerateRequest, created: int, *, with_servers: bool = False
) -> Response:
    """The response before anything of it is known. ``created`` is in seconds since 1970.

    ``with_servers`` says that the model also has the tools of MCP servers, which are not listed.
    """
    choice = _choice(body)
    sampling = request.sampling
    if body.tool_choice is not None:
        said: str | ToolChoice = body.tool_choice
    else:
        said = "auto" if choice.tools or with_servers else "none"
    return Response(
        id=request.id,
        created_at=created,
        status="queued" if body.background else "in_progress",
        model=request.model,
        previous_response_id=body.previous_response_id or None,
        instructions=body.instructions,
        tools=list(choice.tools),
        tool_choice=said,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        max_tool_calls=body.max_tool_calls,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        top_logprobs=request.logprobs or 0,
        max_output_tokens=request.max_tokens,
        text=TextConfig(_format(body), (body.text and body.text.verbosity) or "medium"),
        reasoning=ReasoningConfig(body.reasoning.effort) if body.reasoning else None,
        metadata=body.metadata or {},
        store=body.store is not False,
        background=bool(body.background),
        safety_identifier=body.safety_identifier,
        prompt_cache_key=body.prompt_cache_key,
        user=body.user,
    )


def _refuse(body: ResponsesBody) -> None:
    fields = {
        "conversation": body.conversation,
        "prompt": body.prompt,
        "context_management": body.context_management,
    }
    for name, value in fields.items():
        if value is not None:
            raise _unsupported(f"'{name}' is not supported by this version. Send the request without it.", name)
    for place, tool in enumerate(body.tools or ()):
        if tool.type != "function":
            path = f"tools[{place}].type"
            message = f"'{path}' is '{tool.type[:50]}', and this version has functions only. Leave the tool out."
            raise _unsupported(message, path)


def _unsupported(message: str, param: str) -> Unsupported:
    return Unsupported(message, code="unsupported_field", param=param)


def _check(body: ResponsesBody) -> None:
    metadata = body.metadata or {}
    if len(metadata) > MAX_METADATA:
        raise InvalidRequest(f"'metadata' has {len(metadata)} keys; at most {MAX_METADATA} fit.", param="metadata")
    for key, value in metadata.items():
        if len(key) > MAX_METADATA_KEY_CHARS or len(value) > MAX_METADATA_VALUE_CHARS:
            limits = f"{MAX_METADATA_KEY_CHARS} and {MAX_METADATA_VALUE_CHARS} characters"
            raise InvalidRequest(f"A key or value of 'metadata' is longer than {limits}. Cut it.", param="metadata")
    if body.truncation not in _TRUNCATIONS:
        raise InvalidRequest("'truncation' must be 'auto' or 'disabled'.", param="truncation")
    if body.reasoning and len(body.reasoning.effort or "") > _MAX_EFFORT_CHARS:
        message = "'reasoning.effort' is too long. Use none, minimal, low, medium or high."
        raise InvalidRequest(message, param="reasoning.effort")


def _choice(body: ResponsesBody) -> _Choice:
    tools = _allowed(tuple(body.tools or ()), body.allowed_tools, "allowed_tools")
    given = body.tool_choice
    if given is None:
        return _Choice(tools, "auto")
    if isinstance(given, str):
        return _Choice(tools, _mode(given, tools, "tool_choice"))
    if given.type == "allowed_tools":
        names = [tool.name or "" for tool in given.tools or ()]
        tools = _allowed(tools, names, "tool_choice.tools")
        return _Choice(tools, _mode(given.mode or "auto", tools, "tool_choice.mode"))
    if given.type == "function":
        name = given.name or (given.function and given.function.name) or ""
        return _Choice(_named(tools, name), "required", name)
    raise _unsupported(
        f"'tool_choice.type' is '{given.type[:50]}', and this version has functions only. Name a function.",
        "tool_choice.type",
    )


def _mode(word: str, tools: tuple[FunctionTool, ...], path: str) -> Mode:
    mode = _MODES.get(word)
    if mode is None:
        raise InvalidRequest(f"'{path}' must be auto, required, none or a function.", param=path)
    if mode == "required" and not tools:
        raise InvalidRequest(f"'{path}' is 'required', but there are no tools. Send some.", param=path)
    return mode


def _named(tools: tuple[FunctionTool, ...], name: str) -> tuple[FunctionTool, ...]:
    """All the tools, of which one has the name."""
    if all(tool.name != name for tool in tools):
        message = f"'tool_choice' names '{name[:100]}', which is not among 'tools'. Add it there."
        raise InvalidRequest(message, param="tool_choice")
    return tools


def _allowed(tools: tuple[FunctionTool, ...], names: list[str] | None, path: str) -> tuple[FunctionTool, ...]:
    if len(tools) > MAX_TOOLS:
        raise InvalidRequest(f"There are {len(tools)} tools; at most {MAX_TOOLS} are allowed.", param="tools")
    for place, tool in enumerate(tools):
        if not 1 <= len(tool.name) <= MAX_NAME_CHARS:
            param = f"tools[{place}].name"
            raise InvalidRequest(f"'{param}' must have 1 to {MAX_NAME_CHARS} characters.", param=param)
    if names is None:
        return tools
    for name in names:
        if all(tool.name != name for tool in tools):
            message = f"'{path}' names '{name[:100]}', which is not among 'tools'. Add it there."
            raise InvalidRequest(message, param=path)
    return tuple(tool for tool in tools if tool.name in names)


def _tool(tool: FunctionTool) -> Tool:
    schema = _schema_text(tool.parameters or {}, "tools")
    return Tool(tool.name, tool.description or "", schema, bool(tool.strict))


def _schema_text(schema: dict[str, Any], path: str) -> str:
    level: list[Any] = [schema]
    for _ in range(MAX_SCHEMA_DEPTH):
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
        level = [value for value in level if isinstance(value, dict | list)]
        if not level:
            return msgspec.json.encode(schema).decode()
    message = f"A schema in '{path}' is nested more than {MAX_SCHEMA_DEPTH} levels deep. Flatten it."
    raise InvalidRequest(message, param=path)


def _format(body: ResponsesBody) -> TextFormat:
    said = (body.text and body.text.format) or body.text_format
    return said or TextFormat("text")


def _constraint(body: ResponsesBody) -> Constraint | None:
    wanted = _format(body)
    match wanted.type:
        case "json_object":
            return JsonSchema()
        case "json_schema":
            if wanted.schema is None:
                message = "'text.format.schema' is missing. Send the JSON schema of the answer."
                raise InvalidRequest(message, param="text.format.schema")
            return JsonSchema(_schema_text(wanted.schema, "text.format.schema"))
        case "text":
            return None
        case _:
            message = "'text.format.type' must be text, json_object or json_schema."
            raise InvalidRequest(message, param="text.format.type")


def _logprobs(body: ResponsesBody) -> int | None:
    top = body.top_logprobs or 0
    if not 0 <= top <= MAX_TOP_LOGPROBS:
        message = f"'top_logprobs' must be between 0 and {MAX_TOP_LOGPROBS}, not {top}."
        raise InvalidRequest(message, param="top_logprobs")
    return top if top or _LOGPROBS in (body.include or ()) else None
