"""What is done to finished answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.answer_rules import MAX_TEXT_CHARS, AnswerRules


@pytest.mark.parametrize(
    ("rules", "text", "answer"),
    [
        (AnswerRules(), " as it is\n", " as it is\n"),
        (AnswerRules(cut=("<think>.*?</think>", "[0-9]")), "<think>hm</think>a1b2", "ab"),
        (AnswerRules(extract=("<a>.*?</a>", "c+")), "x <a>1</a> <a>2</a> ccc", "<a>1</a>ccc"),
        (AnswerRules(extract=("z",)), "nothing of it", "nothing of it"),
        (AnswerRules(cut=("x",), extract=("x|y",)), "xy", "y"),
        (AnswerRules(trim_prefixes=("Answer:", "-")), "Answer: - yes ", "yes"),
        (AnswerRules(trim_suffixes=("</s>", ".")), " yes. </s>", "yes"),
        (AnswerRules(prefix="> ", cut=(">",)), "yes", "> yes"),
    ],
)
def test_each_rule(rules: AnswerRules, text: str, answer: str) -> None:
    assert rules.apply(text) == answer


def test_long_texts_are_not_searched() -> None:
    rules = AnswerRules(cut=("x",), extract=("y",), trim_suffixes=("z",))
    assert rules.apply("x" * MAX_TEXT_CHARS) == ""
    text = "x" * MAX_TEXT_CHARS + "y"
    assert rules.apply(text + "z") == text


@given(st.text(), st.text(max_size=5))
def test_without_rules_only_the_prefix_is_added(text: str, prefix: str) -> None:
    assert AnswerRules(prefix=prefix).apply(text) == prefix + text
