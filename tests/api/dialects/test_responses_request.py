from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from localai.api.dialects.responses_input import read_items
from localai.api.dialects.responses_request import (
    check_stored_options,
    parse_responses,
    response_head,
    wanted_mcp_servers,
)
from localai.api.schemas.responses_objects import Response
from localai.api.schemas.responses_requests import InputItem, ResponsesBody
from localai.mesh.errors import InvalidRequest, Unsupported
from localai.node.inference import ChatInput, ChatMessage, GenerateRequest, Grammar, JsonSchema, Sampling, Tool
from localai.node.request_defaults import RequestDefaults

DEFAULTS = RequestDefaults(Sampling(temperature=0.5), max_tokens=7, choices=3)
F: Any = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
G: Any = {"type": "function", "name": "g"}


def body_of(**fields: Any) -> ResponsesBody:
    return msgspec.convert({"input": "hi", **fields}, ResponsesBody)


def parse(**fields: Any) -> GenerateRequest:
    body = body_of(**fields)
    return parse_responses(body, read_items(body.input), "resp_1", "m", DEFAULTS)


def chat(**fields: Any) -> ChatInput:
    prompt = parse(**fields).prompt
    assert isinstance(prompt, ChatInput)
    return prompt


def head(**fields: Any) -> Response:
    return response_head(body_of(**fields), parse(**fields), 5)


def deep(levels: int) -> dict[str, Any]:
    """A schema of objects and lists inside each other, one more than ``levels``."""
    made: Any = {}
    for level in range(levels):
        made = [made, 1] if level % 2 == 0 else {"a": made, "b": 1}
    return {"a": made} if isinstance(made, list) else made


def test_a_small_body_and_the_defaults() -> None:
    assert parse() == GenerateRequest(
        "resp_1",  # type: ignore[arg-type]
        "m",
        ChatInput((ChatMessage("user", "hi"),)),
        sampling=Sampling(temperature=0.5),
        max_tokens=7,
    )


def test_every_field() -> None:
    request = parse(
        instructions="be nice",
        tools=[F],
        parallel_tool_calls=False,
        reasoning={"effort": "high", "summary": "auto"},
        temperature=0,
        top_p=0.5,
        seed=3,
        max_output_tokens=9,
        stop=["a"],
        top_logprobs=2,
        logit_bias={"3": -1},
    )
    assert request.prompt == ChatInput(
        (ChatMessage("system", "be nice"), ChatMessage("user", "hi")),
        tools=(Tool("f", "d", '{"type":"object"}', True),),
        parallel_tool_calls=False,
        reasoning_effort="high",
    )
    assert request.sampling == Sampling(temperature=0, top_p=0.5, seed=3)
    assert (request.max_tokens, request.stop, request.logprobs) == (9, ("a",), 2)
    assert request.logit_bias == ((3, -1.0),)


def test_history_comes_between_instructions_and_input() -> None:
    body = body_of(instructions="now")
    history = [InputItem("message", role="user", content="then")]
    request = parse_responses(body, read_items(body.input), "resp_1", "m", DEFAULTS, history)
    assert isinstance(request.prompt, ChatInput)
    assert [message.content for message in request.prompt.messages] == ["now", "then", "hi"]
    for empty in (body_of(input=""), body_of(input=[]), body_of(input=None)):
        with pytest.raises(InvalidRequest, match="failed to parse input: 'input' is empty"):
            parse_responses(empty, read_items(empty.input), "resp_1", "m", DEFAULTS, history)


def test_thinking_that_is_not_there_answers_nothing() -> None:
    with pytest.raises(InvalidRequest, match="is empty"):
        parse(input=[{"type": "reasoning", "summary": []}])


@pytest.mark.parametrize(
    ("fields", "names", "mode", "only"),
    [
        ({}, "fg", "auto", ""),
        ({"tool_choice": "auto"}, "fg", "auto", ""),
        ({"tool_choice": "none"}, "fg", "none", ""),
        ({"tool_choice": "required"}, "fg", "required", ""),
        ({"tool_choice": {"type": "function", "name": "g"}}, "fg", "required", "g"),
        ({"tool_choice": {"type": "function", "function": {"name": "g"}}}, "fg", "required", "g"),
        ({"allowed_tools": ["f"]}, "f", "auto", ""),
        ({"allowed_tools": []}, "", "auto", ""),
        ({"tool_choice": {"type": "allowed_tools", "tools": [{"type": "function", "name": "g"}]}}, "g", "auto", ""),
        (
            {"tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"name": "f"}]}},
            "f",
            "required",
            "",
        ),
    ],
)
def test_which_tools_may_be_called(fields: dict[str, Any], names: str, mode: str, only: str) -> None:
    prompt = chat(tools=[F, G], **fields)
    assert ("".join(tool.name for tool in prompt.tools), prompt.tool_choice, prompt.only_tool) == (names, mode, only)


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"text": {}}, None),
        ({"text": {"format": {"type": "text"}}}, None),
        ({"text": {"format": {"type": "json_object"}}}, JsonSchema()),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {"a": 1}}}}, JsonSchema('{"a":1}')),
        ({"text_format": {"type": "json_object"}}, JsonSchema()),
        ({"grammar": "root ::= x"}, Grammar("root ::= x")),
        ({"grammar": "x", "text": {"format": {"type": "json_object"}}}, JsonSchema()),
    ],
)
def test_the_form_of_the_answer(fields: dict[str, Any], constraint: object) -> None:
    assert parse(**fields).constraint == constraint


def test_schemas_may_be_deep() -> None:
    assert parse(tools=[{**G, "parameters": deep(198)}]).prompt


def test_log_probabilities() -> None:
    assert parse().logprobs is None
    assert parse(top_logprobs=0).logprobs is None
    assert parse(include=["message.output_text.logprobs"]).logprobs == 0
    assert parse(include=["reasoning.encrypted_content"]).logprobs is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "h"}, "tools": [F]}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "tools": [{"name": "h"}]}}, "tool_choice.tools"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "x"}, "tools": [F]}, "tool_choice.mode"),
        ({"tool_choice": {"type": "allowed_tools", "tools": [{}]}, "tools": [F]}, "tool_choice.tools"),
        ({"allowed_tools": ["h"]}, "allowed_tools"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [G] * 513}, "tools"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": deep(200)}}}, "text.format.schema"),
        ({"tools": [{**G, "parameters": deep(200)}]}, "tools"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": -1}, "top_logprobs"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"temperature": 3}, "temperature"),
        ({"max_output_tokens": -2}, "max_output_tokens"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: ""}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"truncation": "much"}, "truncation"),
        ({"reasoning": {"effort": "x" * 33}}, "reasoning.effort"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"conversation": "c"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"context_management": []}, "context_management"),
        ({"tools": [F, {"type": "web_search"}]}, "tools[1].type"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice.type"),
    ],
)
def test_what_no_request_can_say_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        parse(**fields)
    assert (caught.value.param, caught.value.code) == (param, "unsupported_field")


@pytest.mark.parametrize(
    ("fields", "automatic", "servers"),
    [
        ({}, False, None),
        ({}, True, ()),
        ({"tools": []}, True, ()),
        ({"tools": [F]}, True, None),
        ({"tool_choice": "none"}, True, None),
        ({"metadata": {"mcp_servers": "a, b"}}, False, ("a", "b")),
        ({"metadata": {"mcp_servers": "a"}, "tools": [F]}, True, ("a",)),
        ({"metadata": {"mcp_servers": " , "}}, True, ()),
    ],
)
def test_which_mcp_servers_are_wanted(fields: Any, automatic: bool, servers: tuple[str, ...] | None) -> None:
    assert wanted_mcp_servers(body_of(**fields), automatic=automatic) == servers


def test_prompts_of_mcp_servers_are_refused() -> None:
    with pytest.raises(Unsupported) as caught:
        wanted_mcp_servers(body_of(metadata={"mcp_prompt": "x"}), automatic=True)
    assert caught.value.param == "metadata.mcp_prompt"


@pytest.mark.parametrize(("given", "shown"), [({}, "auto"), ({"tool_choice": "none"}, "none")])
def test_a_model_with_servers_may_choose(given: Any, shown: str) -> None:
    made = response_head(body_of(**given), parse(**given), 5, with_servers=True)
    assert (made.tool_choice, made.tools) == (shown, [])


def test_the_background_needs_the_store() -> None:
    check_stored_options(body_of(background=True))
    check_stored_options(body_of(store=False))
    with pytest.raises(InvalidRequest) as caught:
        check_stored_options(body_of(background=True, store=False))
    assert caught.value.message == "background=true requires store=true"


def test_a_response_has_every_key_from_the_beginning() -> None:
    assert json.loads(msgspec.json.encode(head())) == {
        "id": "resp_1",
        "object": "response",
        "created_at": 5,
        "completed_at": None,
        "status": "in_progress",
        "model": "m",
        "output": [],
        "error": None,
        "incomplete_details": None,
        "previous_response_id": None,
        "instructions": None,
        "tools": [],
        "tool_choice": "none",
        "parallel_tool_calls": True,
        "max_tool_calls": None,
        "temperature": 0.5,
        "top_p": 0.95,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "top_logprobs": 0,
        "max_output_tokens": 7,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "truncation": "disabled",
        "reasoning": None,
        "usage": None,
        "metadata": {},
        "store": True,
        "background": False,
        "service_tier": "default",
        "safety_identifier": None,
        "prompt_cache_key": None,
        "user": None,
    }


def test_a_response_says_what_holds() -> None:
    made = head(
        tools=[F],
        background=True,
        previous_response_id="resp_0",
        truncation="auto",
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_object"}, "verbosity": "low"},
        metadata={"a": "b"},
        top_logprobs=3,
        max_tool_calls=2,
        parallel_tool_calls=False,
        user="u",
    )
    assert (made.status, made.background, made.previous_response_id) == ("queued", True, "resp_0")
    assert (made.tool_choice, made.tools[0].name, made.parallel_tool_calls) == ("auto", "f", False)
    assert made.truncation == "disabled"
    assert made.reasoning is not None
    assert (made.reasoning.effort, made.reasoning.summary) == ("low", None)
    assert (made.text.format.type, made.text.verbosity) == ("json_object", "low")
    assert (made.metadata, made.top_logprobs, made.max_tool_calls, made.user) == ({"a": "b"}, 3, 2, "u")
    choice = {"type": "function", "name": "f"}
    assert msgspec.to_builtins(head(tools=[F], tool_choice=choice).tool_choice) == choice
    assert not head(store=False).store
