from __future__ import annotations

import json
from typing import Any

import pytest

from localai.api.bodies import decode_body
from localai.api.dialects.anthropic import message_form, parse_count, parse_messages, render_count
from localai.api.dialects.anthropic_answer import MessageForm
from localai.api.schemas.anthropic_requests import MessagesBody, PromptBody
from localai.api.schemas.anthropic_responses import TokenCount
from localai.mesh.errors import InvalidRequest, LocalAIError, Unsupported
from localai.node.inference import (
    ChatInput,
    ChatMessage,
    Event,
    Finished,
    GenerateRequest,
    JsonSchema,
    RequestId,
    Sampling,
    Tokenized,
    TokenizeRequest,
    Tool,
    Usage,
)
from localai.node.request_defaults import RequestDefaults

HELLO = [{"role": "user", "content": "hi"}]
LOOK = {"name": "look", "description": "Looks.", "input_schema": {}}
SCHEMA = {"type": "json_schema", "schema": {"type": "object"}}
PICTURE = {"type": "image", "source": {"type": "base64", "data": ""}}


def body(**fields: Any) -> MessagesBody:
    return decode_body(json.dumps({"messages": HELLO, "max_tokens": 50, **fields}).encode(), MessagesBody)


def parse(**fields: Any) -> GenerateRequest:
    return parse_messages(body(**fields), RequestId("r"), "m")


def test_a_plain_request() -> None:
    chat = ChatInput((ChatMessage("user", "hi"),))
    assert parse() == GenerateRequest(RequestId("r"), "m", chat, Sampling(), max_tokens=50)


def test_every_field() -> None:
    request = parse(
        temperature=0.5,
        top_p=0.8,
        top_k=7,
        stop_sequences=["END", ""],
        tools=[LOOK],
        tool_choice={"type": "tool", "name": "look", "disable_parallel_tool_use": True},
        metadata={"user_id": None},
        thinking={"type": "adaptive"},
        output_config={"effort": "xhigh", "format": SCHEMA},
        service_tier="auto",
        stream=True,
    )
    assert request == GenerateRequest(
        RequestId("r"),
        "m",
        ChatInput((ChatMessage("user", "hi"),), (Tool("look", "Looks.", "{}"),), "required", "look", False, "xhigh"),
        Sampling(temperature=0.5, top_p=0.8, top_k=7),
        max_tokens=50,
        stop=("END",),
        constraint=JsonSchema('{"type": "object"}'),
    )
    assert parse(output_format=SCHEMA).constraint == JsonSchema('{"type": "object"}')
    assert parse(max_tokens=2**70).max_tokens == 2**31 - 1


def test_the_request_goes_before_the_definition() -> None:
    defaults = RequestDefaults(Sampling(temperature=0.1, seed=3), max_tokens=9, choices=2, ignore_eos=True)
    request = parse_messages(body(top_p=0.2), RequestId("r"), "m", defaults)
    assert request.sampling == Sampling(temperature=0.1, top_p=0.2, seed=3)
    assert (request.max_tokens, request.choices, request.ignore_eos) == (50, 1, True)


@pytest.mark.parametrize(
    ("thinking", "effort", "shown"),
    [
        (None, "", "hidden"),
        ({"type": "disabled"}, "none", "hidden"),
        ({"type": "enabled", "budget_tokens": 49}, "", "shown"),
        ({"type": "enabled", "budget_tokens": 1, "display": "omitted"}, "", "omitted"),
        ({"type": "adaptive", "display": "summarized"}, "", "shown"),
        ({"type": "between_tools"}, "", "shown"),
    ],
)
def test_thinking(thinking: Any, effort: str, shown: Any) -> None:
    prompt = parse(thinking=thinking, output_config={"effort": None}).prompt
    assert isinstance(prompt, ChatInput)
    assert prompt.reasoning_effort == effort
    assert message_form(body(thinking=thinking)) == MessageForm(shown)


def test_eager_tools_of_the_form() -> None:
    form = message_form(body(tools=[LOOK]), "fine-grained-tool-streaming-2025-05-14")
    assert form == MessageForm("hidden", frozenset({"look"}))


@pytest.mark.parametrize(
    ("fields", "kind", "param", "message"),
    [
        ({"max_tokens": None}, InvalidRequest, "max_tokens", "max_tokens is required and must be greater than 0"),
        ({"max_tokens": 0}, InvalidRequest, "max_tokens", "max_tokens is required and must be greater than 0"),
        ({"max_tokens": -1}, InvalidRequest, "max_tokens", "max_tokens is required and must be greater than 0"),
        ({"messages": []}, InvalidRequest, "messages", "'messages' is empty"),
        (
            {"messages": [*HELLO, {"role": "assistant", "content": "So"}]},
            InvalidRequest,
            "messages",
            "End with a user message.",
        ),
        ({"temperature": 2.1}, InvalidRequest, "temperature", "'temperature' must be between 0 and 2"),
        ({"top_p": -0.1}, InvalidRequest, "top_p", "'top_p' must be between 0 and 1"),
        ({"top_k": -2}, InvalidRequest, "top_k", "'top_k' must be"),
        ({"stop_sequences": ["a"] * 17}, InvalidRequest, "stop_sequences", "at most 16"),
        ({"stop_sequences": ["a" * 1001]}, InvalidRequest, "stop_sequences", "1000 characters"),
        ({"thinking": {"type": "x"}}, InvalidRequest, "thinking.type", "'thinking.type' is 'x'"),
        ({"thinking": {"type": "adaptive", "display": "x"}}, InvalidRequest, "thinking.display", "Use summarized"),
        ({"thinking": {"type": "enabled"}}, InvalidRequest, "thinking.budget_tokens", "is missing"),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 50}},
            InvalidRequest,
            "thinking.budget_tokens",
            "less than 'max_tokens'",
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 0}},
            InvalidRequest,
            "thinking.budget_tokens",
            "at least 1",
        ),
        ({"output_config": {"effort": "huge"}}, InvalidRequest, "output_config.effort", "Use low"),
        ({"output_format": {"type": "xml"}}, InvalidRequest, "output_format.type", "Use json_schema"),
        (
            {"output_config": {"format": {"type": "json_schema"}}},
            InvalidRequest,
            "output_config.format.schema",
            "JSON object",
        ),
        ({"container": "c"}, Unsupported, "container", "'container' is not supported"),
        ({"mcp_servers": [{}]}, Unsupported, "mcp_servers", "'mcp_servers' is not supported"),
        ({"tools": [{"name": "bash", "type": "bash_20250124"}]}, Unsupported, "tools[0].type", "Leave it out"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], kind: type[LocalAIError], param: str, message: str) -> None:
    with pytest.raises(kind) as caught:
        parse(**fields)
    assert caught.value.param == param
    assert message in caught.value.message


def count(**fields: Any) -> TokenizeRequest:
    given = decode_body(json.dumps({"messages": HELLO, **fields}).encode(), PromptBody)
    return parse_count(given, RequestId("r"), "m", local_only=True)


def test_what_is_counted() -> None:
    request = count(system="S", tools=[LOOK])
    assert (request.local_only, request.prompt) == (True, parse(system="S", tools=[LOOK]).prompt)
    events: list[Event] = [Tokenized((1, 2)), Tokenized((3,)), Finished((), Usage(3, 0))]
    assert render_count(events) == TokenCount(3)
