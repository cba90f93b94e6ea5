"""Expected texts are what Go 1.26 gave."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.go_template.literals import read_text
from localai.node.go_template.quoting import (
    character_of,
    escape_html,
    escape_js,
    escape_query,
    quote_character,
    quote_text,
)


def test_quoted_texts() -> None:
    assert quote_text('a\n\t"é\x00\u200b😀\U000e0001\x7f\udcff') == '"a\\n\\t\\"é\\x00\\u200b😀\\U000e0001\\x7f\\xff"'
    assert quote_text("é😀", ascii_only=True) == '"\\u00e9\\U0001f600"'
    assert quote_character(39) == "'\\''"
    assert quote_character(-1) == "'\ufffd'"
    assert character_of(0x1F600) == "😀"
    assert character_of(0xD800) == "\ufffd"


@given(st.text())
def test_a_quoted_text_reads_back(text: str) -> None:
    assert read_text(quote_text(text)[1:-1]) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("<a href='x'>&\"", "&lt;a href=&#39;x&#39;&gt;&amp;&#34;"), ("\x00é", "\ufffdé")],
)
def test_html(text: str, escaped: str) -> None:
    assert escape_html(text) == escaped


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ('it\'s <b> "x" & \n =\\', 'it\\\'s \\u003Cb\\u003E \\"x\\" \\u0026 \\u000A \\u003D\\\\'),
        ("é\u2028\u0001\udcff", "é\\u2028\\u0001\udcff"),
    ],
)
def test_javascript(text: str, escaped: str) -> None:
    assert escape_js(text) == escaped


@given(st.text(st.characters(max_codepoint=0x7E)))
def test_a_javascript_text_is_one(text: str) -> None:
    assert json.loads('"' + escape_js(text).replace("\\'", "'") + '"') == text


def test_queries() -> None:
    assert escape_query("a b&c=d/é~-_.!*'()\udcff") == "a+b%26c%3Dd%2F%C3%A9~-_.%21%2A%27%28%29%FF"
