"""Tools of a chat request, and the older functions, as the model gets them (pure).

Source: OpenAI's API reference; ``tool_choice`` also as LocalAI takes it: the name beside the type, and the object as
JSON text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from localai.api.bodies import decode_body
from localai.api.dialects.raw_json import is_given, object_text
from localai.api.schemas.openai_requests import AllowedTools, ChatBody, FunctionBody, FunctionName, ToolChoice, ToolName
from localai.mesh.errors import InvalidRequest, Unsupported
from localai.node.inference import Tool

MAX_TOOLS = 512
MAX_NAME_CHARS = 256
Mode: TypeAlias = Literal["auto", "required", "none"]


@dataclass(frozen=True, slots=True)
class ToolUse:
    """Which tools there are and whether one must be called. ``none`` has no tools."""

    tools: tuple[Tool, ...] = ()
    mode: Mode = "auto"
    only_tool: str = ""
    parallel: bool = True
    is_legacy: bool = False
    """``functions`` were sent: the answer is one ``function_call``, without an id."""


def read_tools(body: ChatBody) -> ToolUse:
    """The tools of a request.

    Raises:
        InvalidRequest: one is unusable, or one that is not there is to be called.
        Unsupported: something that is no function is to be called.
    """
    is_legacy = bool(body.functions) and not body.tools
    tools = _tools(body)
    if len(tools) > MAX_TOOLS:
        raise InvalidRequest(f"There are {len(tools)} tools; at most {MAX_TOOLS} are allowed.", param="tools")
    use = ToolUse(tools, parallel=body.parallel_tool_calls is not False and not is_legacy, is_legacy=is_legacy)
    choice = _read_choice(body.tool_choice)
    if choice is None:
        named = body.function_call
        return _chosen(use, named.name if isinstance(named, FunctionName) else named, "function_call")
    match choice:
        case str():
            return _chosen(use, choice, "tool_choice")
        case ToolChoice(allowed_tools=AllowedTools() as allowed):
            names = {_named(tool, f"tool_choice.allowed_tools.tools[{n}]") for n, tool in enumerate(allowed.tools)}
            _check_known(use, names, "tool_choice")
            return _chosen(replace(use, tools=_of_names(tools, names)), allowed.mode, "tool_choice")
        case _:
            return _only(use, _named(choice, "tool_choice"), "tool_choice")


def _tools(body: ChatBody) -> tuple[Tool, ...]:
    functions: list[Tool] = []
    for place, tool in enumerate(body.tools or ()):
        path = f"tools[{place}]"
        if tool.type != "function":
            message = f"'{path}' is of type '{tool.type[:50]}', and only functions can be called here. Leave it out."
            raise Unsupported(message, code="unsupported_tool", param=f"{path}.type")
        if tool.function is None:
            raise InvalidRequest(f"'{path}.function' is missing. Add it.", code="missing_field", param=path)
        functions.append(_tool(tool.function, f"{path}.function"))
    functions += [_tool(each, f"functions[{place}]") for place, each in enumerate(body.functions or ())]
    return tuple(functions)


def _tool(function: FunctionBody, path: str) -> Tool:
    if not function.name or len(function.name) > MAX_NAME_CHARS:
        message = f"'{path}.name' must have 1 to {MAX_NAME_CHARS} characters."
        raise InvalidRequest(message, param=f"{path}.name")
    schema = object_text(function.parameters, f"{path}.parameters") if is_given(function.parameters) else "{}"
    return Tool(function.name, function.description or "", schema, bool(function.strict))


def _read_choice(choice: str | ToolChoice | None) -> str | ToolChoice | None:
    if not isinstance(choice, str) or not choice.lstrip().startswith("{"):
        return choice
    try:
        return decode_body(choice.encode(), ToolChoice)
    except InvalidRequest as error:
        message = "'tool_choice' is text that cannot be read as a JSON object. Send the object itself."
        raise InvalidRequest(message, param="tool_choice") from error


def _named(choice: ToolName, path: str) -> str:
    if choice.type != "function":
        message = f"'{path}' is of type '{choice.type[:50]}', and only functions can be called here. Name a function."
        raise Unsupported(message, code="unsupported_tool", param=f"{path}.type")
    name = choice.function.name if choice.function is not None else choice.name
    if not name:
        raise InvalidRequest(f"'{path}' names no function. Add 'function': {{'name': ...}}.", param=path)
    return name


def _chosen(use: ToolUse, word: str | None, param: str) -> ToolUse:
    """``use`` as a word says; functions may be chosen by their bare name."""
    match word:
        case None | "" | "auto":
            return use
        case "none":
            return replace(use, tools=(), mode="none")
        case "required" if param == "tool_choice":
            if not use.tools:
                raise InvalidRequest("A tool is to be called, but there are none. Send 'tools'.", param=param)
            return replace(use, mode="required")
        case name if param == "function_call":
            return _only(use, name, param)
        case _:
            raise InvalidRequest(f"'{param}' is '{word[:50]}'. Use auto, none, required or a function.", param=param)


def _only(use: ToolUse, name: str, param: str) -> ToolUse:
    _check_known(use, (name,), param)
    return replace(use, mode="required", only_tool=name)


def _check_known(use: ToolUse, names: Iterable[str], param: str) -> None:
    known = {tool.name for tool in use.tools}
    for name in sorted(set(names) - known):
        raise InvalidRequest(f"'{param}' names '{name[:100]}', which is not among the tools. Add it.", param=param)


def _of_names(tools: tuple[Tool, ...], names: set[str]) -> tuple[Tool, ...]:
    return tuple(tool for tool in tools if tool.name in names)
