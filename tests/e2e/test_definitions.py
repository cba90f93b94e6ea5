"""A whole node whose models are described by definitions, asked as a user would ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from localai.node.testing.node_process import NodeProcess, running_node

pytestmark = pytest.mark.e2e

DEFINITIONS = r"""
- name: plain
  parameters: {model: smollm2.gguf, temperature: 0, max_tokens: 30, seed: 3}
  context_size: 1024
- name: shaped
  parameters: {model: smollm2.gguf, temperature: 0, max_tokens: 30}
  cutstrings: ['[aeiou]']
  template: {reply_prefix: '> '}
- name: short
  parameters: {model: smollm2.gguf, temperature: 0, max_tokens: 30}
  stopwords: [Paris]
- name: templated
  parameters: {model: smollm2.gguf, temperature: 0, max_tokens: 30}
  template:
    chat: chatml
    chat_message: "<|im_start|>{{.RoleName}}\n{{.Content}}<|im_end|>"
    completion: "{{.Input}} is"
- name: broken
  parameters: {model: smollm2.gguf}
  template: {chat: "{{ index .Functions 3 }}"}
- name: gpt-4o
  alias: plain
- name: off
  parameters: {model: smollm2.gguf}
  disabled: true
"""
RIVERS: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "Answer in one sentence."},
    {"role": "user", "content": "What is the capital of France?"},
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("node")
    models = folder / "models"
    models.mkdir()
    (models / "smollm2.gguf").symlink_to(smollm2)
    (models / "models.yaml").write_text(DEFINITIONS, encoding="utf-8")
    (models / "chatml.tmpl").write_text("{{.Input}}\n<|im_start|>assistant\n", encoding="utf-8")
    (models / "old.yaml.bak").write_text("name: old", encoding="utf-8")
    with running_node(folder, ["--context-size", "1024", "--threads", "1"]) as running:
        yield running


@pytest.fixture
def client(node: NodeProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{node.url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
        yield client


def _chat(client: openai.OpenAI, model: str) -> str:
    return client.chat.completions.create(model=model, messages=RIVERS).choices[0].message.content or ""


def _streamed(client: openai.OpenAI, model: str) -> str:
    chunks = client.chat.completions.create(model=model, messages=RIVERS, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_an_alias_answers_under_its_own_name(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="gpt-4o", messages=RIVERS)
    assert answer.model == "gpt-4o"
    assert answer.choices[0].message.content == _chat(client, "plain")
    assert "Paris" in (answer.choices[0].message.content or "")


def test_the_request_goes_before_the_definition(client: openai.OpenAI) -> None:
    prompt = "One, two, three, four,"
    by_definition = client.completions.create(model="plain", prompt=prompt)
    assert by_definition.usage is not None
    assert by_definition.usage.completion_tokens == 30
    by_request = client.completions.create(model="plain", prompt=prompt, max_tokens=4)
    assert by_request.usage is not None
    assert by_request.usage.completion_tokens == 4
    assert by_definition.choices[0].text.startswith(by_request.choices[0].text)


def test_answers_are_shaped(client: openai.OpenAI) -> None:
    plain = _chat(client, "plain")
    assert _chat(client, "shaped") == "> " + "".join(letter for letter in plain if letter not in "aeiou")
    assert _streamed(client, "shaped") == "> " + plain


def test_a_disabled_model_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.PermissionDeniedError) as caught:
        _chat(client, "off")
    assert caught.value.code == "model_disabled"
    with pytest.raises(openai.BadRequestError):
        _chat(client, "old")


def test_stop_words_end_the_answer(client: openai.OpenAI) -> None:
    plain = _chat(client, "plain")
    before = plain[: plain.index("Paris")]
    assert _chat(client, "short") == before
    assert _streamed(client, "short") == before


def test_templates_make_the_prompt(client: openai.OpenAI) -> None:
    own = client.chat.completions.create(model="plain", messages=RIVERS)
    ours = client.chat.completions.create(model="templated", messages=RIVERS)
    assert ours.choices[0].message.content == own.choices[0].message.content
    assert own.usage is not None
    assert ours.usage is not None
    assert ours.usage.prompt_tokens == own.usage.prompt_tokens
    continued = client.completions.create(model="templated", prompt="The capital of France", max_tokens=8)
    same = client.completions.create(model="plain", prompt="The capital of France is", max_tokens=8)
    assert continued.choices[0].text == same.choices[0].text


def test_a_template_that_fails_is_said(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        _chat(client, "broken")
    assert caught.value.code == "invalid_template"
