"""The templates here are written in the manner of the formats they are named after."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.go_template.errors import BadTemplate, TemplateFailed
from localai.node.inference import ChatMessage
from localai.node.prompt_templates import (
    PromptExtras,
    PromptFunction,
    PromptMessage,
    PromptTemplates,
    check_templates,
    load_templates,
    render_chat,
    render_completion,
    render_edit,
)

CONVERSATION = (
    ChatMessage("system", "Be brief."),
    ChatMessage("user", "Hi"),
    ChatMessage("assistant", "Hello"),
    ChatMessage("user", "Bye <now>"),
)

CHATML = PromptTemplates(
    chat_message="""<|im_start|>{{ .RoleName }}
{{- if .Content }}
{{ .Content }}
{{- end }}
{{- if .FunctionCall }}
{{ toJson .FunctionCall }}
{{- end }}<|im_end|>""",
    chat="{{ .Input }}\n<|im_start|>assistant\n",
    completion="{{ .Input }}",
)
LLAMA3 = PromptTemplates(
    chat_message="""<|start_header_id|>{{if eq .RoleName "tool"}}ipython{{else}}{{.RoleName}}{{end}}<|end_header_id|>

{{ if .FunctionCall -}}{{ toJson .FunctionCall }}{{ else if .Content -}}{{ .Content -}}{{ end -}}<|eot_id|>""",
    chat="<|begin_of_text|>{{.Input }}<|start_header_id|>assistant<|end_header_id|>\n\n",
    join="",
)
ALPACA = PromptTemplates(
    chat_message="""{{if eq .RoleName "system"}}{{.Content}}
{{else if eq .RoleName "user"}}### Instruction:
{{.Content}}
{{else}}### Response:
{{.Content}}
{{end}}""",
    chat="{{.Input}}\n### Response:",
    edit="### Instruction:\n{{.Instruction}}\n\n### Input:\n{{.Input}}\n\n### Response:\n",
)
MISTRAL = PromptTemplates(
    chat_message="""{{if eq .RoleName "user" -}}
[INST] {{.Content }} [/INST]
{{- else if .FunctionCall -}}
[TOOL_CALLS] {{toJson .FunctionCall}}</s>
{{- else if eq .RoleName "assistant" -}}
{{.Content}}</s>
{{- else if eq .RoleName "tool" -}}
[TOOL_RESULTS] {{.Content}} [/TOOL_RESULTS]
{{- else if eq .RoleName "system" -}}
{{.Content}}
{{- end}}""",
    function="""[AVAILABLE_TOOLS] [{{range $i, $f := .Functions}}{{if $i}}, {{end -}}
{"type": "function", "function": {"name": {{.Name | quote}}, "parameters": {{toJson .Parameters}}}}
{{- end}}] [/AVAILABLE_TOOLS]{{.Input }}""",
    chat="{{.Input}}",
    join="",
)
GEMMA = PromptTemplates(
    chat_message="""{{- if eq .RoleName "assistant" }}<start_of_turn>model
{{ else if ne .RoleName "system" }}<start_of_turn>{{ .RoleName }}
{{ end }}{{ .Content }}{{ if ne .RoleName "system" }}<end_of_turn>{{ end }}""",
    chat="{{ .Input }}\n<start_of_turn>model\n",
)
PHI = PromptTemplates(
    roles={"system": "<|system|>\n", "user": "<|user|>\n", "assistant": "<|assistant|>\n"},
    chat_message="{{.Role}}{{.Content}}<|end|>",
    chat="{{.Input}}\n<|assistant|>\n",
)
COMMAND_R = PromptTemplates(
    chat_message="""{{if eq .RoleName "user" -}}
<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{{.Content}}<|END_OF_TURN_TOKEN|>
{{- else if eq .RoleName "system" -}}
<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{{.Content}}<|END_OF_TURN_TOKEN|>
{{- else -}}
<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{{.Content}}<|END_OF_TURN_TOKEN|>
{{- end}}""",
    chat="{{.Input}}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    join="",
)
HERMES = PromptTemplates(
    chat_message="""<|im_start|>{{if eq .RoleName "assistant"}}assistant
{{- else if eq .RoleName "system"}}system{{else if eq .RoleName "tool"}}tool{{else}}user{{end}}
{{- if .FunctionCall }}
<tool_call>
{{- else if eq .RoleName "tool" }}
<tool_response>
{{- end }}
{{- if .Content}}
{{.Content }}
{{- end }}
{{- if .FunctionCall}}
{{toJson .FunctionCall}}
</tool_call>
{{- else if eq .RoleName "tool" }}
</tool_response>
{{- end }}<|im_end|>""",
    function="""<|im_start|>system
Tools: <tools>
{{range .Functions}}{"type": "function", "function": {{toJson .}}}
{{end}}</tools><|im_end|>
{{.Input -}}
<|im_start|>assistant
""",
    chat="{{.Input -}}\n<|im_start|>assistant\n",
)


@pytest.mark.parametrize(
    ("templates", "prompt"),
    [
        pytest.param(
            CHATML,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello"
            "<|im_end|>\n<|im_start|>user\nBye <now><|im_end|>\n<|im_start|>assistant\n",
            id="chatml",
        ),
        pytest.param(
            LLAMA3,
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nBye <now><|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            id="llama3",
        ),
        pytest.param(
            ALPACA,
            "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello\n\n### Instruction:\nBye <now>\n\n### Response:",
            id="alpaca",
        ),
        pytest.param(MISTRAL, "Be brief.[INST] Hi [/INST]Hello</s>[INST] Bye <now> [/INST]", id="mistral"),
        pytest.param(
            GEMMA,
            "Be brief.\n<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n"
            "<start_of_turn>user\nBye <now><end_of_turn>\n<start_of_turn>model\n",
            id="gemma",
        ),
        pytest.param(
            PHI,
            "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello<|end|>\n<|user|>\n"
            "Bye <now><|end|>\n<|assistant|>\n",
            id="phi",
        ),
        pytest.param(
            COMMAND_R,
            "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Be brief.<|END_OF_TURN_TOKEN|>"
            "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi<|END_OF_TURN_TOKEN|>"
            "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Hello<|END_OF_TURN_TOKEN|>"
            "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Bye <now><|END_OF_TURN_TOKEN|>"
            "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
            id="command-r",
        ),
        pytest.param(
            HERMES,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello"
            "<|im_end|>\n<|im_start|>user\nBye <now><|im_end|><|im_start|>assistant\n",
            id="hermes",
        ),
    ],
)
def test_known_formats(templates: PromptTemplates, prompt: str) -> None:
    check_templates(templates)
    assert render_chat(templates, CONVERSATION) == prompt


WEATHER = PromptFunction("weather", "It's <hot>?", {"type": "object", "properties": {"city": {"type": "string"}}})
CALLS = (
    ChatMessage("user", "Rome?"),
    PromptMessage("assistant", "", calls={"name": "weather", "arguments": {"city": "Rome"}}),
    PromptMessage("tool", "30", name="weather"),
)


def test_function_calls_in_the_manner_of_hermes() -> None:
    assert render_chat(HERMES, CALLS, PromptExtras(functions=(WEATHER,))) == (
        "<|im_start|>system\nTools: <tools>\n"
        '{"type": "function", "function": {"name":"weather","description":"It\'s \\u003chot\\u003e?","strict":false,'
        '"parameters":{"properties":{"city":{"type":"string"}},"type":"object"}}}\n'
        "</tools><|im_end|>\n"
        "<|im_start|>user\nRome?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"arguments":{"city":"Rome"},"name":"weather"}\n</tool_call><|im_end|>\n'
        "<|im_start|>tool\n<tool_response>\n30\n</tool_response><|im_end|>"
        "<|im_start|>assistant\n"
    )


def test_function_calls_in_the_manner_of_mistral() -> None:
    assert render_chat(MISTRAL, CALLS, PromptExtras(functions=(WEATHER, PromptFunction("b")))) == (
        '[AVAILABLE_TOOLS] [{"type": "function", "function": {"name": "weather", "parameters": '
        '{"properties":{"city":{"type":"string"}},"type":"object"}}}, '
        '{"type": "function", "function": {"name": "b", "parameters": {}}}] [/AVAILABLE_TOOLS]'
        '[INST] Rome? [/INST][TOOL_CALLS] {"arguments":{"city":"Rome"},"name":"weather"}</s>'
        "[TOOL_RESULTS] 30 [/TOOL_RESULTS]"
    )


def test_tools_without_a_function_template_use_the_chat_template() -> None:
    templates = PromptTemplates(chat="{{len .Functions}}{{range .Functions}} {{.Name}}{{end}}|{{.Input}}")
    assert render_chat(templates, (ChatMessage("user", "x"),), PromptExtras(functions=(WEATHER,))) == "1 weather|x"
    assert render_chat(templates, (ChatMessage("user", "x"),)) == "0|x"


def test_every_field_of_a_message() -> None:
    templates = PromptTemplates(
        roles={"user": "U:", "assistant_function_call": "C:"},
        system_prompt="S",
        chat_message="{{.SystemPrompt}} {{.Role}} {{.RoleName}} {{.FunctionName}} {{.Content}} {{.MessageIndex}} "
        "{{.Function}} {{.FunctionCall}} {{.LastMessage}}",
        join=" / ",
    )
    messages = (PromptMessage("user", "a", name="n"), PromptMessage("assistant", "b", calls=[{"name": "f"}]))
    assert render_chat(templates, messages, PromptExtras(grammar=True)) == (
        "S U: user n a 0 false <no value> false / S C: assistant_function_call  b 1 true [map[name:f]] true"
    )


def test_every_field_of_a_prompt() -> None:
    templates = PromptTemplates(
        system_prompt="S",
        chat="{{.SystemPrompt}} {{.SuppressSystemPrompt}} {{.Input}} {{.Instruction}} {{len .Functions}} "
        "{{.MessageIndex}} {{.ReasoningEffort}} {{.Metadata.a}} {{.Metadata.b}}",
    )
    extras = PromptExtras(reasoning_effort="high", metadata={"a": "1"})
    assert render_chat(templates, (ChatMessage("user", "x"),), extras) == "S false x  0 0 high 1 <no value>"


def test_without_templates_there_are_role_texts_and_contents() -> None:
    templates = PromptTemplates(roles={"user": "USER: ", "assistant": "BOT: "})
    assert render_chat(PromptTemplates(), CONVERSATION) == "Be brief.\nHi\nHello\nBye <now>"
    assert render_chat(templates, CONVERSATION) == "Be brief.\nUSER: Hi\nBOT: Hello\nUSER: Bye <now>"
    assert render_chat(templates, ()) == ""


def test_calls_without_templates_are_json() -> None:
    calls = [{"name": "f", "arguments": "{}"}]
    both = PromptMessage("assistant", "text", calls=calls)
    only = PromptMessage("assistant", "", calls=calls)
    shown = '[{"arguments":"{}","name":"f"}]'
    assert render_chat(PromptTemplates(), (both, only)) == f"text\n{shown}\n{shown}"
    with_role = PromptTemplates(roles={"assistant": "A:"})
    assert render_chat(with_role, (both, only)) == f"A:text\nA: {shown}\nA: {shown}"
    calling = PromptTemplates(roles={"assistant": "A:", "assistant_function_call": "CALL"})
    assert render_chat(calling, (both,)) == f"CALLtext\nCALL {shown}"


def test_a_system_message_without_template_suppresses_the_system_prompt() -> None:
    templates = PromptTemplates(
        system_prompt="Default.", chat="{{if not .SuppressSystemPrompt}}{{.SystemPrompt}}\n{{end}}{{.Input}}"
    )
    assert render_chat(templates, (ChatMessage("user", "Hi"),)) == "Default.\nHi"
    assert render_chat(templates, CONVERSATION[:2]) == "Be brief.\nHi"
    assert render_chat(templates, (ChatMessage("system", ""), ChatMessage("user", "Hi"))) == "Default.\n\nHi"
    own = PromptTemplates(system_prompt="D", chat=templates.chat, chat_message="{{.Content}}")
    assert render_chat(own, CONVERSATION[:2]) == "D\nBe brief.\nHi"


def test_a_message_that_renders_to_nothing_is_left_out() -> None:
    templates = PromptTemplates(chat_message='{{if ne .RoleName "system"}}{{.Content}}{{end}}', join="|")
    assert render_chat(templates, CONVERSATION) == "Hi|Hello|Bye <now>"


def test_a_message_template_that_fails_falls_back_for_that_message() -> None:
    templates = PromptTemplates(
        roles={"user": "U:", "system": "S:"},
        chat_message='{{if eq .RoleName "assistant"}}<{{.Content}}>{{else}}{{.Nothing}}{{end}}',
        chat="{{.SuppressSystemPrompt}} {{.Input}}",
        join="|",
    )
    assert render_chat(templates, CONVERSATION) == "true S:Be brief.|U:Hi|<Hello>|U:Bye <now>"


@pytest.mark.parametrize(
    ("templates", "words"),
    [
        (PromptTemplates(chat="{{.Input"), "The chat template fails at line 1, column 9: an action does not end"),
        (PromptTemplates(chat="{{.Inptu}}"), r"The chat template .* no field \.Inptu, only .*\.Input"),
        (PromptTemplates(chat_message="{{if}}"), "The chat_message template .* if has no value"),
        (PromptTemplates(chat_message="{{range 1000000}}{{end}}"), "The chat_message template .* 100000 steps"),
    ],
)
def test_what_a_template_cannot_do_is_said(templates: PromptTemplates, words: str) -> None:
    with pytest.raises(BadTemplate, match=words):
        render_chat(templates, CONVERSATION)


@pytest.mark.parametrize("name", ["chat", "chat_message", "completion", "edit", "function"])
def test_checking_finds_the_bad_one(name: str) -> None:
    check_templates(PromptTemplates())
    with pytest.raises(BadTemplate, match=f"The {name} template"):
        check_templates(PromptTemplates(**{name: "{{nofunction}}"}))  # type: ignore[arg-type]  # all five are texts


def test_completion_and_edit() -> None:
    templates = PromptTemplates(
        completion="{{.SystemPrompt}}>{{.Input}}", edit="{{.Instruction}}: {{.Input}}", system_prompt="S"
    )
    assert render_completion(templates, "once") == "S>once"
    assert render_edit(templates, "shorten", "long text") == "shorten: long text"
    assert render_edit(ALPACA, "shorten", "x") == "### Instruction:\nshorten\n\n### Input:\nx\n\n### Response:\n"
    with pytest.raises(TemplateFailed, match="The edit template"):
        render_edit(PromptTemplates(edit="{{.Nothing}}"), "a", "b")


@given(st.text())
def test_without_a_template_a_text_is_itself(text: str) -> None:
    assert render_completion(PromptTemplates(), text) == text
    assert render_edit(PromptTemplates(), "instruction", text) == text


FILES = {"chatml": "<{{.Input}}>", "sub/edit": "E {{.Input}}", "empty": ""}


def test_a_template_may_name_a_file() -> None:
    templates = PromptTemplates(chat="chatml", chat_message="{{.Content}}", edit="sub/edit", completion="raw text")
    loaded = load_templates(templates, "model.gguf", FILES.get)
    assert loaded == PromptTemplates(
        chat="<{{.Input}}>", chat_message="{{.Content}}", edit="E {{.Input}}", completion="raw text"
    )
    assert load_templates(PromptTemplates(chat="empty"), "m", FILES.get).chat == ""


def test_the_file_beside_the_model_is_for_prompts_without_a_template() -> None:
    files = {"m.gguf": "M {{.Input}}", "chatml": "<{{.Input}}>"}
    loaded = load_templates(PromptTemplates(chat="chatml"), "m.gguf", files.get)
    assert loaded == PromptTemplates(chat="<{{.Input}}>", completion="M {{.Input}}", edit="M {{.Input}}")


@pytest.mark.parametrize(
    "text",
    ["{{.Input}}", "a\nb", "../secret", "/etc/passwd", "a/../b", "a//b", ".", "", "a\\b", "x" * 201, "a\0b"],
)
def test_what_can_be_no_file_inside_the_models_path_is_never_asked_for(text: str) -> None:
    asked: list[str] = []
    load_templates(PromptTemplates(chat=text), text, lambda name: asked.append(name))
    assert asked == []
