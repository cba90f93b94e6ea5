from __future__ import annotations

import pytest

from localai.mesh.errors import InvalidRequest
from localai.node.inference import ChatInput, ChatMessage, GenerateRequest, JsonSchema, RequestId, Tool, ToolCall
from localai.node.prompt_templates import PromptExtras, PromptFunction, PromptTemplates, render_chat
from localai.node.prompt_turns import prompt_extras, prompt_messages

CHAT = ChatInput(
    (
        ChatMessage("user", "2+3?", "ann"),
        ChatMessage("assistant", "", tool_calls=(ToolCall("c1", "add", '{"a":2}'),)),
        ChatMessage("tool", "5", tool_call_id="c1"),
    ),
    tools=(Tool("add", "Adds.", '{"type": "object", "maxProperties": 2}', strict=True),),
    reasoning_effort="low",
)


def request(chat: ChatInput, constraint: JsonSchema | None = None) -> GenerateRequest:
    return GenerateRequest(RequestId("r"), "m", chat, constraint=constraint)


def test_templates_see_turns_names_and_calls() -> None:
    templates = PromptTemplates(chat_message="{{.RoleName}} {{.FunctionName}}: {{.Content}}{{toJson .FunctionCall}}")
    assert render_chat(templates, prompt_messages(CHAT)).split("\n") == [
        "user ann: 2+3?null",
        'assistant : [{"index":0,"id":"c1","type":"function","function":{"name":"add","arguments":"{\\"a\\":2}"}}]',
        "tool : 5null",
    ]


def test_what_a_request_adds() -> None:
    functions = (PromptFunction("add", "Adds.", {"type": "object", "maxProperties": 2.0}, strict=True),)
    assert prompt_extras(request(CHAT), CHAT) == PromptExtras(functions, reasoning_effort="low")
    assert prompt_extras(request(ChatInput(()), JsonSchema()), ChatInput(())) == PromptExtras(grammar=True)


@pytest.mark.parametrize("parameters", ["[]", "{", "[" * 10_000 + "]" * 10_000])
def test_a_schema_that_cannot_be_read(parameters: str) -> None:
    chat = ChatInput((), tools=(Tool("add", parameters=parameters),))
    with pytest.raises(InvalidRequest) as caught:
        prompt_extras(request(chat), chat)
    assert caught.value.param == "tools"
