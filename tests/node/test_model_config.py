"""Definitions: what is read, what is refused, what is only remarked on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from localai.node.answer_rules import AnswerRules
from localai.node.definition_keys import BLOCKS, TOP_LEVEL, WITHOUT_EFFECT, Kind
from localai.node.inference import Sampling
from localai.node.mcp.servers import ProgramServer, RemoteServer
from localai.node.model_config import (
    MAX_SLOTS,
    TRAINED_CONTEXT,
    Definitions,
    FileDownload,
    ModelConfig,
    parse_definitions,
    render_definition,
)
from localai.node.prompt_templates import PromptTemplates
from localai.node.request_defaults import RequestDefaults

HASH = "ab" * 32
FULL = f"""
name: helper
description: Helps.
backend: llama
parameters:
  model: sub/helper.gguf
  temperature: 0.2
context_size: 2048
threads: 3
f16: true
options: [use_jinja:true, "parallel:4", gpu]
mmproj: helper-mmproj.gguf
draft_model: one.gguf
download_files:
- {{filename: sub/helper.gguf, sha256: {HASH.upper()}, uri: "https://elsewhere/helper.gguf"}}
- {{filename: extra.bin}}
template: {{use_tokenizer_template: true}}
stopwords: [x]
"""


def _only(text: str) -> ModelConfig:
    definitions = parse_definitions(text, "x.yaml")
    assert definitions.problems == ()
    (config,) = definitions.models
    return config


def _refused(text: str) -> str:
    definitions = parse_definitions(text, "x.yaml")
    assert definitions.models == ()
    (problem,) = definitions.problems
    assert problem.source == "x.yaml"
    assert problem.message.startswith("x.yaml")
    return problem.message


def test_a_full_definition() -> None:
    assert _only(FULL) == ModelConfig(
        name="helper",
        model_file="sub/helper.gguf",
        backend="llama-cpp",
        context_size=2048,
        threads=3,
        slots=4,
        sha256=HASH,
        description="Helps.",
        companion_files=("helper-mmproj.gguf", "one.gguf", "extra.bin"),
        source="x.yaml",
        downloads=(
            FileDownload("sub/helper.gguf", "https://elsewhere/helper.gguf", HASH),
            FileDownload("extra.bin", ""),
        ),
        defaults=RequestDefaults(Sampling(temperature=0.2)),
        templates=PromptTemplates(use_tokenizer_template=True),
        stopwords=("x",),
    )
    assert [download.uri for download in _only(FULL).downloads] == ["https://elsewhere/helper.gguf", ""]


def test_the_least_definition() -> None:
    assert _only("name: a") == ModelConfig("a", "a", source="x.yaml")
    assert _only("{name: a, backend: '', parameters: {model: b.gguf}}") == ModelConfig("a", "b.gguf", source="x.yaml")


def test_nothing_said_is_none() -> None:
    config = _only("{name: a, context_size: 0, threads: 0, options: [], parameters: null}")
    assert (config.context_size, config.threads, config.slots) == (None, None, None)
    config = _only("{name: a, context_size: -1, threads: -1}")
    assert (config.context_size, config.threads) == (TRAINED_CONTEXT, None)


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("huggingface://o/r/sub/b.gguf", "b.gguf"),
        ("https://elsewhere/c.gguf@main", "c.gguf"),
        ("github:o/r/d.gguf", "d.gguf"),
        ("ollama://gemma:2b", "gemma__2b"),
        ("oci://quay.io/o/r:1", "quay.io__o__r__1"),
    ],
)
def test_an_address_in_place_of_the_model_file(uri: str, file: str) -> None:
    config = _only(f"{{name: a, parameters: {{model: '{uri}'}}}}")
    assert (config.model_file, config.model_uri) == (file, uri)


def test_an_address_in_place_of_the_projector() -> None:
    text = "{name: a, mmproj: 'https://elsewhere/p.gguf'%s}"
    config = _only(text % "")
    assert config.downloads == (FileDownload("p.gguf", "https://elsewhere/p.gguf"),)
    assert config.companion_files == ("p.gguf",)
    config = _only(text % f", download_files: [{{filename: p.gguf, uri: 'hf://o/r/p.gguf', sha256: {HASH}}}]")
    assert config.downloads == (FileDownload("p.gguf", "hf://o/r/p.gguf", HASH),)


def test_a_name_may_come_from_the_model_file() -> None:
    names = {"b.gguf": "Tiny Llama"}
    for text in ("parameters: {model: b.gguf}", "{name: '', parameters: {model: b.gguf}}"):
        (config,) = parse_definitions(text, "x.yaml", lambda file: names.get(file, "")).models
        assert (config.name, config.model_file) == ("Tiny Llama", "b.gguf")
    for text in ("parameters: {model: c.gguf}", "{}"):
        assert "has no name" in _refused(text)


def test_an_alias() -> None:
    config = _only("{name: a, alias: b, description: short}")
    assert config == ModelConfig("a", "", alias="b", description="short", source="x.yaml")


def test_what_a_request_leaves_out() -> None:
    config = _only(
        "{name: a, parameters: {temperature: 0, top_p: 0.5, top_k: -1, min_p: 0.1, max_tokens: 7, seed: 3, n: 2,"
        " repeat_penalty: 1.5, frequency_penalty: 0.5, presence_penalty: -1, ignore_eos: yes, echo: true}}"
    )
    sampling = Sampling(0, 0.5, 0, 0.1, 1.5, 0.5, -1, 3)
    assert config.defaults == RequestDefaults(sampling, max_tokens=7, choices=2, ignore_eos=True, echo=True)
    nothing = _only("{name: a, parameters: {max_tokens: 0, seed: -1, n: 0, repeat_penalty: 0, presence_penalty: 0}}")
    assert nothing == ModelConfig("a", "a", source="x.yaml")
    assert hash(nothing) == hash(ModelConfig("a", "a", source="x.yaml"))


def test_templates() -> None:
    config = _only(
        "{name: a, roles: {user: 'U: '}, system_prompt: Be kind., template: {chat: '{{.Input}}', chat_message: m,"
        " completion: c, edit: e, function: f, join_chat_messages_by_character: ''}}"
    )
    assert config.templates == PromptTemplates(
        "{{.Input}}", "m", "c", "e", "f", {"user": "U: "}, join="", system_prompt="Be kind."
    )
    assert hash(config)
    assert _only("{name: a, template: {reply_prefix: '> '}}").templates is None


def test_what_happens_to_answers() -> None:
    config = _only(
        "{name: a, cutstrings: [x+, ''], extract_regex: [y], trimspace: [a], trimsuffix: [b],"
        " template: {reply_prefix: '> '}}"
    )
    assert config.answer == AnswerRules(("x+",), ("y",), ("a",), ("b",), "> ")


def test_what_it_is_for_and_how_it_is_kept() -> None:
    config = _only(
        "{name: a, known_usecases: [FLAG_EMBEDDINGS, llm], embeddings: true, reranking: yes, disabled: true,"
        " pinned: true, concurrency_groups: [gpu, gpu]}"
    )
    assert config.usecases == {"embeddings", "chat", "completion", "edit"}
    assert (config.embeddings, config.reranking, config.disabled, config.pinned) == (True, True, True, True)
    assert config.concurrency_groups == {"gpu"}


def test_a_list_keeps_its_good_entries() -> None:
    definitions = parse_definitions("- name: a\n- name: b\n  threads: many\n- name: c\n- 5", "x.yaml")
    assert [config.name for config in definitions.models] == ["a", "c"]
    assert [(problem.model, problem.message) for problem in definitions.problems] == [
        ("b", "x.yaml, definition 2 needs a whole number in 'threads', not text."),
        ("", "x.yaml, definition 4 is not a mapping: write 'name: ...' and 'parameters:' with 'model: ...'."),
    ]


def test_a_file_that_is_not_yaml_is_one_problem() -> None:
    assert "is not valid YAML" in _refused("a: [")
    assert "is empty" in _refused("")
    assert parse_definitions("[]", "x.yaml") == Definitions()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("backend: x", "has no name"),
        ("name: ' '", "has no name"),
        ("name: 12", "needs text in 'name', not a number: put it in quotes"),
        ("name: true", "needs text in 'name', not true or false"),
        ("name: [a]", "needs text in 'name', not a list"),
        ("name: {a: b}", "needs text in 'name', not a mapping"),
        ("name: 'a '", "unusable name"),
        ('name: "a\\nb"', "unusable name"),
        (f"name: {'x' * 257}", "unusable name"),
        ("{name: a, backend: ../x}", "invalid backend name '../x'"),
        ("{name: a, parameters: {model: /etc/passwd}}", "invalid file path '/etc/passwd' in 'parameters.model'"),
        ("{name: a, parameters: {model: ../b.gguf}}", "without '..'"),
        ("{name: a, parameters: {model: b/}}", "invalid file path"),
        ('{name: a, parameters: {model: "b\\0c"}}', "invalid file path"),
        ("{name: a, parameters: {model: 'huggingface://o/r'}}", "names a whole repository"),
        ("{name: a, parameters: {model: 'ftp://o/r.gguf'}}", "unusable address in 'parameters.model'"),
        ("{name: a, parameters: [b]}", "needs a mapping in 'parameters', not a list"),
        ("{name: a, parameters: b}", "needs a mapping in 'parameters', not text"),
        ("{name: a, mmproj: ../b.gguf}", "in 'mmproj'"),
        ("{name: a, context_size: many}", "needs a whole number in 'context_size', not text"),
        ("{name: a, context_size: -2}", "needs a whole number from 1 to 16777216 in 'context_size'"),
        ("{name: a, context_size: 1.5}", "in 'context_size'"),
        ("{name: a, threads: true}", "in 'threads'"),
        ("{name: a, f16: maybe}", "needs true or false in 'f16'"),
        ("{name: a, options: parallel}", "needs a list of texts"),
        ("{name: a, options: [1]}", "needs a list of texts"),
        ("{name: a, options: ['parallel:0']}", f"needs a number from 1 to {MAX_SLOTS} in the option 'parallel'"),
        ("{name: a, options: ['n_parallel:x']}", "in the option 'n_parallel'"),
        ("{name: a, download_files: x}", "needs a list of mappings"),
        ("{name: a, download_files: [x]}", "needs a list of mappings"),
        ("{name: a, download_files: [{filename: /x}]}", "in 'download_files[].filename'"),
        ("{name: a, download_files: [{filename: x, sha256: abc}]}", "needs 64 hexadecimal digits"),
        ("{name: a, download_files: [{filename: x, uri: 5}]}", "needs text in 'download_files[].uri'"),
        ("{name: a, lora_adapters: x}", "in 'lora_adapters'"),
        ("{name: a, parameters: {temperature: 3}}", "needs a number from 0 to 2 in 'parameters.temperature', not 3"),
        ("{name: a, parameters: {n: 99}}", "in 'parameters.n'"),
        ("{name: a, parameters: {max_tokens: -5}}", "in 'parameters.max_tokens'"),
        ("{name: a, cutstrings: ['(']}", "needs valid regular expressions in 'cutstrings': '(' is none"),
        (f"{{name: a, extract_regex: [{'x' * 2001}]}}", "more than 2000 characters in 'extract_regex'"),
        ("{name: a, template: {chat: '{{ if }}'}}", "has a template that cannot be used: The chat template fails"),
        (f"{{name: a, stopwords: [{'x' * 1001}]}}", "in 'stopwords'"),
        (f"{{name: a, stopwords: {[str(n) + '-' for n in range(65)]}}}", "needs at most 64 texts"),
        ("{name: a, alias: b, backend: llama}", "an alias only names another model"),
        ("{name: a, alias: b, parameters: {model: c}}", "an alias only names another model"),
        ("{name: a, alias: 'b '}", "'alias' must be at most"),
        ("{alias: b}", "has no name"),
    ],
)
def test_what_is_refused_is_named(text: str, problem: str) -> None:
    assert problem in _refused(text)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("contxt_size: 5", "x.yaml has the unknown key 'contxt_size': did you mean 'context_size'?"),
        ("temperature: 0.1", "x.yaml has the unknown key 'temperature': did you mean 'parameters.temperature'?"),
        ("parameters: {threads: 2}", "x.yaml has the unknown key 'parameters.threads': did you mean 'threads' at the"),
        ("parameters: {temprature: 2}", "unknown key 'parameters.temprature': did you mean 'parameters.temperature'?"),
        ("template: {chatt: x}", "unknown key 'template.chatt': did you mean 'template.chat'?"),
        ("zzzz: 1", "x.yaml has the unknown key 'zzzz': it is ignored."),
        ("5: 1", "x.yaml has the unknown key '5': it is ignored."),
        ("known_usecases: [chat, knit]", "x.yaml has the unknown use-case 'knit' in 'known_usecases': it is ignored."),
        (
            "function: {grammar: {disabel: true}}",
            "'function.grammar.disabel': did you mean 'function.grammar.disable'?",
        ),
    ],
)
def test_oddities_are_warnings_and_the_model_is_kept(text: str, warning: str) -> None:
    definitions = parse_definitions(f"name: a\n{text}", "x.yaml")
    assert [config.name for config in definitions.models] == ["a"]
    (problem,) = definitions.problems
    assert problem.message.startswith(warning) or warning in problem.message
    assert problem.model == ""


PLAIN = ModelConfig("a", "b.gguf", source="x.yaml")
SAMPLES: dict[Kind, Any] = {
    Kind.TEXT: "x",
    Kind.WORD: 1,
    Kind.FLAG: True,
    Kind.WHOLE: 1,
    Kind.NUMBER: 0.5,
    Kind.COUNT: True,
    Kind.TEXTS: ["x"],
    Kind.NUMBERS: [0.5],
    Kind.MAPPINGS: [{"filename": "x"}],
    Kind.MAPPING: {},
    Kind.TEXT_MAPPING: {"x": "y"},
    Kind.FLAG_MAPPING: {"x": True},
    Kind.WHOLE_MAPPING: {"x": 1},
    Kind.ANYTHING: {"x": [1]},
}
"""A value of each kind."""
VALUES: dict[str, Any] = {
    "share": "private",
    "known_usecases": ["tts"],
    "options": ["parallel:2"],
    "mcp.remote": "mcpServers: {s: {url: 'http://x/'}}",
    "mcp.stdio": "mcpServers: {s: {command: x}}",
}
"""Values for keys that do not take just anything of their kind."""


def _drawn(**changes: Any) -> ModelConfig:
    return replace(PLAIN, defaults=RequestDefaults(Sampling(**changes)))


EFFECTS = {
    "name": replace(PLAIN, name="x"),
    "backend": replace(PLAIN, backend="x"),
    "description": replace(PLAIN, description="x"),
    "threads": replace(PLAIN, threads=1),
    "context_size": replace(PLAIN, context_size=1),
    "roles": replace(PLAIN, templates=PromptTemplates(roles={"x": "y"})),
    "system_prompt": replace(PLAIN, templates=PromptTemplates(system_prompt="x")),
    "stopwords": replace(PLAIN, stopwords=("x",)),
    "cutstrings": replace(PLAIN, answer=AnswerRules(cut=("x",))),
    "extract_regex": replace(PLAIN, answer=AnswerRules(extract=("x",))),
    "trimspace": replace(PLAIN, answer=AnswerRules(trim_prefixes=("x",))),
    "trimsuffix": replace(PLAIN, answer=AnswerRules(trim_suffixes=("x",))),
    "known_usecases": replace(PLAIN, usecases=frozenset({"tts"})),
    "embeddings": replace(PLAIN, embeddings=True),
    "reranking": replace(PLAIN, reranking=True),
    "options": replace(PLAIN, slots=2),
    "download_files": replace(PLAIN, companion_files=("x",)),
    "disabled": replace(PLAIN, disabled=True),
    "pinned": replace(PLAIN, pinned=True),
    "concurrency_groups": replace(PLAIN, concurrency_groups=frozenset({"x"})),
    "share": replace(PLAIN, is_private=True),
    **dict.fromkeys(
        ("mmproj", "draft_model", "lora_adapter", "lora_base", "lora_adapters"), replace(PLAIN, companion_files=("x",))
    ),
    "parameters.model": replace(PLAIN, model_file="x"),
    "parameters.temperature": _drawn(temperature=0.5),
    "parameters.top_p": _drawn(top_p=0.5),
    "parameters.top_k": _drawn(top_k=1),
    "parameters.min_p": _drawn(min_p=0.5),
    "parameters.repeat_penalty": _drawn(repeat_penalty=0.5),
    "parameters.frequency_penalty": _drawn(frequency_penalty=0.5),
    "parameters.presence_penalty": _drawn(presence_penalty=0.5),
    "parameters.seed": _drawn(seed=1),
    "parameters.max_tokens": replace(PLAIN, defaults=RequestDefaults(max_tokens=1)),
    "parameters.ignore_eos": replace(PLAIN, defaults=RequestDefaults(ignore_eos=True)),
    "parameters.echo": replace(PLAIN, defaults=RequestDefaults(echo=True)),
    "template.chat": replace(PLAIN, templates=PromptTemplates(chat="x")),
    "template.chat_message": replace(PLAIN, templates=PromptTemplates(chat_message="x")),
    "template.completion": replace(PLAIN, templates=PromptTemplates(completion="x")),
    "template.edit": replace(PLAIN, templates=PromptTemplates(edit="x")),
    "template.function": replace(PLAIN, templates=PromptTemplates(function="x")),
    "template.join_chat_messages_by_character": replace(PLAIN, templates=PromptTemplates(join="x")),
    "template.use_tokenizer_template": replace(PLAIN, templates=PromptTemplates(use_tokenizer_template=True)),
    "mcp.remote": replace(PLAIN, mcp_servers=(RemoteServer("s", "http://x/"),)),
    "mcp.stdio": replace(PLAIN, mcp_servers=(ProgramServer("s", "x"),)),
    "agent.max_iterations": replace(PLAIN, tool_rounds=1),
    "template.reply_prefix": replace(PLAIN, answer=AnswerRules(prefix="x")),
}
"""What a key makes of the plain model; every other key changes nothing."""
KEYS = list(TOP_LEVEL.items()) + [
    (f"{path}.{key}", kind) for path, keys in BLOCKS.items() for key, kind in keys.items()
]


@pytest.mark.parametrize(("path", "kind"), KEYS, ids=[path for path, _ in KEYS])
def test_every_documented_key_is_accepted_and_has_its_effect(path: str, kind: Kind) -> None:
    if path == "alias":
        return  # a definition of another form, see test_an_alias
    entry: dict[str, Any] = {"name": "a", "parameters": {"model": "b.gguf"}}
    *outer, key = path.split(".")
    inner = entry
    for block in outer:
        inner = inner.setdefault(block, {})
    if path not in BLOCKS:
        inner[key] = VALUES.get(path, SAMPLES[kind])
    definitions = parse_definitions(yaml.safe_dump(entry), "x.yaml")
    assert definitions.models == (EFFECTS.get(path, PLAIN),)
    told = ["does nothing in this version" in problem.message for problem in definitions.problems]
    assert told == ([True] if path in WITHOUT_EFFECT and inner[key] else [])


@given(st.text(max_size=300))
def test_any_text_gives_definitions(text: str) -> None:
    definitions = parse_definitions(text, "x.yaml")
    assert all(config.name and not config.model_file.startswith("/") for config in definitions.models)


_NAMES = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=30)
_FILES = st.lists(st.text("abc-_1: ", min_size=1, max_size=8).filter(str.strip), min_size=1, max_size=3)
_CONFIGS = st.builds(
    ModelConfig,
    name=_NAMES,
    model_file=_FILES.map("/".join),
    backend=st.sampled_from(["llama-cpp", "whisper"]),
    context_size=st.none() | st.just(TRAINED_CONTEXT) | st.integers(1, 1 << 20),
    threads=st.none() | st.integers(1, 64),
    slots=st.none() | st.integers(1, MAX_SLOTS),
    sha256=st.none() | st.just(HASH),
    description=st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=60),
    companion_files=st.sampled_from([(), ("p.bin",), ("p.bin", "q/r.bin")]),
    source=st.just("x.yaml"),
)


@given(_CONFIGS)
def test_what_is_rendered_is_read_back(config: ModelConfig) -> None:
    text = render_definition(config, uri="pypi:a==1/b")
    assert text.endswith("\n")
    assert parse_definitions(text, "x.yaml") == Definitions((config,))


def test_the_address_is_written_beside_the_hash() -> None:
    config = ModelConfig("a", "b.gguf", sha256=HASH)
    assert "uri: pypi:a==1/b" in render_definition(config, uri="pypi:a==1/b")
    assert "uri" not in render_definition(config)
    assert "uri" not in render_definition(replace(config, sha256=None), uri="pypi:a==1/b")


def test_who_may_see_a_model() -> None:
    assert not parse_definitions("{name: x, share: members}", "x.yaml").models[0].is_private
    (problem,) = parse_definitions("{name: x, share: friends}", "x.yaml").problems
    assert "write 'members' or 'private'" in problem.message


MCP = """
name: m
parameters: {model: m.gguf}
agent: {max_iterations: 4}
mcp:
  remote: |
    mcpServers: {far: {url: "http://127.0.0.1:1/", token: hidden, headers: {}}}
  stdio: |
    {"mcpServers": {"near": {"command": "near"}}}
"""


def test_mcp_servers_and_rounds() -> None:
    definitions = parse_definitions(MCP, "m.yaml")
    (config,) = definitions.models
    assert [server.name for server in config.mcp_servers] == ["far", "near"]
    assert config.tool_rounds == 4
    assert "hidden" not in repr(config)
    (problem,) = definitions.problems
    assert problem.message == "m.yaml has the unknown key 'headers' in the MCP server 'far': it is ignored."


def test_mcp_that_cannot_be_read_is_a_broken_definition() -> None:
    definitions = parse_definitions("{name: m, parameters: {model: m.gguf}, mcp: {stdio: '['}}", "m.yaml")
    assert definitions.models == ()
    assert "invalid MCP configuration" in definitions.problems[0].message


def test_an_alias_has_no_mcp_servers() -> None:
    definitions = parse_definitions("{name: a, alias: m, mcp: {stdio: '['}}", "a.yaml")
    assert definitions.models[0].mcp_servers == ()
    assert definitions.problems == ()
