"""Expected texts are what Go 1.26 printed."""

from __future__ import annotations

import pytest

from localai.node.go_template.errors import TemplateFailed
from localai.node.go_template.template import Template
from localai.node.go_template.values import Value


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("eq 1 1", "true"),
        ("eq 1 2 3 1", "true"),
        ('eq "a" "b" "a"', "true"),
        ("eq true true", "true"),
        ("eq .N 3", "true"),
        ("eq .F 1.5", "true"),
        ("eq .Nil nil", "true"),
        ('eq .Missing "x"', "false"),  # nil is different from everything but nil
        ('eq .Input "Hi"', "true"),
        ("eq .Nil .Nil", "true"),
        ("eq .Nil 1", "false"),
        ("ne 1 2", "true"),
        ('ne "a" "a"', "false"),
        ("lt 1 2", "true"),
        ('lt "a" "b"', "true"),
        ("lt 2 1", "false"),
        ("le 2 2", "true"),
        ("gt 3 2", "true"),
        ("ge 2 3", "false"),
        ("ge 2 2", "true"),
        ("lt .F 2.0", "true"),
        ("not 0", "true"),
        ('not "x"', "false"),
        ("eq (len .L) 3", "true"),
        ("not nil", "true"),
        ("eq false .Missing", "false"),
        ('ne .Missing ""', "true"),
        ("eq .Missing nil", "true"),
        ("eq 'a' 97", "true"),
        ("len .L", "3"),
        ("len .M", "2"),
        ('len "abc"', "3"),
        ('len "é"', "2"),  # bytes
        ("index .L 0", "a"),
        ("index .L 2", "c"),
        ('index .M "a"', "2"),
        ('index .M "zz"', "<no value>"),  # a missing key again
        ("index .LL 0 1", "2"),
        ('index .Nest "A" "B"', "deep"),
        ("index .Input 0", "72"),  # the byte
        ("index .L", "[a b c]"),
        ("len .E", "0"),
        ('html "<a href=\'x\'>&\\""', "&lt;a href=&#39;x&#39;&gt;&amp;&#34;"),
        ('html 1 "<"', "1&lt;"),
        ('js "it\'s <b> \\"x\\" & \\n ="', 'it\\\'s \\u003Cb\\u003E \\"x\\" \\u0026 \\u000A \\u003D'),
        ('js "é\\u2028\\u0001"', "é\\u2028\\u0001"),
        ('urlquery "a b&c=d/é"', "a+b%26c%3Dd%2F%C3%A9"),
        ("html .Nil", "&lt;no value&gt;"),  # escapers print nil as an action would
        ('urlquery .Missing "x"', "%3Cno+value%3Ex"),
        ('html "\\x00"', "�"),
        ('js "\\\\ \\r\\t"', "\\\\ \\u000D\\u0009"),
        ('urlquery "~-_.!*\'()"', "~-_.%21%2A%27%28%29"),
        ("len (list 1 2)", "2"),
        ("index (list 1 2) 1", "2"),
        ('index (dict "a" 1) "a"', "1"),
        ("eq .N 3 | not", "false"),
        ("eq .L nil", "false"),
        ("eq .M nil", "false"),
        ("eq .Nil .L", "false"),
        ("eq nil nil", "true"),
        ('eq 1 1 "a"', "true"),
        ("ne .L nil", "true"),
        ("ne .N .Missing", "true"),
        ("len (dict)", "0"),
        ("html", ""),
        ("js", ""),
        ("urlquery", ""),
        ("html nil", "&lt;no value&gt;"),
        ("html .L", "[a b c]"),
        ("html 1 2", "1 2"),
        ("js 1.5", "1.5"),
        ("len (list .Missing)", "1"),
        ('index "é" 1', "169"),
        ('len "\\xff"', "1"),
        ('html "\\xff"', "�"),
        ('js "\\xff"', "�"),
        ('urlquery "\\xff"', "%FF"),
        ('(index .M "q").x', "<no value>"),
    ],
)
def test_they_do_what_go_s_do(expression: str, text: str, data: Value) -> None:
    assert Template(f"{{{{{expression}}}}}").render(data) == text


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("index .N 0", "index needs a text, a list or a map, not int"),
        ("eq .N 3.0", "int and float64 cannot be compared"),
        ("eq .L .L", "[]interface {} and []interface {} cannot be compared"),
        ("eq 1", "eq takes at least 2 arguments, not 1"),
        ("ne 1 2 3", "ne takes 2 arguments, not 3"),
        ("lt 1 1.5", "int and float64 have no order"),
        ("lt true false", "bool and bool have no order"),
        ('lt "a" 1', "string and int have no order"),
        ('eq "1" 1', "string and int cannot be compared"),
        ("not", "not takes 1 argument, not 0"),
        ("lt .Nil 1", "<nil> and int have no order"),
        ("eq .M .M", "map[string]interface {} and map[string]interface {} cannot be compared"),
        ("len .Nil", "len needs a text, a list or a map, not <nil>"),
        ("len 3", "len needs a text, a list or a map, not int"),
        ("index .L 3", "index 3 is outside of the 3 elements"),
        ("index .L -1", "index -1 is outside of the 3 elements"),
        ('index .L "a"', "index needs a whole number for a list or a text, not string"),
        ("index .M 1", "index needs a text as the key of a map, not int"),
        ("index .Nil 1", "index needs a text, a list or a map, not nil"),
        ("len", "len takes 1 argument, not 0"),
        ("eq .L .M", "[]interface {} and map[string]interface {} cannot be compared"),
        ("eq .L 1", "[]interface {} and int cannot be compared"),
        ("eq 1 .L", "int and []interface {} cannot be compared"),
        ('eq 1 "a" 1', "int and string cannot be compared"),
        ("lt 1 nil", "int and <nil> have no order"),
        ("lt .L .L", "[]interface {} and []interface {} have no order"),
        ("lt .F .N", "float64 and int have no order"),
        ("index .L nil", "index needs a whole number for a list or a text, not <nil>"),
        ("index .L 1.0", "index needs a whole number for a list or a text, not float64"),
        ("index .L true", "index needs a whole number for a list or a text, not bool"),
        ("not 1 2", "not takes 1 argument, not 2"),
        ("(index .L 0).x", "string has no field .x"),
    ],
)
def test_what_they_refuse_is_said(expression: str, problem: str, data: Value) -> None:
    with pytest.raises(TemplateFailed) as caught:
        Template(f"{{{{{expression}}}}}").render(data)
    assert problem in caught.value.message
