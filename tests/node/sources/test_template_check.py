"""Chat templates from outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.sources.template_check import MAX_TEMPLATE_BYTES, template_findings

HONEST = """{%- if tools %}{{ '<|tools|>' ~ tools | tojson }}{% endif %}
{%- for message in messages if message.role != 'system' %}{{ '<|' + message['role'] + '|>' }}
{%- generation %}{{ message.content | trim }}{% endgeneration %}{% if loop.last %}{% break %}{% endif %}{% endfor %}
{%- set ns = namespace(found=false) %}{{ strftime_now('%Y') }}__class__ of plain text {{ raise_exception('no') }}"""


def _check(source: str) -> tuple[str, str]:
    (finding,) = template_findings(source, "chat template of 'm'")
    assert finding.sentence.startswith("The chat template of 'm' ")
    assert finding.sentence.endswith(".")
    return finding.severity, finding.sentence


def test_an_honest_template() -> None:
    assert template_findings(HONEST, "x") == ()


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("{{ ''.__class__ }}", "__class__"),
        ("{{ x['__globals__'] }}", "__globals__"),
        (r"{{ x['\x5f\x5fmro\x5f\x5f'] }}", "__mro__"),
        ("{{ x.mro() }}", "mro"),
        ("{{ f.gi_frame.f_back }}", "f_back, gi_frame"),
        ("{{ __builtins__ }}", "__builtins__"),
        ("{{ x | attr(y) }}", "|attr"),
        ("{{ x | map(attribute='a.__class__') }}", "a.__class__"),
        ("{% include 'a' %}", "include"),
        ("{% import 'a' as b %}", "import"),
        ("{% from 'a' import b %}", "fromimport"),
        ("{% extends 'a' %}", "extends"),
        ("{{ ''.__subclasses__() ", "__subclasses__"),
        (r"{{ x['__\ud800__'] }}", r"__\ud800__"),
    ],
)
def test_ways_out_of_the_sandbox_are_refused(source: str, shown: str) -> None:
    severity, sentence = _check(source)
    assert severity == "refuse"
    assert f"({shown}), as if to break out" in sentence


def test_texts_in_halves_are_shown_to_people() -> None:
    assert _check("{{ x['__cla' ~ 'ss__'] }}") == (
        "warn",
        "The chat template of 'm' has texts that look like names from the insides of Python (__cla, ss__).",
    )
    assert template_findings("{{ x | map(attribute='a.b') }}", "x") == ()


def test_what_cannot_be_parsed() -> None:
    assert _check("{{ x")[0] == "warn"
    assert _check("{{ " + "9" * 5000 + " }}")[0] == "warn"
    assert _check("{{ " + "(" * 5000) == ("refuse", "The chat template of 'm' is nested too deeply.")


def test_size() -> None:
    assert template_findings("x" * MAX_TEMPLATE_BYTES, "x") == ()
    assert _check("ü" * (MAX_TEMPLATE_BYTES // 2 + 1)) == (
        "refuse",
        "The chat template of 'm' has 262146 bytes; no more than 262144 are accepted.",
    )


@given(st.text() | st.text("{}%_.|'[] aif", max_size=60))
def test_any_text_is_judged(source: str) -> None:
    for finding in template_findings(source, "x"):
        assert finding.sentence.isprintable()
