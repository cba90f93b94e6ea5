"""Expected texts are what sprig 3.3 gave under Go 1.26."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.go_template.collection_functions import to_int, wrapped
from localai.node.go_template.errors import BadTemplate, TemplateFailed
from localai.node.go_template.literals import MAX_INT, MIN_INT
from localai.node.go_template.template import Template
from localai.node.go_template.values import Value


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("slice .E 1", "<no value>"),  # nil
        ("slice .L 1", "[b c]"),
        ("slice .L 1 2", "[b]"),
        ("slice .L", "[a b c]"),
        ("slice .L 0 1 2", "[a]"),
        ("slice .L 3", "[]"),
        ('default "d" ""', "d"),
        ('default "d" "v"', "v"),
        ('default "d" .Missing', "d"),
        ('default "d" 0', "d"),
        ('default "d"', "d"),
        ('default "d" .E', "d"),
        ('default "d" false', "d"),
        ('empty ""', "true"),
        ("empty .L", "false"),
        ("empty .Missing", "true"),
        ("empty 0.0", "true"),
        ('coalesce 0 "" "x"', "x"),
        ('coalesce 0 ""', "<no value>"),
        ('ternary "a" "b" true', "a"),
        ('ternary "a" "b" false', "b"),
        ("all 1 2 0", "false"),
        ('any 0 "" 1', "true"),
        ("all", "true"),
        ("any", "false"),
        ('list 1 2 "a"', "[1 2 a]"),
        ("list", "[]"),
        ('dict "a" 1 "b" 2', "map[a:1 b:2]"),
        ('dict "a"', "map[a:]"),  # a key without value gets an empty text
        ("dict 1 2", "map[1:2]"),
        ('get (dict "a" 1) "a"', "1"),
        ('get (dict "a" 1) "b"', ""),  # an empty text, unlike index
        ('hasKey .M "a"', "true"),
        ('hasKey .M "x"', "false"),
        ('keys (dict "a" 1)', "[a]"),
        ('values (dict "a" 1)', "[1]"),
        ("keys .M | sortAlpha", "[a b]"),
        ('append .L "d"', "[a b c d]"),
        ('prepend .L "z"', "[z a b c]"),
        ("first .L", "a"),
        ("last .L", "c"),
        ("first .E", "<no value>"),
        ("last .E", "<no value>"),
        ("rest .L", "[b c]"),
        ("initial .L", "[a b]"),
        ("reverse .L", "[c b a]"),
        ("uniq (list 1 1 2)", "[1 2]"),
        ('without .L "b"', "[a c]"),
        ('has "a" .L', "true"),
        ("has 4 .L", "false"),
        ('compact (list 1 0 "" 2)', "[1 2]"),
        ("rest .E", "[]"),
        ("initial .E", "[]"),
        ('(dict "a" (dict "b" 3)).a.b', "3"),
        ("until 3", "[0 1 2]"),
        ("until 0", "[]"),
        ("until -2", "[0 -1]"),  # counts down
        ("concat .L .E (list 1)", "[a b c 1]"),
        ("has 1 nil", "false"),
        ('dict "a" 1 "a" 2', "map[a:2]"),
        ("dict nil 1", "map[<nil>:1]"),
        ('get .Missing "x"', ""),
        ("uniq (list (list 1) (list 1))", "[[1]]"),
        ("has (list 1) (list (list 1))", "true"),
        ("without (list 1 2 3) 1 3", "[2]"),
        ("add 1 2 3", "6"),
        ('add 1 "2"', "3"),
        ("add", "0"),
        ("add1 4", "5"),
        ("sub 5 3", "2"),
        ("mul 2 3 4", "24"),
        ("div 7 2", "3"),
        ("div -7 2", "-3"),
        ("mod 7 3", "1"),
        ("mod -7 3", "-1"),
        ("max 1 5 3", "5"),
        ("min 4 2 3", "2"),
        ("add 1.9 1", "2"),
        ('add "x" 1', "1"),
        ("add true 1", "2"),
        ("add .Nil 1", "1"),
        ("mul 9223372036854775807 2", "-2"),  # wraps around
        ("add 9223372036854775807 1", "-9223372036854775808"),
        ('int "12"', "12"),
        ("int 3.7", "3"),
        ('int64 "0x10"', "16"),
        ("int nil", "0"),
        ("int true", "1"),
        ("max 1", "1"),
        ('int "1.9"', "0"),  # not read as a number at all, unlike 5.0
        ('int "x"', "0"),
        ('int "010"', "8"),  # octal
        ('add "010" 1', "9"),
        ("div -9223372036854775808 -1", "-9223372036854775808"),
        ("sub -9223372036854775808 1", "9223372036854775807"),
        ('add " 1" 1', "1"),
        ('add "1_0" 1', "11"),
        ('int ""', "0"),
        ("int .L", "0"),
        ('add "0b11" 1', "4"),
        ('int "-5"', "-5"),
        ("int -3.7", "-3"),
        ('int "1e3"', "0"),
        ('int "5.0"', "5"),
        ('int "5.00"', "5"),
        ('int "5."', "0"),
        ('int "000"', "0"),
        ('int "-007"', "-7"),
        ('int "+5"', "5"),
        ("int 1e300", "-9223372036854775808"),
        ("kindOf .L", "slice"),
        ("kindOf .M", "map"),
        ("kindOf 1", "int"),
        ('kindOf ""', "string"),
        ("kindOf true", "bool"),
        ("kindOf 1.5", "float64"),
        ("kindOf nil", "invalid"),
        ('kindIs "string" .Input', "true"),
        ('kindIs "map" .M', "true"),
        ('kindIs "slice" (list)', "true"),
        ("slice .L nil", "[a b c]"),
        ('slice .L "1"', "[b c]"),
        ('hasKey .Missing "a"', "false"),
        ('hasKey nil "a"', "false"),
        ("keys .M .Nest | len", "3"),
        ("keys", "[]"),
        ("has .N (list 1 3)", "true"),
        ("has 3.0 (list 3)", "false"),
        ("without (list 1 nil) nil", "[1]"),
        ('uniq (list 1 1.0 "1" nil nil)', "[1 1 1 <nil>]"),
        ("compact (list nil 0 false 1.0)", "[1]"),
        ("first (list nil)", "<no value>"),
        ("append (list) nil", "[<nil>]"),
        ("concat", "[]"),
        ('kindIs "invalid" nil', "true"),
        ("kindOf .Missing", "invalid"),
        ("int64 3.9", "3"),
        ("default nil nil", "<no value>"),
        ("default 1 nil", "1"),
        ("default 1 2 3", "2"),
        ("empty nil", "true"),
        ("coalesce", "<no value>"),
        ("all nil", "false"),
        ('dict "a" nil', "map[a:<nil>]"),
        ("dict .L 1", "map[[a b c]:1]"),
        ("dict 1.5 1", "map[1.5:1]"),
        ("dict true 1", "map[true:1]"),
        ("list .Missing .Nil", "[<nil> <nil>]"),
        ('max 1.9 "5"', "5"),
        ("mod 5 -3", "2"),
        ("div 5 -2", "-2"),
        ("mul 2", "2"),
        ("add nil nil", "0"),
        ("add .L", "0"),
        ("add 1e300", "-9223372036854775808"),
        ("max 1 nil", "1"),
        ("(first .E).x", "<no value>"),
        ("keys .M .Nest", "[a b A]"),
        ("values .M", "[2 1]"),  # in key order; Go's order changes from run to run
    ],
)
def test_they_do_what_sprig_s_do(expression: str, text: str, data: Value) -> None:
    assert Template(f"{{{{{expression}}}}}").render(data) == text


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ('slice "abcdef" 2', "slice needs a list, not string"),
        ("slice .L 0 9", "slice from 0 to 9 is outside of the 3 elements"),
        ("slice .L 2 1", "slice from 2 to 1 is outside of the 3 elements"),
        ("slice 5 1", "slice needs a list, not int"),
        ('ternary 1 2 "x"', "ternary needs true or false as argument 3, not string"),
        ("first .Nil", "first needs a list, not <nil>"),
        ('first "abc"', "first needs a list, not string"),
        ("append .Nil 1", "append needs a list, not <nil>"),
        ('get .Nil "x"', "get needs a map as argument 1, not <nil>"),
        ('hasKey .Nil "x"', "hasKey needs a map as argument 1, not <nil>"),
        ("append .Input 1", "append needs a list, not string"),
        ("div 1 0", "div cannot divide by 0"),
        ("mod 1 0", "mod cannot divide by 0"),
        ("sub 1", "sub takes 2 arguments, not 1"),
        ("max", "max takes at least 1 argument, not 0"),
        ("slice .L -1", "slice from -1 to 3 is outside of the 3 elements"),
        ("slice nil", "slice needs a list, not <nil>"),
        ("get .M 1", "get needs a text as argument 2, not int"),
        ("values .E", "values needs a map as argument 1, not []interface {}"),
        ("until 3 4", "until takes 1 argument, not 2"),
        ("concat 1", "concat needs a list, not int"),
        ("concat nil", "concat needs a list, not <nil>"),
        ("ternary 1 2 nil", "ternary needs true or false as argument 3, not <nil>"),
        ('reverse "abc"', "reverse needs a list, not string"),
        ("min", "min takes at least 1 argument, not 0"),
        ("mul", "mul takes at least 1 argument, not 0"),
        ("sub 1 2 3", "sub takes 2 arguments, not 3"),
    ],
)
def test_what_they_refuse_is_said(expression: str, problem: str, data: Value) -> None:
    with pytest.raises(TemplateFailed) as caught:
        Template(f"{{{{{expression}}}}}").render(data)
    assert problem in caught.value.message


def test_lists_cannot_grow_without_end() -> None:
    for template in (
        "{{until 1000000000000}}",
        "{{until -1000000000000}}",
        "{{$x := list}}{{range 100000}}{{$x = append $x .}}{{end}}",
        "{{uniq (until 5000)}}",
    ):
        with pytest.raises(BadTemplate, match="steps"):
            Template(template).render(None)


@given(st.integers())
def test_numbers_stay_in_64_bits(number: int) -> None:
    assert MIN_INT <= wrapped(number) <= MAX_INT
    assert (wrapped(number) - number) % (1 << 64) == 0


@given(st.text() | st.floats() | st.integers() | st.none() | st.lists(st.integers()))
def test_anything_is_some_number(value: Value) -> None:
    assert MIN_INT <= to_int(value) <= MAX_INT
