from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.api.dialects.model_filter import MAX_CHARS, model_filter
from localai.mesh.errors import InvalidRequest

NAMES = ["gpt-4o", "llama-3-8b", "org/Llama", "a+b", "x.gguf"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("llama", ["llama-3-8b"]),
        ("(?i)llama", ["llama-3-8b", "org/Llama"]),
        ("^(?:gpt|x).*", ["gpt-4o", "x.gguf"]),
        (r"\.gguf$", ["x.gguf"]),
        (r"a\+b", ["a+b"]),
        ("[0-9]+", ["gpt-4o", "llama-3-8b"]),
        (".*a.*8b.*", ["llama-3-8b"]),
        ("[[a]", ["llama-3-8b", "org/Llama", "a+b"]),
    ],
)
def test_names_are_searched(pattern: str, found: list[str]) -> None:
    wanted = model_filter(pattern)
    assert [name for name in NAMES if wanted.search(name)] == found


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|a)*b",
        "(?:a){1,20}b",
        "a*a*a*a*b",
        "(?x)(a+) +",
        "(a+)(?#x)*",
        "(?=a)",
        "x" * (MAX_CHARS + 1),
        "(",
        "a**",
        "a{99999999999999999999}",
        "[",
        "\\",
    ],
)
def test_what_is_wrong_or_may_take_long_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidRequest, match="'filter'") as caught:
        model_filter(pattern)
    assert caught.value.param == "filter"
    assert caught.value.message.endswith(".")


@given(st.text("ab(|)*+?{1,}[]^$.\\-:i", max_size=12))
def test_whatever_is_taken_is_quick(pattern: str) -> None:
    try:
        wanted = model_filter(pattern)
    except InvalidRequest:
        return
    began = time.process_time()
    wanted.search("a" * 40 + "c")
    assert time.process_time() - began < 1
