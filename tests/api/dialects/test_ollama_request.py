from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from localai.api.bodies import decode_body
from localai.api.dialects.ollama_request import asks_to_load, asks_to_unload, parse_chat, parse_embed, parse_generate
from localai.api.schemas.ollama import ChatBody, EmbedBody, GenerateBody
from localai.mesh.errors import InvalidRequest, LocalAIError, Unsupported
from localai.node.inference import (
    ChatInput,
    ChatMessage,
    EmbedRequest,
    GenerateRequest,
    JsonSchema,
    Media,
    RequestId,
    Sampling,
    TextInput,
    Tool,
    ToolCall,
)
from localai.node.request_defaults import RequestDefaults

ID = RequestId("r")
HELLO = [{"role": "user", "content": "hi"}]
PICTURE = base64.b64encode(b"\x89PNG").decode()


def chat(**fields: Any) -> GenerateRequest:
    return parse_chat(decode_body(json.dumps({"messages": HELLO, **fields}).encode(), ChatBody), ID, "m")


def generate(**fields: Any) -> GenerateRequest:
    return parse_generate(decode_body(json.dumps({"prompt": "hi", **fields}).encode(), GenerateBody), ID, "m")


def embed(**fields: Any) -> EmbedRequest:
    return parse_embed(decode_body(json.dumps(fields).encode(), EmbedBody), ID, "m", local_only=False)


def test_a_plain_conversation() -> None:
    assert chat() == GenerateRequest(ID, "m", ChatInput((ChatMessage("user", "hi"),)))


def test_a_prompt_is_a_conversation_unless_it_is_raw() -> None:
    asked = generate(system="Be kind.", images=[PICTURE], think=False)
    assert asked.prompt == ChatInput(
        (ChatMessage("system", "Be kind."), ChatMessage("user", "hi", media=(Media("image", b"\x89PNG"),))),
        reasoning_effort="none",
    )
    assert generate(raw=True, system="not used").prompt == TextInput("hi")
    assert generate().prompt == ChatInput((ChatMessage("user", "hi"),))


def test_options() -> None:
    options = {
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 7.0,
        "min_p": 0.125,
        "repeat_penalty": 1.5,
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
        "seed": 42.0,
        "num_predict": 9,
        "stop": ["a", ""],
        "num_ctx": 4096,
        "repeat_last_n": 64,
        "mirostat": 0,
        "typical_p": 1.0,
        "tfs_z": 1,
    }
    request = chat(options=options, keep_alive="5m")
    assert request.sampling == Sampling(0.5, 0.25, 7, 0.125, 1.5, 0.5, -0.5, 42)
    assert (request.max_tokens, request.stop) == (9, ("a",))
    assert chat(options={"stop": "one"}).stop == ("one",)


@pytest.mark.parametrize("limit", [-2, -1, 0])
def test_no_limit(limit: int) -> None:
    assert chat(options={"num_predict": limit}).max_tokens is None


def test_the_request_goes_before_the_definition() -> None:
    defaults = RequestDefaults(Sampling(temperature=0.1), max_tokens=5, choices=3, ignore_eos=True)
    request = parse_chat(decode_body(json.dumps({"messages": HELLO}).encode(), ChatBody), ID, "m", defaults)
    assert (request.sampling.temperature, request.max_tokens, request.choices, request.ignore_eos) == (0.1, 5, 1, True)
    body = GenerateBody(prompt="hi", raw=True)
    assert parse_generate(body, ID, "m", defaults).max_tokens == 5


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("", None),
        ("json", JsonSchema("{}")),
        ({"type": "object"}, JsonSchema('{"type": "object"}')),
    ],
)
def test_formats(given: Any, expected: Any) -> None:
    assert chat(format=given).constraint == expected


@pytest.mark.parametrize(
    ("think", "effort"),
    [(None, ""), (True, ""), ("true", ""), ("", ""), (False, "none"), ("false", "none"), ("High", "high")],
)
def test_thinking(think: Any, effort: str) -> None:
    prompt = chat(think=think).prompt
    assert isinstance(prompt, ChatInput)
    assert prompt.reasoning_effort == effort


def test_log_probabilities() -> None:
    assert chat(logprobs=True, top_logprobs=3).logprobs == 3
    assert chat(logprobs=True).logprobs == 0
    assert chat(top_logprobs=3).logprobs is None


def test_tools() -> None:
    schema = {"type": "object", "properties": {"at": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": schema}}]
    prompt = chat(tools=[*tools, {"function": {"name": "wait", "parameters": None}}]).prompt
    assert isinstance(prompt, ChatInput)
    assert prompt.tools == (Tool("look", "Looks.", json.dumps(schema)), Tool("wait"))


def test_answers_of_tools_find_their_calls() -> None:
    messages = [
        {
            "role": "assistant",
            "thinking": "Hm.",
            "tool_calls": [
                {"function": {"name": "a", "arguments": {"x": 1}}},
                {"function": {"name": "b"}},
                {"id": "mine", "function": {"name": "b", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "1", "tool_name": "b"},
        {"role": "tool", "content": "2"},
        {"role": "tool", "content": "3", "tool_call_id": "mine", "tool_name": "b"},
        {"role": "tool", "content": "4", "tool_name": "other"},
    ]
    prompt = chat(messages=messages).prompt
    assert isinstance(prompt, ChatInput)
    calls = (ToolCall("call_0_0", "a", '{"x": 1}'), ToolCall("call_0_1", "b", "{}"), ToolCall("mine", "b", "{}"))
    assert prompt.messages == (
        ChatMessage("assistant", "", reasoning="Hm.", tool_calls=calls),
        ChatMessage("tool", "1", name="b", tool_call_id="call_0_1"),
        ChatMessage("tool", "2", name="a", tool_call_id="call_0_0"),
        ChatMessage("tool", "3", name="b", tool_call_id="mine"),
        ChatMessage("tool", "4", name="other"),
    )


def test_nothing_to_answer_means_to_load() -> None:
    assert asks_to_load(ChatBody())
    assert asks_to_load(ChatBody(messages=[]))
    assert asks_to_load(GenerateBody(prompt=""))
    assert not asks_to_load(GenerateBody(prompt="hi"))
    assert not asks_to_load(GenerateBody(images=[b"x"]))


@pytest.mark.parametrize(
    ("keep_alive", "unloads"),
    [(0, True), ("0", True), ("0s", True), ("0.0m", True), (None, False), (-1, False), ("5m", False)],
)
def test_to_be_kept_for_no_time_means_to_unload(keep_alive: float | str | None, unloads: bool) -> None:
    assert asks_to_unload(ChatBody(keep_alive=keep_alive)) is unloads


def test_texts_to_embed() -> None:
    assert embed(input="a") == EmbedRequest(ID, "m", (TextInput("a"),))
    assert embed(input=["a", "b"], dimensions=3) == EmbedRequest(ID, "m", (TextInput("a"), TextInput("b")), 3)
    assert embed(prompt="a", dimensions=0) == EmbedRequest(ID, "m", (TextInput("a"),))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "images": ["!"]}]}, "messages[0].images[0]"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": "x"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"options": {"temperature": 3}}, "options.temperature"),
        ({"options": {"seed": 1.5}}, "options.seed"),
        ({"options": {"top_k": "many"}}, "options.top_k"),
        ({"options": {"stop": ["x"] * 17}}, "options.stop"),
        ({"options": {"stop": "x" * 1001}}, "options.stop"),
        ({"format": "yaml"}, "format"),
        ({"format": 7}, "format"),
        ({"think": "hard"}, "think"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"function": {"name": ""}}]}, "tools[0].function"),
        ({"tools": [{"function": {"name": "a", "parameters": []}}]}, "tools[0].function.parameters"),
    ],
)
def test_what_is_wrong_in_a_conversation_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param", "kind"),
    [
        ({"suffix": "end"}, "suffix", Unsupported),
        ({"template": "{{ .Prompt }}"}, "template", Unsupported),
        ({"context": [1]}, "context", Unsupported),
        ({"options": {"mirostat": 2}}, "options.mirostat", Unsupported),
        ({"options": {"typical_p": 0.5}}, "options.typical_p", Unsupported),
        ({"raw": True, "images": [PICTURE]}, "images", InvalidRequest),
    ],
)
def test_what_there_is_not_is_refused_and_not_ignored(
    fields: dict[str, Any], param: str, kind: type[LocalAIError]
) -> None:
    with pytest.raises(kind) as caught:
        generate(**fields)
    assert caught.value.param == param
    with pytest.raises(Unsupported) as unsupported:
        chat(tools=[{"type": "web", "function": {"name": "a"}}])
    assert unsupported.value.param == "tools[0].type"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["x"] * 2049}, "input"),
        ({"input": "a", "dimensions": -1}, "dimensions"),
    ],
)
def test_what_is_wrong_with_texts_to_embed_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        embed(**fields)
    assert caught.value.param == param
