"""Templates with what Go 1.26 (and sprig 3.3) made of them; comments say why where it is not obvious."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.go_template.errors import BadTemplate, TemplateFailed
from localai.node.go_template.evaluator import FUNCTION_NAMES, why_not_callable
from localai.node.go_template.limits import MAX_NESTING, MAX_OUTPUT_BYTES
from localai.node.go_template.template import Template
from localai.node.go_template.values import Field, Record, Value


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{print nil list}}", "<nil> []"),  # a function's name as an argument calls it
        ("plain", "plain"),
        ("", ""),
        ("a { b } c", "a { b } c"),
        ("} }} {", "} }} {"),
        ("{{.Input}}", "Hi"),
        ("<{{ .Input }}>", "<Hi>"),
        ("{{.Nest.A.B}}", "deep"),
        ("{{.Missing}}", "<no value>"),  # a map has no such key
        ("{{.Missing.More}}", "<no value>"),  # and what is missing has only missing fields
        ("{{$.Input}}", "Hi"),
        ("{{.N}} {{.F}} {{.T}} {{.Nil}}", "3 1.5 true <no value>"),
        ("{{.L}} {{.E}} {{.M}}", "[a b c] [] map[a:2 b:1]"),
        ("{{.LL}}", "[[1 2] [3]]"),
        (
            "{{1}} {{-1}} {{1.0}} {{0x10}} {{1e3}} {{0b11}} {{0o17}} {{017}} {{1_000}} {{'a'}}",
            "1 -1 1 16 1000 3 15 15 1000 97",
        ),
        ('{{"a\\n\\"b\\"\\u00e9\\x41\\101"}}', 'a\n"b"éAA'),
        ('{{`raw \\n "x"`}}', 'raw \\n "x"'),
        ("{{true}} {{false}}", "true false"),
        ("{{(.Nest).A.B}}", "deep"),
        ("{{.Nest.A}}", "map[B:deep]"),
        ('{{"}}"}}', "}}"),
        ("{{'\\n'}}{{'\\''}}", "1039"),
        ("{{+5}}", "5"),
        (
            "{{ 1.5e2 }} {{.5}} {{100000000000000000000.0}} {{1e21}} {{1e20}} {{0.000001}} {{0.0000001}}",
            "150 0.5 1e+20 1e+21 1e+20 1e-06 1e-07",
        ),
        ("a  {{- .Input -}}  b", "aHib"),
        ("a\n\t {{- 3 }} b", "a3 b"),
        ("{{23 -}} < {{- 45}}", "23<45"),
        ("x {{- /* c */ -}} y", "xy"),
        ("x {{/* c }} */}} y", "x  y"),
        ("{{/* a\nb */}}z", "z"),
        ("a{{-  \n .Input\n}}b", "aHib"),
        ("{{- .Input -}}", "Hi"),
        ("{{-3}}", "-3"),
        ("a {{- -3}}", "a-3"),
        ('  {{- "" -}}  ', ""),
        ("{{ .Input -}}\n\n  {{- .Input }}", "HiHi"),
        ("a\xa0{{- 1}}", "a\xa01"),  # a trim marker takes blanks, tabs and line ends only
        ("a\x0b{{- 1}}", "a\x0b1"),
        ("{{if .T}}y{{end}}", "y"),
        ("{{if .Z}}y{{else}}n{{end}}", "n"),
        ("{{if .Missing}}y{{else}}n{{end}}", "n"),
        ("{{if .EmptyS}}y{{else if .N}}n3{{else}}z{{end}}", "n3"),
        ("{{if .E}}y{{else}}n{{end}}{{if .L}}y{{end}}{{if .Nil}}y{{else}}n{{end}}{{if .M}}m{{end}}", "nynm"),
        ("{{if 0.0}}y{{else}}n{{end}}", "n"),
        ("{{if not .Z}}y{{end}}", "y"),
        ("{{if $x := .N}}{{$x}}{{end}}", "3"),
        ("{{if false}}a{{else if false}}b{{else if true}}c{{else}}d{{end}}", "c"),
        ("{{if and .T .L}}y{{end}}", "y"),
        ('{{if " "}}y{{end}}', "y"),
        ("{{if .T -}} a {{- else -}} b {{- end}}", "a"),
        ('{{ if eq .Input "Hi" }}1{{ else }}2{{ end }}', "1"),
        ("{{if .T}}{{if .Z}}a{{else}}b{{end}}{{end}}", "b"),
        ("{{if (len .L)}}n{{end}}", "n"),
        ("{{with .Nest}}{{.A.B}}{{end}}", "deep"),
        ("{{with .Missing}}a{{else}}{{.N}}{{end}}", "3"),
        ("{{with $x := .N}}{{$x}}{{.}}{{end}}", "33"),
        ("{{with .Z}}a{{else with .N}}{{.}}{{else}}c{{end}}", "3"),
        ("{{with .Nest}}{{$.Input}}{{end}}", "Hi"),
        ("{{with .Nest}}{{with .A}}{{.B}}{{end}}{{end}}", "deep"),
        ("{{range .L}}<{{.}}>{{end}}", "<a><b><c>"),
        ("{{range $v := .L}}{{$v}}{{end}}", "abc"),
        ("{{range $i, $v := .L}}{{$i}}={{$v}};{{end}}", "0=a;1=b;2=c;"),
        ("{{range $k, $v := .M}}{{$k}}={{$v}};{{end}}", "a=2;b=1;"),  # maps in key order
        ("{{range .M}}{{.}}{{end}}", "21"),
        ("{{range .E}}x{{else}}none{{end}}", "none"),
        ("{{range .Nil}}x{{else}}none{{end}}", "none"),
        ("{{range .Missing}}x{{else}}none{{end}}", "none"),
        ("{{range 3}}{{.}}{{end}}", "012"),  # a number counts, since Go 1.24
        ("{{range $i := 3}}{{$i}}{{end}}", "012"),
        ("{{range $i, $v := .L}}{{if eq $i 1}}{{continue}}{{end}}{{$v}}{{end}}", "ac"),
        ('{{range .L}}{{if eq . "b"}}{{break}}{{end}}{{.}}{{end}}', "a"),
        ("{{range .LL}}{{range .}}{{.}},{{end}}|{{end}}", "1,2,|3,|"),
        ("{{range .LL}}{{range .}}{{break}}{{end}}|{{end}}", "||"),
        ("{{range $i, $e := .L}}{{if $i}}, {{end}}{{$e}}{{end}}", "a, b, c"),
        ("{{range .L}}{{$.Input}}{{end}}", "HiHiHi"),
        ("{{range $x := .L}}{{.}}{{$x}}{{end}}", "aabbcc"),
        ("{{range .L -}} {{.}} {{- end}}", "abc"),
        ("{{range -2}}x{{else}}none{{end}}", "none"),
        ("{{range .N}}{{.}}{{end}}", "012"),
        ("{{range 0}}x{{else}}e{{end}}", "e"),
        ("{{$i := 9}}{{range $i = .L}}{{$i}}{{end}}{{$i}}", "abcc"),  # = changes the outer variable
        ("{{$i := 9}}{{$v := 8}}{{range $i, $v = .L}}{{$i}}{{$v}}{{end}}{{$i}}{{$v}}", "0a1b2c2c"),
        ("{{$x := 1}}{{$x}}", "1"),
        ("{{$x := 1}}{{$x = 2}}{{$x}}", "2"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        ("{{$m := .Nest}}{{$m.A.B}}", "deep"),
        ("{{$x := .L | len}}{{$x}}", "3"),
        ('{{$last := ""}}{{range .L}}{{$last = .}}{{end}}{{$last}}', "c"),
        ("{{$a := 1}}{{$b := $a}}{{$b}}", "1"),
        ('{{.Input | printf "%s!"}}', "Hi!"),
        ('{{"a" | print "b"}}', "ba"),
        ('{{.N | printf "%d-%d" 1}}', "1-3"),
        ("{{.L | len | print}}", "3"),
        ('{{"x" | len | eq 1}}', "true"),
        ('{{(.L | len) | printf "%03d"}}', "003"),
        ("{{and 1 0 2}}", "0"),
        ("{{and 1 2}}", "2"),
        ('{{or 0 "" 5}}', "5"),
        ('{{or 0 ""}}', ""),
        ('{{or .Missing "d"}}', "d"),
        ("{{and .T .N}}", "3"),
        ("{{and false (index .L 10)}}", "false"),
        ("{{or true (index .L 10)}}", "true"),
        ('{{if ne .Input ""}}a{{end}}', "a"),
        ('{{if or (eq .Input "x") (and .T (gt .N 2))}}ok{{end}}', "ok"),
        ('{{println "a"}}b', "a\nb"),
        ('{{"<x>" | html}}', "&lt;x&gt;"),
        ('{{"a b" | replace " " "-"}}', "a-b"),
        ('{{.Missing | default "d"}}', "d"),
        ('{{.Input | default "d"}}', "Hi"),
        ("{{.T | ternary 1 2}}", "1"),
        ("{{range list 1 2}}{{.}};{{end}}", "1;2;"),
        ('{{range $k, $v := dict "b" 1 "a" 2}}{{$k}}{{$v}}{{end}}', "a2b1"),
        ("{{$l := list 1}}{{$m := append $l 2}}{{$l}}{{$m}}", "[1][1 2]"),
        ("{{-9223372036854775808}}", "-9223372036854775808"),
        ('{{define "t"}}[{{.}}]{{end}}{{template "t" .N}}{{template "t"}}', "[3][<no value>]"),
        ('{{template "t" .Nest}}{{define "t"}}{{.A.B}}{{$.A.B}}{{end}}', "deepdeep"),
        ('{{block "b" .Input}}<{{.}}>{{end}}', "<Hi>"),
        ('{{define "a"}}A{{end}}{{define "b"}}{{template "a"}}B{{end}}{{template "b"}}', "AB"),
        ('{{define "a"}}{{if .}}{{.}}{{template "a" (sub . 1)}}{{end}}{{end}}{{template "a" 3}}', "321"),
        ('a {{- define "t" -}} x {{- end -}} b {{template "t"}}', "ab x"),
        ("{{define `q`}}x{{end}}{{template `q`}}", "x"),
        (
            '{{define "a"}}x{{end}}{{define "a"}} {{end}}{{template "a"}}',
            "x",
        ),  # an empty definition does not replace one
        ('{{define "e"}}{{end}}{{template "e"}}!', "!"),
        ("{{1|}}", "1"),  # Go lets a pipeline end with |
        ("{{.1}}", "0.1"),
        ("{{.N\n}}", "3"),
        ("{{/**/}}", ""),
        ("{{- /* x */ -}}", ""),
        ("{{.é}}", "<no value>"),
        ("{{ .L | }}", "[a b c]"),
        ("{{$x := 1 | print}}{{$x}}", "1"),
        ("{{1 | print | print 2}}", "21"),
        ("{{($x := 1)}}", "1"),
        ("{{if ($x := 1)}}{{end}}", ""),
        ("{{$.N}}", "3"),
        ("{{0x1p4}} {{0x1.8p1}}", "16 3"),
        ("{{'\\u00e9'}}", "233"),
        ("{{'\\xff'}}", "255"),
        ('{{"\\U0010ffff"}}', "\U0010ffff"),
        ("{{.N|print}}", "3"),
        ("{{range $i,$v:=.L}}{{$i}}{{end}}", "012"),
        ("{{$x:=1}}{{$x}}", "1"),
        ("{{if.T}}a{{end}}", "a"),
        ("{{if(.T)}}a{{end}}", "a"),
        ("{{- 3 -}}", "3"),
        ("{{and .Missing 1}}", "<no value>"),
        ("{{and .Nil 1}}", "<no value>"),
        ("{{or .Missing .Nil}}", "<no value>"),
        ("{{1_0.5}}", "10.5"),
        ("{{0x_1}}", "1"),
        ("{{0_7}}", "7"),
        ("{{1e1_0}}", "1e+10"),
        ("{{1.0_0}}", "1"),
        ('{{"\\xff"}}', "�"),
        ('{{"\\xc3"}}', "�"),
        ("{{range $k, $v := .M}}{{break}}{{end}}", ""),
        ("{{range $x := .M}}{{$x}}{{end}}", "21"),
        ("{{range 9223372036854775807}}{{break}}{{end}}", ""),
        ("{{range .Nest}}{{.B}}{{end}}", "deep"),
        ("{{$x := .Missing}}{{$x}}", "<no value>"),
        ("{{$x := .Nil}}{{$x}}{{$x.a}}", "<no value><no value>"),  # a pipeline turns nil into a missing value
        ("{{$x := .Missing}}{{$x.a}}", "<no value>"),
        ("{{$x := .L}}{{$x = .M}}{{$x}}", "map[a:2 b:1]"),
        ("{{(.Missing).x}}", "<no value>"),
        ("{{(.Nil).x}}", "<no value>"),  # parentheses turn nil into a missing value
        ('{{template "a" .L}}{{define "a"}}{{range .}}{{.}}{{end}}{{end}}', "abc"),
        ('{{block "a" .N}}{{$x := .}}{{$x}}{{end}}', "3"),
        ('{{block "b" .N | print}}<{{.}}>{{end}}', "<3>"),
        ('{{define "a"}}x{{end}} y {{template "a"}}', " y x"),
        ('{{template "a" .N | print 1}}{{define "a"}}{{.}}{{end}}', "1 3"),
        ('{{$x := 1}}{{template "a" $x}}{{define "a"}}{{.}}{{end}}', "1"),
        ('{{template "a"}}{{define "a"}}{{.}}{{end}}', "<no value>"),
        ('{{define "a"}}{{$}}{{end}}{{template "a" 5}}', "5"),
        ("{{with $x := .N}}{{else}}{{$x}}{{end}}", ""),
        ("{{if $x := .Z}}{{else}}{{$x}}{{end}}", "0"),  # the variable lives on in else
        ("{{if $x := .Z}}{{else if $y := .N}}{{$x}}{{$y}}{{end}}", "03"),
        ("{{range $x := .E}}{{else}}{{$x}}{{end}}", "[]"),  # the variable holds the whole list there
        ("{{range $i, $x := .L}}{{$x = 1}}{{end}}", ""),
        ("{{$x := 1}}{{range .L}}{{$x := .}}{{end}}{{$x}}", "1"),
        ("{{$x := 1}}{{with .N}}{{$x = .}}{{end}}{{$x}}", "3"),
        ("{{range .L}}{{with .}}{{break}}{{end}}{{end}}done", "done"),
        ("{{if .T}}a{{  else  }}b{{  end  }}", "a"),
        ("{{.Input | }}", "Hi"),
        ("{{(1 | print)}}", "1"),
        ("{{((1))}}", "1"),
        ('{{template "a" }}{{define "a"}}1{{end}}', "1"),
        ('{{define ""}}x{{end}}{{template ""}}', "x"),
        ('{{define "a"}}{{block "b" .}}z{{end}}{{end}}{{template "a"}}{{template "b"}}', "zz"),
        ('{{range .L}}{{block "q" .}}<{{.}}>{{end}}{{end}}', "<a><b><c>"),
        ("{{with .Z}}a{{else with .Z}}b{{else}}c{{end}}", "c"),
        ("{{if .Z}}{{else if .Z}}{{else}}x{{end}}", "x"),
        ("{{/* a */ -}} x", "x"),
        ("{{- /* a */}} x", " x"),
        ("{{ 'a' }}", "97"),
        ("{{'\\''}}", "39"),
        ("{{'\\t'}}", "9"),
        ("{{'\\377'}}", "255"),
        ('{{"\\a\\b\\f\\v\\\\"}}', "\x07\x08\x0c\x0b\\"),
        ("{{`}}`}}", "}}"),
        ("{{``}}", ""),
        ("{{.Input}}}", "Hi}"),
        ("{ {.N}}", "{ {.N}}"),
        ('{{".N"}}}}', ".N}}"),
        ("a{{-1}}", "a-1"),
        ("a {{-1}}", "a -1"),
        ("a {{- 1}}", "a1"),
        ("{{.N -}} x", "3x"),
        ("{{.N  -}} x", "3x"),
        ("{{.N\n-}}\n x", "3x"),
        ("a{{-\n1}}", "a1"),
        ("a {{-\t1\t-}} b", "a1b"),
        ("{{- 1}}", "1"),
        ("{{1 -}}", "1"),
        ('{{print "a" -}} b', "ab"),
        ("{{if .T}}  {{- end}}x", "x"),
        (" {{- if .T -}} a {{- end -}} ", "a"),
        ("{{$x1 := 1}}{{$x1}}", "1"),
        ("{{$é := 1}}{{$é}}", "1"),
        ("{{.Nest.X.Y.Z}}", "<no value>"),
        ("{{.Nest.X}}", "<no value>"),
        ("{{.0}}", "0"),
        ("{{.N0}}", "<no value>"),
        ("{{._x}}", "<no value>"),
        ("{{1.}}", "1"),
        ("{{1.e1}}", "10"),
        ("{{.e1}}", "<no value>"),
        ("{{+1}}", "1"),
        ("{{- 1 }}", "1"),
        ("{{1 }}", "1"),
        ("{{ 1}}", "1"),
        ("{{\t1\n}}", "1"),
        ("{{\r\n1}}", "1"),
        ("{{$x := .L}}{{range $x}}{{.}}{{end}}", "abc"),
        ("{{$x := .L}}{{range $i, $x := $x}}{{$i}}{{$x}}{{end}}", "0a1b2c"),
        ("{{range .L}}{{break }}{{end}}", ""),
        ("{{range .L}}{{ continue}}{{end}}", ""),
        ("{{.if}}", "<no value>"),
        ("{{.end}}", "<no value>"),
        ("{{.range.if}}", "<no value>"),
        ("{{$if := 1}}{{$if}}", "1"),
    ],
)
def test_templates_give_what_go_gives(template: str, text: str, data: Value) -> None:
    assert Template(template).render(data) == text


@pytest.mark.parametrize(
    ("template", "data", "text"),
    [
        ("{{.}}", "x", "x"),
        ("{{.}}", ["a", "b"], "[a b]"),
        ("{{.}}", {"k": "v", "a": 1}, "map[a:1 k:v]"),
        ("{{.}}", None, "<no value>"),
        ("{{.}}", 5, "5"),
        ("{{.x}}", None, "<no value>"),
        ("{{.x.y}}", None, "<no value>"),
        ("{{$.x}}", None, "<no value>"),
        ("{{.}}", [], "[]"),
        ("{{range .}}{{.}}{{end}}", [1, None, "a"], "1<no value>a"),
        ("{{range .}}<{{.x}}>{{end}}", [{"x": 1}, {"y": 2}], "<1><<no value>>"),
        ("{{.a}}{{.b}}", {"a": [None], "b": {"x": None}}, "[<nil>]map[x:<nil>]"),
        ("{{.}}", {"a": {"b": [{"c": 1.5}]}}, "map[a:map[b:[map[c:1.5]]]]"),
        ("{{len .}}", {}, "0"),
        ("{{if .}}1{{else}}0{{end}}", {}, "0"),
        ("{{range $k, $v := .}}{{$k}},{{end}}", {"b": 1, "B": 2, "é": 3, "aa": 4, "a": 5}, "B,a,aa,b,é,"),
        ("{{toJson .}}", {"b": 1, "B": 2, "é": 3, "aa": 4, "": 5}, '{"":5,"B":2,"aa":4,"b":1,"é":3}'),
        ("{{.}}", 1000000.0, "1e+06"),
        ("{{.}}", 123456.5, "123456.5"),
        ("{{.}}", True, "true"),
        ("{{.}}", "", ""),
    ],
)
def test_any_value_can_be_the_dot(template: str, data: Value, text: str) -> None:
    assert Template(template).render(data) == text


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{if .Z}}{{$y := 1}}{{else}}{{$y}}{{end}}", "the variable $y is not set on this way"),
        ("{{range .Input}}x{{end}}", "range needs a list, a map or a whole number, not string"),
        ("{{range .T}}x{{end}}", "range needs a list, a map or a whole number, not bool"),
        ("{{$x = 1}}", "the variable $x is not set yet, so = cannot change it; := sets it"),
        ("{{.Input | .N}}", "a value that is no function gets arguments"),
        ("{{nil}}", "nil stands alone; it can only be an argument"),
        ("{{.Input.x}}", "string has no field .x"),
        ("{{.N.x}}", "int has no field .x"),
        ("{{.L.x}}", "[]interface {} has no field .x"),
        ("{{.Nil.x}}", "<nil> has no field .x"),
        ("{{and}}", "and takes at least 1 argument, not 0"),
        ('{{template "none"}}', 'there is no template "none"'),
        ("{{.N | len .L}}", "len takes 1 argument, not 2"),
        ('{{template "a" . .}}', 'there is no template "a"'),
        ('{{if .T}}{{template "x"}}{{end}}', 'there is no template "x"'),
        ("{{range $i, $x := 2}}{{$i}}{{$x}}{{end}}", "range over a number sets one variable, not two"),
        ("{{range .F}}{{end}}", "range needs a list, a map or a whole number, not float64"),
        ("{{range $i, $x = .L}}{{end}}", "the variable $i is not set yet, so = cannot change it; := sets it"),
        ("{{.Nest.A.B.C}}", "string has no field .C"),
        ("{{range .L}}{{.Input}}{{end}}", "string has no field .Input"),
        ("{{range .Nulls}}{{.x}}{{end}}", "<nil> has no field .x"),  # an element that is nil is not missing
    ],
)
def test_where_go_stops_we_stop(template: str, problem: str, data: Value) -> None:
    with pytest.raises(TemplateFailed) as caught:
        Template(template).render({**data, "Nulls": [None]})  # type: ignore[dict-item]  # data is a dict
    assert problem in caught.value.message


PERSON = Record((Field("Name", "Ann", "name"), Field("Tags", ["x"], "tags"), Field("Secret", 1)))


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Name}}{{range .Tags}}{{.}}{{end}}", "Annx"),
        ("{{.}}", "{Ann [x] 1}"),
        ("{{toJson .}}", '{"name":"Ann","tags":["x"]}'),  # in the order of the fields, without those that have no name
        ("{{if .}}a struct is true{{end}}", "a struct is true"),
        ("{{with $p := .}}{{$p.Name}}{{end}}", "Ann"),
        ("{{has . (list . 1)}}{{has . (list 1)}}", "truefalse"),
        ("{{kindOf .}}", "struct"),
    ],
)
def test_a_record_is_a_struct(template: str, text: str) -> None:
    assert Template(template).render(PERSON) == text


def test_a_record_knows_its_fields() -> None:
    with pytest.raises(TemplateFailed, match=r"line 2, column 4: there is no field \.Nmae, only \.Name, \.Tags"):
        Template("a\nb{{.Nmae}}").render(PERSON)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{range 100000000}}{{end}}", "100000 steps"),
        ("{{range 1000}}{{range 1000}}x{{end}}{{end}}", "100000 steps"),
        ('{{define "a"}}{{template "a"}}{{end}}{{template "a"}}', "64 levels"),
        (
            '{{define "a"}}{{if 1}}{{template "b"}}{{end}}{{end}}{{define "b"}}{{template "a"}}{{end}}{{template "b"}}',
            "64",
        ),
        ('{{$x := "ab"}}{{range 40}}{{$x = print $x $x}}{{end}}', "100000 steps"),
        ("{{$x := list 1}}{{range 40}}{{$x = list $x $x}}{{end}}{{$x}}", "100000 steps"),
        ("{{$x := list 1}}{{range 40}}{{$x = list $x $x}}{{end}}{{toJson $x}}", "100000 steps"),
        ("{{$x := list 1}}{{range 65}}{{$x = list $x}}{{end}}{{$x}}", "64 levels"),
        ("{{.Big}}{{.Big}}", "1 MiB"),
        ("{{len .Big}}" * 13, "steps"),
        ("{{html .Big}}", "1 MiB"),
    ],
)
def test_nothing_grows_without_end(template: str, problem: str) -> None:
    with pytest.raises(BadTemplate, match=problem) as caught:
        Template(template).render({"Big": "<" * (MAX_OUTPUT_BYTES // 2 + 1)})
    assert not isinstance(caught.value, TemplateFailed)
    assert "smaller" in caught.value.message


def test_the_deepest_that_is_allowed_works() -> None:
    value: Value = 1
    for _ in range(MAX_NESTING):
        value = [value]
    deep = "(print " * (MAX_NESTING - 1) + "(toJson .)" + ")" * (MAX_NESTING - 1)
    assert Template(f"{{{{{deep}}}}}").render(value) == "[" * MAX_NESTING + "1" + "]" * MAX_NESTING
    blocks = "{{if 1}}" * MAX_NESTING + "{{has . (list .)}}" + "{{end}}" * MAX_NESTING
    with pytest.raises(BadTemplate, match="levels"):  # the parenthesis is one more
        Template(blocks).render(value)


def test_python_s_own_attributes_are_out_of_reach(data: Value) -> None:
    for template in ("{{.__class__}}", "{{.Input.__class__}}", "{{.L.append}}", "{{.M.keys}}", "{{$.__init__}}"):
        with suppress(TemplateFailed):
            assert Template(template).render(data) == "<no value>"


def test_rendering_changes_nothing(data: Value) -> None:
    before = json.dumps(data)
    template = Template('{{$m := .M}}{{$l := append .L "z"}}{{range .L}}{{.}}{{end}}{{len $l}}')
    assert template.render(data) == template.render(data) == "abc4"
    assert json.dumps(data) == before


def test_functions_that_exist_can_be_called() -> None:
    assert {"and", "or", "toJson", "default"} <= FUNCTION_NAMES
    assert all(why_not_callable(name) is None for name in FUNCTION_NAMES)


def test_functions_that_do_not_exist_are_explained() -> None:
    assert why_not_callable("now") == "now reads the clock, which prompts cannot"
    assert why_not_callable("toJSON") == "there is no function toJSON (the nearest is toJson)"
    assert why_not_callable("regexMatch") == "there is no function regexMatch"


_WORDS = st.sampled_from(
    (
        *(
            "{{",
            "}}",
            "{{-",
            "-}}",
            "{{if",
            "{{else}}",
            "{{end}}",
            "{{range",
            "{{with",
            "{{break}}",
            "$x",
            ":=",
            "=",
            "|",
        ),
        *(
            "(",
            ")",
            ".",
            ".A",
            ".L",
            ".M.k",
            "$",
            "1",
            "-2",
            "0",
            "1.5",
            '"a"',
            '"%v"',
            "'c'",
            "nil",
            "print",
            "printf",
        ),
        *(
            "len",
            "index",
            "eq",
            "lt",
            "and",
            "or",
            "not",
            "list",
            "dict",
            "append",
            "repeat",
            "join",
            "toJson",
            "until",
        ),
    )
)
_DATA = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("AkLM"), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(_WORDS, max_size=30), _DATA)
def test_any_words_give_a_bounded_text_or_our_error(words: list[str], data: Value) -> None:
    with suppress(BadTemplate):
        assert len(Template(" ".join(words)).render(data).encode()) <= MAX_OUTPUT_BYTES


@given(st.sampled_from(sorted(FUNCTION_NAMES)), st.lists(_DATA, max_size=4))
def test_any_function_with_any_arguments_gives_a_text_or_our_error(name: str, arguments: list[Value]) -> None:
    operands = " ".join(f"(index $ {position})" for position in range(len(arguments)))
    with suppress(BadTemplate):
        assert isinstance(Template(f"{{{{{name} {operands}}}}}").render(arguments), str)
