from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.go_template.errors import BadTemplate, Source
from localai.node.go_template.lexer import Sort, tokenize

_SHORT = {Sort.TEXT: "text", Sort.OPEN: "open", Sort.CLOSE: "close", Sort.END: "end"}


def tokens(text: str) -> list[str]:
    """The sorts and texts, without the end; a blank before a token shows as _."""
    found = tokenize(Source(text))
    assert found[-1].sort is Sort.END
    return [f"{'_' * token.spaced}{_SHORT.get(token.sort, token.sort.name)} {token.text}" for token in found[:-1]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a } b", ["text a } b"]),
        ("a{{.A.B}}b", ["text a", "open {{", "FIELD A", "FIELD B", "close }}", "text b"]),
        ("{{ $ $x .A }}", ["open {{", "_VARIABLE $", "_VARIABLE $x", "_FIELD A", "_close }}"]),
        ("{{if nil true}}", ["open {{", "KEYWORD if", "_KEYWORD nil", "_VALUE true", "close }}"]),
        ("{{$x:=1}}", ["open {{", "VARIABLE $x", "MARK :=", "VALUE 1", "close }}"]),
        ("{{f|(g),=}}", ["open {{", "WORD f", "MARK |", "MARK (", "WORD g", "MARK )", "MARK ,", "MARK =", "close }}"]),
        ("{{\"}}\" '}' `}}`}}", ["open {{", 'VALUE "}}"', "_VALUE '}'", "_VALUE `}}`", "close }}"]),
        ("{{.5 . -1}}", ["open {{", "VALUE .5", "_DOT .", "_VALUE -1", "close }}"]),
        ('{{"a\\"b"}}', ["open {{", 'VALUE "a\\"b"', "close }}"]),
        ("a \n{{- 1 -}}\t b", ["text a", "open {{", "VALUE 1", "_close }}", "text b"]),
        ("a {{-1}} b", ["text a ", "open {{", "VALUE -1", "close }}", "text  b"]),
        ("a {{/* }} */}} b", ["text a ", "text  b"]),
        ("a {{- /* c */ -}} b", ["text a", "text b"]),
        (" {{- 1}}", ["open {{", "VALUE 1", "close }}"]),
    ],
)
def test_texts_fall_into_tokens(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


def test_literals_carry_their_value_and_tokens_their_place() -> None:
    found = tokenize(Source('ab {{- "x\\n" -}} c'))
    assert [token.at for token in found] == [0, 3, 7, 13, 16, 18]
    assert found[2].value == "x\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{{", "line 1, column 3: an action does not end"),
        ("{{/* x", "column 3: a comment does not end"),
        ("{{/* x */ y}}", "column 10: something stands between the end of a comment"),
        ('{{"a', 'column 3: the text after " does not end in this line'),
        ('{{"a\nb"}}', "does not end in this line"),
        ('{{"a\\\nb"}}', "does not end in this line"),
        ('{{"a\\', "does not end in this line"),
        ("{{'a", "the text after ' does not end"),
        ("{{`a", "the text after ` does not end"),
        ('{{"\\q"}}', "unknown escape"),
        ("{{'ab'}}", "single quotes hold one character"),
        ("{{-.A}}", "column 3: {{- has no blank after it"),
        ("{{-}}", "column 3: {{- has no blank after it"),
        ("{{1a}}", "a number is not written as Go knows it"),
        ("{{1_}}", "a number is not written as Go knows it"),
        ("{{- -}}", "a number is not written as Go knows it"),  # the one blank belongs to the first marker
        ("{{.A!}}", "'!' follows a name"),
        ("{{a-b}}", "'-' follows a name"),
        ("a\n{{ # }}", "line 2, column 4: '#' has no meaning there"),
        ("{{:}}", "':' has no meaning there"),
        ("{{\x00}}", "has no meaning there"),
        ("{{\u00a0}}", "has no meaning there"),
        ("{{a", "an action does not end"),
    ],
)
def test_what_is_no_token_is_named(text: str, problem: str) -> None:
    with pytest.raises(BadTemplate) as caught:
        tokenize(Source(text))
    assert problem in caught.value.message


@given(st.text().filter(lambda text: "{{" not in text))
def test_a_text_without_actions_is_one_token(text: str) -> None:
    assert [token.text for token in tokenize(Source(text))] == ([text, ""] if text else [""])
