"""Expected texts are what sprig 3.3 gave under Go 1.26."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.go_template.errors import BadTemplate, TemplateFailed
from localai.node.go_template.limits import MAX_NESTING, MAX_TEXT_CHARS
from localai.node.go_template.template import Template
from localai.node.go_template.text_functions import lower, title, upper
from localai.node.go_template.values import Value


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("toJson .L", '["a","b","c"]'),
        ("toJson .U", '"é\\u003cb\\u003e\\u0026\\"\'"'),  # HTML is escaped, as json.Marshal does
        ("toJson nil", "null"),
        ("toJson 1.0", "1"),
        ("toJson 1e21", "1e+21"),
        ("toJson 1e-7", "1e-7"),
        ('toJson "a\\u2028\\x01\\x7f\\n\\t/\\b\\f"', '"a\\u2028\\u0001\x7f\\n\\t/\\b\\f"'),
        ("toPrettyJson .M", '{\n  "a": 2,\n  "b": 1\n}'),
        ("toPrettyJson .E", "[]"),
        ("toPrettyJson .LL", "[\n  [\n    1,\n    2\n  ],\n  [\n    3\n  ]\n]"),
        ("toPrettyJson .U", '"é\\u003cb\\u003e\\u0026\\"\'"'),
        ('fromJson "{\\"a\\":[1,2.5,\\"x\\",null,true]}"', "map[a:[1 2.5 x <nil> true]]"),
        ('fromJson "nope"', "<no value>"),
        ('(fromJson "{\\"a\\":{\\"b\\":7}}").a.b', "7"),
        ('toJson (fromJson "{\\"b\\":1,\\"a\\":10000000000000000000000}")', '{"a":1e+22,"b":1}'),
        ('toJson (list 1 "a" true nil)', '[1,"a",true,null]'),
        ('toJson (dict "k" (list 1))', '{"k":[1]}'),
        ("toJson (dict)", "{}"),
        ("toJson (list)", "[]"),
        ("toRawJson .U", '"é<b>&\\"\'"'),
        ("mustToJson .M", '{"a":2,"b":1}'),
        ("toJson 123456789", "123456789"),
        ("toJson 100000000000000000000.0", "100000000000000000000"),
        ("toJson .F", "1.5"),
        ('fromJson "1 2"', "<no value>"),
        ('fromJson ""', "<no value>"),
        ('toPrettyJson (dict "a" (dict) "b" (dict "c" 1))', '{\n  "a": {},\n  "b": {\n    "c": 1\n  }\n}'),
        ("toJson 0.1", "0.1"),
        ("toJson 1e20", "100000000000000000000"),
        ("toJson -0.0", "-0"),
        ('fromJson "1" | printf "%T"', "float64"),
        ('toJson "\\xff"', '"\\ufffd"'),
        ('trim "  a b \\n"', "a b"),
        ('trimAll "$" "$5.00$"', "5.00"),
        ('trimall "$" "$5$"', "5"),
        ('trimPrefix "-" "-a-"', "a-"),
        ('trimSuffix "-" "-a-"', "-a"),
        ('upper "aé"', "AÉ"),
        ('lower "AÉ"', "aé"),
        ('title "hello wORLD a-b"', "Hello WORLD A-B"),
        ('contains "b" "abc"', "true"),
        ('hasPrefix "a" "abc"', "true"),
        ('hasSuffix "a" "abc"', "false"),
        ('replace "a" "b" "banana"', "bbnbnb"),
        ('replace "" "-" "ab"', "-a-b-"),
        ('repeat 3 "ab"', "ababab"),
        ('repeat 0 "ab"', ""),
        ('indent 2 "a\\nb"', "  a\n  b"),
        ('nindent 2 "a\\nb"', "\n  a\n  b"),
        ('quote "a\\"b"', '"a\\"b"'),
        ('quote 1 "b" nil', '"1" "b"'),  # nil is left out
        ('squote "a\'b" 2', "'a'b' '2'"),
        ("quote .L", '"[a b c]"'),
        ('join "," .L', "a,b,c"),
        ('join "-" (list 1 2 "x" nil)', "1-2-x"),
        ('join "," "abc"', "abc"),
        ('join "," 5', "5"),
        ('splitList "," "a,b,c"', "[a b c]"),
        ('split "-" "a-b"', "map[_0:a _1:b]"),
        ('(split "-" "a-b")._1', "b"),
        ('splitList "" "abc"', "[a b c]"),
        ('trunc 2 "abc"', "ab"),
        ('trunc -2 "abc"', "bc"),
        ('trunc 9 "abc"', "abc"),
        ('substr 1 3 "abcdef"', "bc"),
        ('substr -1 3 "abcdef"', "abc"),
        ('substr 2 -1 "abcdef"', "cdef"),
        ('cat "a" 1 nil "b"', "a 1 b"),
        ('contains "" "x"', "true"),
        ("toString 1.50", "1.5"),
        ("toString nil", "<nil>"),
        ("toString .L", "[a b c]"),
        ('title "o\'neil élan"', "O'Neil Élan"),
        ('indent 2 ""', "  "),
        ("quote", ""),
        ("squote nil", ""),
        ('join "," .Nil', ""),
        ('split "," ""', "map[_0:]"),
        ('splitList "," ""', "[]"),
        ('replace "x" "y" "abc"', "abc"),
        ('trimAll "" "abc"', "abc"),
        ('upper "straße"', "STRAßE"),  # character by character
        ('lower "İ"', "i"),  # without the dot that Python adds
        ("quote true 1.5", '"true" "1.5"'),
        ('sortAlpha (list "b" 1 "a")', "[1 a b]"),
        ('repeat 3.0 "a"', "aaa"),
        ('indent 0 "a\\nb"', "a\nb"),
        ('trunc 1 "é"', "�"),  # half a character
        ('trunc -1 "é"', "�"),
        ('substr 0 1 "é"', "�"),
        ('substr 2 9 "abc"', "c"),
        ('join "," .M', "map[a:2 b:1]"),
        ('join "," (list (list 1 2))', "[1 2]"),
        ("toString true", "true"),
        ('quote ""', '""'),
        ("quote .M", '"map[a:2 b:1]"'),
        ("quote (list nil)", '"[<nil>]"'),
        ("sortAlpha .L", "[a b c]"),
        ("sortAlpha nil", "[<nil>]"),
        ('sortAlpha "a"', "[a]"),
        ("toJson .Missing", "null"),
        ('toJson (dict "a" .Missing)', '{"a":null}'),
        ('split "" "abc"', "map[_0:a _1:b _2:c]"),
        ('split "x" ""', "map[_0:]"),
        ('split "," ","', "map[_0: _1:]"),
        ('replace "a" "" "banana"', "bnn"),
        ('title "ǆ"', "ǅ"),  # title case is not upper case
        ('title "a1b c_d e.f"', "A1b C_d E.F"),
        ('trim "\\u00a0x\\u3000"', "x"),
        ('trimAll "ab" "abxba"', "x"),
        ("cat", ""),
        ("cat nil", ""),
        ('cat "a" .L', "a [a b c]"),
        ('fromJson "NaN"', "<no value>"),
        ('fromJson "{\\"a\\":1,\\"a\\":2}"', "map[a:2]"),
        ('fromJson "\\"\\\\ud800\\""', "�"),
        ('fromJson " [1] "', "[1]"),
        ('fromJson "[01]"', "<no value>"),
        ('fromJson "1000000"', "1e+06"),  # every number out of JSON is a float
        ("toJson 1000000.5", "1000000.5"),
        ("toJson 1.5e300", "1.5e+300"),
        ("toJson 5e-324", "5e-324"),
        ("toJson -1e-7", "-1e-7"),
        ('upper "\\xff"', "�"),
        ('quote "\\xff"', '"\\xff"'),
    ],
)
def test_they_do_what_sprig_s_do(expression: str, text: str, data: Value) -> None:
    assert Template(f"{{{{{expression}}}}}").render(data) == text


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ('repeat -1 "ab"', "repeat needs a count of at least 0"),
        ("upper .Nil", "upper needs a text as argument 1, not <nil>"),
        ("upper 5", "upper needs a text as argument 1, not int"),
        ("trim .Missing", "trim needs a text as argument 1, not <nil>"),
        ('repeat .F "a"', "repeat needs a whole number as argument 1, not float64"),
        ('repeat "3" "a"', "repeat needs a whole number as argument 1, not string"),
        ('indent -1 "a"', "indent needs a width of at least 0"),
        ('substr 3 1 "abc"', "substr from 3 to 1 is outside of the 3 bytes"),
        ("join .N .L", "join needs a text as argument 1, not int"),
        ('contains nil "a"', "contains needs a text as argument 1, not <nil>"),
        ("fromJson nil", "fromJson needs a text as argument 1, not <nil>"),
        ('mustFromJson "{"', "the text is not JSON"),
        ("mustToJson .Inf", "JSON has no number for infinity"),
        ("substr 0 -1 .Bad", "substr needs a text as argument 3"),
    ],
)
def test_what_they_refuse_is_said(expression: str, problem: str) -> None:
    with pytest.raises(TemplateFailed) as caught:
        Template(f"{{{{{expression}}}}}").render({"Inf": math.inf, "Bad": 1, "N": 3, "F": 1.5, "L": ["a"], "Nil": None})
    assert problem in caught.value.message


def test_json_that_cannot_be_made_is_an_empty_text() -> None:
    assert Template("<{{toJson .}}{{toPrettyJson .}}{{toRawJson .}}>").render([math.inf]) == "<>"


def test_limits_are_not_mistaken_for_bad_json() -> None:
    deep: Value = 1
    for _ in range(MAX_NESTING + 1):
        deep = [deep]
    for template, value in (("{{toJson .}}", deep), ("{{fromJson .}}", "[" * 100_000)):
        with pytest.raises(BadTemplate, match="nested"):
            Template(template).render(value)


@pytest.mark.parametrize(
    "expression",
    [
        'repeat 2000000 "x"',
        "repeat 100000000000 .",
        'replace "x" . .',
        "indent 1000000 .",
        "nindent 100000000000 .",
        "join . (until 1000)",
    ],
)
def test_a_text_is_refused_before_it_is_built(expression: str) -> None:
    with pytest.raises(BadTemplate, match="more than 1 MiB"):
        Template(f"{{{{{expression} | len}}}}").render("x\n" * 2000)


@given(st.text())
def test_case_is_mapped_character_by_character(text: str) -> None:
    for mapped in (upper(text), lower(text), title(text)):
        assert len(mapped) == len(text)


@given(st.text(), st.integers(-10, 10), st.integers(-10, 10))
def test_cutting_anywhere_gives_a_text_or_our_error(text: str, start: int, end: int) -> None:
    rendered = Template(f"{{{{trunc {start} .}}}}").render(text)
    assert len(rendered) <= max(abs(start), len(text)) <= MAX_TEXT_CHARS
    with suppress(TemplateFailed):
        assert len(Template(f"{{{{substr {start} {end} .}}}}").render(text)) <= len(text.encode())
