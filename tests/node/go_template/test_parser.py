"""Every text here is wrong for Go 1.26 as well, unless a comment says otherwise."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.go_template.errors import BadTemplate, Source
from localai.node.go_template.evaluator import why_not_callable
from localai.node.go_template.limits import MAX_NESTING, MAX_TEMPLATE_CHARS, MAX_VARIABLES
from localai.node.go_template.nodes import (
    Action,
    Body,
    Branch,
    Call,
    Command,
    Conditional,
    Constant,
    Dot,
    Fields,
    FunctionName,
    Jump,
    Nil,
    Pipeline,
    Range,
    Text,
    Tree,
    Variable,
)
from localai.node.go_template.parser import parse


def parsed(text: str) -> Tree:
    return parse(Source(text), why_not_callable)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{range $k, $v := .M}}{{$k}}={{$v};}}{{end}}", "line 1, column 34: '}' follows a name"),
        ("{{$x}}", "line 1, column 3: the variable $x is not set here"),
        ("{{if true}}{{$x := 1}}{{end}}{{$x}}", "line 1, column 32: the variable $x is not set here"),
        ("{{1 | 2}}", "line 1, column 7: after | stands a plain value"),
        ("{{9223372036854775808}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        (
            '{{define "a"}}1{{end}}{{define "a"}}2{{end}}{{template "a"}}',
            'line 1, column 23: the template "a" is defined twice',
        ),
        ('{{$x := 1}}{{define "a"}}{{$x}}{{end}}', "line 1, column 28: the variable $x is not set here"),
        ('{{if true}}{{define "a"}}x{{end}}{{end}}', "line 1, column 14: define cannot stand inside a block"),
        ('{{range .L}}{{define "a"}}x{{end}}{{end}}', "line 1, column 15: define cannot stand inside a block"),
        ("{{template .Input}}", "line 1, column 12: template needs a name in quotes"),
        ('{{define "a"}}{{break}}{{end}}', "line 1, column 17: {{break}} stands outside of range"),
        ('{{block "b" .}}x{{end}}{{define "b"}}y{{end}}', 'line 1, column 24: the template "b" is defined twice'),
        ('{{define "b"}}y{{end}}{{block "b" .}}x{{end}}', 'line 1, column 23: the template "b" is defined twice'),
        ("{{", "line 1, column 3: an action does not end"),
        ("{{.A", "line 1, column 5: an action does not end"),
        ("{{if .A}}", "line 1, column 1: this block does not end"),
        ("{{end}}", "line 1, column 1: {{end}} has no beginning"),
        ("{{else}}", "line 1, column 1: {{else}} has no beginning"),
        ("{{if}}x{{end}}", "line 1, column 5: if has no value"),
        ("{{range}}{{end}}", "line 1, column 8: range has no value"),
        ("{{.A}", "line 1, column 5: '}' follows a name"),
        ('{{"abc}}', 'line 1, column 3: the text after " does not end in this line'),
        ("{{`abc}}", "line 1, column 3: the text after ` does not end"),
        ("{{'ab'}}", "line 1, column 3: single quotes hold one character"),
        ("{{/* x}}", "line 1, column 3: a comment does not end"),
        ("{{ /* x */ }}", "line 1, column 4: '/' has no meaning there"),
        ("{{nofunc 1}}", "line 1, column 3: there is no function nofunc"),
        ("{{()}}", "line 1, column 4: a parenthesis has no value"),
        ("{{(1}}", "line 1, column 5: a parenthesis is not closed"),
        ("{{1)}}", "line 1, column 4: a ) closes no parenthesis"),
        ("{{break}}", "line 1, column 3: {{break}} stands outside of range"),
        ("{{if .A}}{{else}}{{else}}{{end}}", "line 1, column 18: this block has a second {{else}}"),
        ("{{|}}", "line 1, column 3: a | has no value before it"),
        ("{{..}}", "line 1, column 4: two values stand without a blank between them"),
        ("{{.A..B}}", "line 1, column 5: two values stand without a blank between them"),
        ("{{$x :=}}", "line 1, column 8: an action has no value"),
        ("{{$x, $y := 1}}", "line 1, column 5: too many variables are set at once"),
        ("{{with}}{{end}}", "line 1, column 7: with has no value"),
        ("{{template}}", "line 1, column 11: template needs a name in quotes"),
        ("{{define}}{{end}}", "line 1, column 9: define needs a name in quotes"),
        ("{{}}", "line 1, column 3: an action has no value"),
        ("{{ }}", "line 1, column 4: an action has no value"),
        ("{{-}}", "line 1, column 3: {{- has no blank after it"),
        ("{{- }}", "line 1, column 5: an action has no value"),
        ("{{- -}}", "line 1, column 5: a number is not written as Go knows it, or too large"),
        ('{{"\\q"}}', "line 1, column 3: the text in quotes has an unknown escape"),
        ("{{#}}", "line 1, column 3: '#' has no meaning there"),
        ("{{a b}}", "line 1, column 3: there is no function a"),
        ("{{1.2.3}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        ("{{0x}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        ("{{08}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        ("{{1a}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        ("{{.A}}{{", "line 1, column 9: an action does not end"),
        ("{{if .N}}{{else if}}{{end}}", "line 1, column 19: if has no value"),
        ("{{end x}}", "line 1, column 7: x cannot stand after end"),
        ("{{if .N}}x{{end y}}", "line 1, column 17: y cannot stand after end"),
        ("{{range $a, $b, $c := .L}}{{end}}", "line 1, column 15: too many variables are set at once"),
        ("{{.A!}}", "line 1, column 5: '!' follows a name"),
        ("{{print,1}}", "line 1, column 8: two values stand without a blank between them"),
        ("{{'a}}", "line 1, column 3: the text after ' does not end in this line"),
        ("{{$x := 1 := 2}}", "line 1, column 11: := cannot stand there"),
        ('{{"a""b"}}', "line 1, column 6: two values stand without a blank between them"),
        ('{{print"a"}}', "line 1, column 8: '\"' follows a name"),
        ('{{"a".b}}', "line 1, column 3: this value has no fields"),
        ("{{1.b}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        ("{{nil.b}}", "line 1, column 3: this value has no fields"),
        ("{{print(1)}}", "line 1, column 8: two values stand without a blank between them"),
        ("{{(print 1)(print 2)}}", "line 1, column 12: two values stand without a blank between them"),
        ("{{continue}}", "line 1, column 3: {{continue}} stands outside of range"),
        ("{{if .N}}{{break}}{{end}}", "line 1, column 12: {{break}} stands outside of range"),
        ("{{with .N}}{{else with .L}}{{else if .M}}{{end}}", "line 1, column 35: if cannot stand after else"),
        ("{{range .L}}{{else if .N}}{{end}}", "line 1, column 20: if cannot stand after else"),
        ("{{if .N}}{{else with .L}}{{end}}", "line 1, column 17: with cannot stand after else"),
        ("{{range .L}}{{else range .E}}{{end}}", "line 1, column 20: range cannot stand after else"),
        ("{{\n}}", "line 2, column 1: an action has no value"),
        ("{{print 1-}}", "line 1, column 10: a number is not written as Go knows it, or too large"),
        ("{{.N-}}", "line 1, column 5: '-' follows a name"),
        ("{{ -}}", "line 1, column 4: an action has no value"),
        ("{{-/* x */-}}", "line 1, column 3: {{- has no blank after it"),
        ("{{true.x}}", "line 1, column 3: this value has no fields"),
        ("{{.a-b}}", "line 1, column 5: '-' follows a name"),
        ("{{call .N}}", "line 1, column 3: call runs functions inside values, and prompts have none"),
        ("{{call 1}}", "line 1, column 3: call runs functions inside values, and prompts have none"),
        ("{{.L.}}", "line 1, column 5: two values stand without a blank between them"),
        ("{{$.}}", "line 1, column 4: two values stand without a blank between them"),
        ("{{$x.y}}", "line 1, column 3: the variable $x is not set here"),
        ('{{define "a"}}', "line 1, column 1: this block does not end"),
        ('{{block "a"}}{{end}}', "line 1, column 12: block has no value"),
        ("{{else if}}", "line 1, column 1: {{else}} has no beginning"),
        ('{{"a\nb"}}', 'line 1, column 3: the text after " does not end in this line'),
        ("{{+}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        ("{{-}}x", "line 1, column 3: {{- has no blank after it"),
        ("{{1__0}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        ("{{_}}", "line 1, column 3: there is no function _"),
        ("{{''}}", "line 1, column 3: single quotes hold one character"),
        ("{{print '\\\"'}}", "line 1, column 9: single quotes hold one character"),
        ('{{"\\\'"}}', "line 1, column 3: the text in quotes has an unknown escape"),
        ('{{"\\400"}}', "line 1, column 3: the text in quotes has an unknown escape"),
        ('{{"\\ud800"}}', "line 1, column 3: the text in quotes has an unknown escape"),
        ("{{1e400}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        ("{{len(.L)}}", "line 1, column 6: two values stand without a blank between them"),
        ("{{not(eq .N 3)}}", "line 1, column 6: two values stand without a blank between them"),
        ("{{end -}}", "line 1, column 1: {{end}} has no beginning"),
        ('{{quote "a\nb\tc"}}', 'line 1, column 9: the text after " does not end in this line'),
        ("{{if .T}}{{break}}{{end}}", "line 1, column 12: {{break}} stands outside of range"),
        (
            "{{range .L}}{{if .}}{{break}}{{end}}{{else}}{{break}}{{end}}",
            "line 1, column 47: {{break}} stands outside of range",
        ),
        ("{{range .L}}{{else}}{{continue}}{{end}}", "line 1, column 23: {{continue}} stands outside of range"),
        ("{{ else }}", "line 1, column 1: {{else}} has no beginning"),
        ("{{if .T}}a{{else if}}", "line 1, column 20: if has no value"),
        ("{{if .T}}x{{elseif .N}}{{end}}", "line 1, column 13: there is no function elseif"),
        ("{{| .Input}}", "line 1, column 3: a | has no value before it"),
        ("{{.Input || .N}}", "line 1, column 11: a | has no value before it"),
        ("{{.Input | | .N}}", "line 1, column 12: a | has no value before it"),
        ('{{1 | "a"}}', "line 1, column 7: after | stands a plain value"),
        ("{{1 | true}}", "line 1, column 7: after | stands a plain value"),
        ("{{1 | nil}}", "line 1, column 7: after | stands a plain value"),
        ("{{1 | .}}", "line 1, column 7: after | stands a plain value"),
        ("{{print (}}", "line 1, column 10: a parenthesis is not closed"),
        ("{{.N)}}", "line 1, column 5: a ) closes no parenthesis"),
        ('{{template "a" (}}', "line 1, column 17: a parenthesis is not closed"),
        ('{{define "a" 1}}{{end}}', "line 1, column 14: 1 cannot stand after define"),
        ("{{define a}}{{end}}", "line 1, column 10: define needs a name in quotes"),
        ("{{template a}}", "line 1, column 12: template needs a name in quotes"),
        ("{{block a .}}{{end}}", "line 1, column 9: block needs a name in quotes"),
        ('{{define "a"}}{{define "b"}}{{end}}{{end}}', "line 1, column 17: define cannot stand inside a block"),
        ("{{with .N}}a{{else if .T}}b{{end}}", "line 1, column 20: if cannot stand after else"),
        ("{{/* a */-}} x", "line 1, column 10: something stands between the end of a comment and }}"),
        ("{{/* a */  -}} x", "line 1, column 10: something stands between the end of a comment and }}"),
        ("{{/*a*/ }}", "line 1, column 8: something stands between the end of a comment and }}"),
        ("{{/* a */ b}}", "line 1, column 10: something stands between the end of a comment and }}"),
        ("{{'a'.b}}", "line 1, column 3: this value has no fields"),
        ("{{'\\400'}}", "line 1, column 3: single quotes hold one character"),
        ('{{"\\x4"}}', "line 1, column 3: the text in quotes has an unknown escape"),
        ('{{"\\u12"}}', "line 1, column 3: the text in quotes has an unknown escape"),
        ('{{"\\\n"}}', 'line 1, column 3: the text after " does not end in this line'),
        ("{{`a``b`}}", "line 1, column 6: two values stand without a blank between them"),
        ("{{{.Input}}}", "line 1, column 3: '{' has no meaning there"),
        ("{{{}}}", "line 1, column 3: '{' has no meaning there"),
        ("{{ .N }", "line 1, column 7: '}' has no meaning there"),
        ("{{.N}\n}", "line 1, column 5: '}' follows a name"),
        ("{{print 1 - 1}}", "line 1, column 11: a number is not written as Go knows it, or too large"),
        ("{{print (1 -)}}", "line 1, column 12: a number is not written as Go knows it, or too large"),
        ("{{$x:=1}}{{$x=2}}{{$x}}", "line 1, column 14: '=' follows a name"),
        ("{{$ x}}", "line 1, column 5: there is no function x"),
        ("{{$1}}", "line 1, column 3: the variable $1 is not set here"),
        ("{{.N.}}", "line 1, column 5: two values stand without a blank between them"),
        ("{{.5.5}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        ("{{0b2}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        ("{{0o8}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        ("{{0xg}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        ("{{1e}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        ("{{1e+}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        ("{{0x1.}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        ("{{0x1p}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        ("{{1_}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        ("{{_1}}", "line 1, column 3: there is no function _1"),
        ("{{--1}}", "line 1, column 3: {{- has no blank after it"),
        ("{{+-1}}", "line 1, column 3: a number is not written as Go knows it, or too large"),
        ("{{1+1}}", "line 1, column 4: two values stand without a blank between them"),
        ("{{i}}", "line 1, column 3: there is no function i"),
        ("{{print 1\xa02}}", "line 1, column 10: '\\xa0' has no meaning there"),
        ("{{\x00}}", "line 1, column 3: '\\x00' has no meaning there"),
        ("{{print,}}", "line 1, column 8: two values stand without a blank between them"),
        ("{{;}}", "line 1, column 3: ';' has no meaning there"),
        ("{{&}}", "line 1, column 3: '&' has no meaning there"),
        ("{{@}}", "line 1, column 3: '@' has no meaning there"),
        ("{{%}}", "line 1, column 3: '%' has no meaning there"),
        ("{{=}}", "line 1, column 3: = cannot stand there"),
        ("{{:=}}", "line 1, column 3: := cannot stand there"),
        ("{{:}}", "line 1, column 3: ':' has no meaning there"),
        ("{{$x : = 1}}", "line 1, column 6: ':' has no meaning there"),
        ("{{$x := }}", "line 1, column 9: an action has no value"),
        ("{{$x := 1, 2}}", "line 1, column 10: two values stand without a blank between them"),
        ("{{1 := 2}}", "line 1, column 5: := cannot stand there"),
        ("{{.N := 2}}", "line 1, column 6: := cannot stand there"),
        ("{{print $x := 1}}", "line 1, column 9: the variable $x is not set here"),
        ("{{print 1 = 2}}", "line 1, column 11: = cannot stand there"),
        ("{{$x, $y := .L}}", "line 1, column 5: too many variables are set at once"),
        ("{{range $x, := .L}}{{end}}", "line 1, column 9: after two variables := is missing"),
        ("{{range $x, 1 := .L}}{{end}}", "line 1, column 9: after two variables := is missing"),
        ("{{range $x $y := .L}}{{end}}", "line 1, column 9: the variable $x is not set here"),
        ("{{range $x}}{{end}}", "line 1, column 9: the variable $x is not set here"),
        ("{{range $x, $y}}{{end}}", "line 1, column 9: after two variables := is missing"),
        ("{{if $x}}{{end}}", "line 1, column 6: the variable $x is not set here"),
        ("{{break 1}}", "line 1, column 9: 1 cannot stand after break"),
        ("{{range .L}}{{break 1}}{{end}}", "line 1, column 21: 1 cannot stand after break"),
        ("{{range .L}}{{continue | print}}{{end}}", "line 1, column 24: | cannot stand after continue"),
        ("{{break | print}}", "line 1, column 9: | cannot stand after break"),
        ("{{if end}}{{end}}", "line 1, column 6: end cannot stand there"),
        ("{{print end}}", "line 1, column 9: end cannot stand there"),
        ("{{print if}}", "line 1, column 9: if cannot stand there"),
        ("{{print break}}", "line 1, column 9: break cannot stand there"),
        ("{{print template}}", "line 1, column 9: template cannot stand there"),
        ("{{print define}}", "line 1, column 9: define cannot stand there"),
    ],
)
def test_mistakes_are_named_with_their_place(text: str, message: str) -> None:
    with pytest.raises(BadTemplate) as caught:
        parsed(text)
    assert caught.value.message.startswith(f"The prompt template fails at {message}. ")
    assert caught.value.code == "invalid_template"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{{1i}}", "a number is not written as Go knows it"),  # a complex number for Go
        ("{{call .F}}", "call runs functions inside values"),
        ("{{now}}", "now reads the clock"),
        ('{{env "HOME"}}', "env reads the environment"),
        ('{{set . "a" 1}}', "set changes a map"),
        ("{{uuidv4}}", "uuidv4 draws random numbers"),
        ("{{toJSON .}}", r"there is no function toJSON \(the nearest is toJson\)"),
        ("{{regexMatch .}}", "there is no function regexMatch"),
        ("{{define `a`}}x{{else}}y{{end}}", "{{else}} belongs to no condition"),
        ("{{if 1}}" * (MAX_NESTING + 1) + "{{end}}" * (MAX_NESTING + 1), "deeper than 64 levels"),
        ("{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "deeper than 64 levels"),
        ("{{$x := 1}}" * (MAX_VARIABLES + 1), "more than 256 variables"),
        ("x" * (MAX_TEMPLATE_CHARS + 1), "more than 256 Ki characters"),
    ],
)
def test_what_go_might_allow_and_we_do_not(text: str, problem: str) -> None:
    with pytest.raises(BadTemplate, match=problem):
        parsed(text)


def test_a_message_stays_short() -> None:
    with pytest.raises(BadTemplate) as caught:
        parsed("{{$" + "x" * 5000 + "}}")
    assert len(caught.value.message) == 500
    assert caught.value.message.endswith("...")


def test_the_tree_of_a_pipeline() -> None:
    (action,) = parsed("{{$x := (print nil).A | or .B.C $ . 1}}").body
    assert isinstance(action, Action)
    inner = Pipeline(9, (Command(9, (FunctionName(9, "print"), Nil(15))),))
    first = Command(8, (Fields(8, inner, ("A",)),))
    fields = Fields(27, Dot(27), ("B", "C"))
    second = Command(24, (FunctionName(24, "or"), fields, Variable(32, "$"), Dot(34), Constant(36, 1)))
    assert action.pipeline == Pipeline(2, (first, second), ("$x",), declares=True)


def test_definitions_stand_beside_the_body() -> None:
    tree = parsed('a{{define "t"}}b{{end}}{{block "u" .}}c{{end}}')
    assert tree.body == (Text(0, "a"), Call(23, "u", Pipeline(35, (Command(35, (Dot(35),)),))))
    assert tree.defined == {"t": (Text(15, "b"),), "u": (Text(38, "c"),)}


def test_the_tree_of_blocks() -> None:
    def value(at: int, number: int) -> Pipeline:
        return Pipeline(at, (Command(at, (Constant(at, number),)),))

    text = "{{if 0}}a{{else if 1}}b{{else}}{{template `t`}}{{end}}{{range 2}}{{break}}{{else}}c{{end}}"
    assert parsed(text).body == (
        Conditional(
            0,
            "if",
            (Branch(value(5, 0), (Text(8, "a"),)), Branch(value(19, 1), (Text(22, "b"),))),
            (Call(31, "t", None),),
        ),
        Range(54, value(62, 2), (Jump(67, "break"),), (Text(82, "c"),)),
    )
    assert parsed("{{with 0}}{{end}}").body == (Conditional(0, "with", (Branch(value(7, 0), ()),), ()),)


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ('{{define "a"}}x{{end}}{{define "a"}} {{end}}', (Text(14, "x"),)),
        ('{{define "a"}} {{end}}{{define "a"}}x{{end}}', (Text(36, "x"),)),
        ('{{define "a"}} {{end}}{{define "a"}}{{end}}', (Text(14, " "),)),
    ],
)
def test_an_empty_definition_gives_way(text: str, body: Body) -> None:
    assert parsed(text).defined == {"a": body}


@given(
    st.lists(
        st.sampled_from(
            (
                *(
                    "{{",
                    "}}",
                    "{{-",
                    "-}}",
                    "{{/*",
                    "*/}}",
                    "{",
                    "\n",
                    "x",
                    "if",
                    "else",
                    "end",
                    "range",
                    "with",
                    "define",
                ),
                *("template", "block", "break", "nil", "true", "$x", ":=", "=", ",", "|", "(", ")", ".", ".A", ".A.B"),
                *("1", "-2", "1.5", '"a"', "'b'", "`c`", "print", "len", "eq"),
            )
        ),
        max_size=40,
    ),
    st.sampled_from(("", " ")),
)
def test_any_words_are_a_tree_or_our_error(words: list[str], blank: str) -> None:
    with suppress(BadTemplate):
        assert isinstance(parsed(blank.join(words)), Tree)
