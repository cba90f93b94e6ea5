"""Definitions: what is read, what is refused, what is only remarked on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.model_config import MAX_SLOTS, Definitions, ModelConfig, parse_definitions, render_definition

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
lora_adapters: [one.gguf, "https://elsewhere/two.gguf"]
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
    )


def test_the_least_definition() -> None:
    assert _only("name: a") == ModelConfig("a", "a", source="x.yaml")
    assert _only("{name: a, backend: '', parameters: {model: b.gguf}}") == ModelConfig("a", "b.gguf", source="x.yaml")


def test_nothing_said_is_none() -> None:
    config = _only("{name: a, context_size: 0, threads: 0, options: [], parameters: null}")
    assert (config.context_size, config.threads, config.slots) == (None, None, None)


def test_a_list_keeps_its_good_entries() -> None:
    definitions = parse_definitions("- name: a\n- name: b\n  threads: many\n- name: c\n- 5", "x.yaml")
    assert [config.name for config in definitions.models] == ["a", "c"]
    assert [(problem.model, problem.message) for problem in definitions.problems] == [
        ("b", "x.yaml, definition 2 needs a whole number from 1 to 1024 in 'threads'."),
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
        ("{name: a, parameters: {model: 'huggingface://o/r/b.gguf'}}", "names a download"),
        ("{name: a, parameters: [b]}", "needs a mapping in 'parameters', not a list"),
        ("{name: a, parameters: b}", "needs a mapping in 'parameters', not text"),
        ("{name: a, mmproj: ../b.gguf}", "in 'mmproj'"),
        ("{name: a, context_size: many}", "needs a whole number from 1 to"),
        ("{name: a, context_size: -2}", "in 'context_size'"),
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
        ("{name: a, lora_adapters: x}", "in 'lora_adapters'"),
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
        ("context_size: -1", "x.yaml has 'context_size: -1', the trained context, which is not known yet"),
    ],
)
def test_oddities_are_warnings_and_the_model_is_kept(text: str, warning: str) -> None:
    definitions = parse_definitions(f"name: a\n{text}", "x.yaml")
    assert [config.name for config in definitions.models] == ["a"]
    (problem,) = definitions.problems
    assert problem.message.startswith(warning) or warning in problem.message
    assert problem.model == ""


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
    context_size=st.none() | st.integers(1, 1 << 20),
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
