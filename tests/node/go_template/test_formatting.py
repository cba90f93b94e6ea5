"""Expected texts are what Go 1.26 printed."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.go_template.errors import OverLimit, Problem
from localai.node.go_template.formatting import (
    format_value,
    positional,
    print_format,
    print_line,
    print_values,
    shortest,
)
from localai.node.go_template.limits import MAX_NESTING, MAX_TEXT_CHARS, Budget
from localai.node.go_template.template import Template
from localai.node.go_template.values import MISSING, Field, Record, Value


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("print .Nil", "<nil>"),  # a function prints nil as <nil>, an action as <no value>
        ("(print 1 2)", "1 2"),
        ("print (len .L) (len .S)", "3 3"),
        ("print nil", "<nil>"),
        ("print 1 2", "1 2"),
        ('printf "a" nil', "a%!(EXTRA <nil>)"),
        ('print "a" "b"', "ab"),
        ('print 1 "b" 2 3', "1b2 3"),  # a blank only where neither side is a text
        ("print .L .M", "[a b c] map[a:2 b:1]"),
        ('println 1 "a"', "1 a\n"),
        ("println", "\n"),
        ("print", ""),
        ('printf "%s %d %v %q %t %f %%" "a" 1 2 "q" true 1.5', 'a 1 2 "q" true 1.500000 %'),
        ('printf "%s" 1', "%!s(int=1)"),
        ('printf "%d" "x"', "%!d(string=x)"),  # complaints are part of the output
        ('printf "%v %v" 1', "1 %!v(MISSING)"),
        ('printf "%v" 1 2', "1%!(EXTRA int=2)"),
        ('printf "%5d|%-5d|%05d|%+d" 42 42 42 42', "   42|42   |00042|+42"),
        ('printf "%5s|%-5s|%.2s" "abc" "abc" "abc"', "  abc|abc  |ab"),
        ('printf "%6.2f|%.0f|%f" 3.14159 2.5 1.0', "  3.14|2|1.000000"),
        ('printf "%x %X %o %b %c %U" 255 255 8 5 65 65', "ff FF 10 101 A U+0041"),
        ('printf "%x" "hi"', "6869"),
        ('printf "%v" .L', "[a b c]"),
        ('printf "%v" .M', "map[a:2 b:1]"),
        ('printf "%s" .L', "[a b c]"),
        ('printf "%q" .L', '["a" "b" "c"]'),
        ('printf "%d" .LL', "[[1 2] [3]]"),
        ('printf "%v" nil', "<nil>"),
        ('printf "%s" nil', "%!s(<nil>)"),
        ('printf "%t" 1', "%!t(int=1)"),
        ('printf "%z" 1', "%!z(int=1)"),
        ('printf "%"', "%!(NOVERB)"),
        ('printf "%d" 1.5', "%!d(float64=1.5)"),
        ('printf "%v %v %v" true .Nil 1.0', "true <nil> 1"),
        ('printf "%e %g %G" 1234.5 1234.5 1e-7', "1.234500e+03 1234.5 1E-07"),
        ('printf "%q" 65', "'A'"),
        ('printf "%T" 1', "int"),
        ('printf "% d" 5', " 5"),
        ('printf "%6v|" "ab"', "    ab|"),
        ('printf "%q" "a\\n\\t\\"é\\x00\\u200b"', '"a\\n\\t\\"é\\x00\\u200b"'),
        ('printf "%-8q|" "a"', '"a"     |'),
        ('printf "%v" "x"', "x"),
        ('printf "%.3v" 3.14159', "3.14"),
        ('printf "%s %s" "a" true', "a %!s(bool=true)"),
        ('printf "%v" 1e6', "1e+06"),  # as C's %g with as few digits as needed
        ('printf "%v" 123456789.0', "1.23456789e+08"),
        ('printf "%v" 1e-5', "1e-05"),
        ('printf "%s" .M', "map[a:%!s(int=2) b:%!s(int=1)]"),
        ('printf "%q" .M', "map[\"a\":'\\x02' \"b\":'\\x01']"),
        ('printf "%+v" 1', "1"),
        ('printf "%5t|" true', " true|"),
        ('printf "%!" 1', "%!!(int=1)"),
        ('printf "é%d" 1', "é1"),
        ('printf "%5.1f|" -2.25', " -2.2|"),
        ('printf "%+.1f" 2.0', "+2.0"),
        ('printf "%010.3f" -3.14159', "-00003.142"),
        ('printf "%x" -255', "-ff"),
        ('printf "%08b" 5', "00000101"),
        ("print 1 -", "1"),
        ("print `a\nb`", "a\nb"),
        ("print 1.0", "1"),
        ('printf "%v" .Missing', "<nil>"),
        ('printf "%s" .Missing', "%!s(<nil>)"),
        ("print .Missing", "<nil>"),
        ("print .Missing .Nil 1", "<nil> <nil> 1"),
        ("println .Missing", "<nil>\n"),
        ('printf "%d" nil', "%!d(<nil>)"),
        ('printf "%q" nil', "%!q(<nil>)"),
        ('printf "%c" 0x1F600', "😀"),
        ('printf "%c" -1', "�"),
        ('printf "%q" 0x1F600', "'😀'"),
        ('printf "%U" 0x1F600', "U+1F600"),
        ('printf "%x" .L', "[61 62 63]"),
        ('printf "%X" "hi"', "6869"),
        ('printf "% x" "hi"', "68 69"),
        ('printf "%d" .M', "map[%!d(string=a):2 %!d(string=b):1]"),
        ('printf "%d" true', "%!d(bool=true)"),
        ('printf "%s" .F', "%!s(float64=1.5)"),
        ('printf "%5d" .L', "[%!d(string=    a) %!d(string=    b) %!d(string=    c)]"),
        ('printf "%v" .LL', "[[1 2] [3]]"),
        ('printf "%t" .L', "[%!t(string=a) %!t(string=b) %!t(string=c)]"),
        ('printf "%q" "`"', '"`"'),
        ('printf "%q" "\\x7f\\u00ad"', '"\\x7f\\u00ad"'),
        ('printf "%+q" "é"', '"\\u00e9"'),
        ('printf "%t" nil', "%!t(<nil>)"),
        ('printf "%-5t|" true', "true |"),
        ('printf "%05s|" "ab"', "000ab|"),
        ('printf "%-05d|" 3', "3    |"),  # no zeros on the right side
        ('printf "%.5d" 3', "00003"),
        ('printf "%8.3d|" 3', "     003|"),
        ('printf "%+v" .M', "map[a:2 b:1]"),
        ('printf "%.1q" "é"', '"é"'),
        ('printf "%.1s" "éa"', "é"),
        ('printf "%3s|" "é"', "  é|"),
        ('printf "%T %T %T %T %T" 1 "a" true nil .L', "int string bool <nil> []interface {}"),
        ('printf "%T" .M', "map[string]interface {}"),
        ('printf "%T" 1.5', "float64"),
        ('printf "%p" 1', "%!p(int=1)"),
        ('printf "%w" 1', "%!w(int=1)"),
        ('printf "%O" 8', "0o10"),
        ('printf "%v" 100000.0', "100000"),
        ('printf "%v" 1000000.0', "1e+06"),
        ('printf "%v" 0.0001', "0.0001"),
        ('printf "%v" -0.0', "-0"),
        ('printf "%g" 100000.0', "100000"),
        ('printf "%g" 1e21', "1e+21"),
        ('printf "%.2g" 1234.0', "1.2e+03"),
        ('printf "%.0e" 15.0', "2e+01"),
        ('printf "%10v|" 1.5', "       1.5|"),
        ('printf "%-10v|" 1.5', "1.5       |"),
        ('printf "%6v|" .L', "[     a      b      c]|"),
        ('printf "%06v" 1.5', "0001.5"),
        ('printf "%+d" -1', "-1"),
        ('printf "%x" ""', ""),
        ('printf "%.d" 0', ""),
        ('printf "%é" 1', "%!é(int=1)"),
        ('printf "%d %d" 1 "x" 3', "1 %!d(string=x)%!(EXTRA int=3)"),
        ('printf "%%%d" 1', "%1"),
        ('printf "%5%|"', "%|"),
        ('printf "a%" 1', "a%!(NOVERB)%!(EXTRA int=1)"),
        ('printf (print "%d") 1', "1"),
        ("printf .Input", "Hi"),
        ('printf "%s" "\\xff"', "�"),
        ('printf "%q" "\\xff"', '"\\xff"'),
        ('printf "%v" "\\xff"', "�"),
        ('print "\\xc3" "\\xa9"', "é"),  # two bytes that make one character
        ('printf "%s%s" "\\xc3" "\\xa9"', "é"),
        ("print (1)", "1"),
        ("print (print (print 1))", "1"),
        ("print '☺'", "9786"),
        ("print 1 -1", "1 -1"),
        ("print 1 +1", "1 1"),
        ("print .Nest.X", "<nil>"),
    ],
)
def test_printing_is_go_s(expression: str, text: str, data: Value) -> None:
    assert Template(f"{{{{{expression}}}}}").render(data) == text


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("printf 5", "printf needs a text as argument 1, not int"),
        ("printf", "printf takes at least 1 argument, not 0"),
        ("print .N.x", "int has no field .x"),
        ("printf .Nil", "printf needs a text as argument 1, not <nil>"),
        ("(print) 2", "a value that is no function gets arguments"),
        ('printf "%*d" 5 42', "printf with * is not supported"),
        ('printf "%[1]d" 5', "printf with [ is not supported"),
        ('printf "%#v" 5', "printf with # is not supported"),
        ('printf "%x" 1.5', "printf %x is not supported for float64"),
        ('printf "%12345678d" 1', "more than 7 digits"),
        ('printf "%.12345678f" 1.5', "more than 7 digits"),
        ('printf "%9999999d" 1', "more than 1 MiB"),
        ('printf "%.9999999f" 1.5', "more than 1 MiB"),
    ],
)
def test_what_cannot_be_printed_is_said(expression: str, problem: str, data: Value) -> None:
    with pytest.raises(Exception, match="column") as caught:
        Template(f"{{{{{expression}}}}}").render(data)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "value", "text"),
    [
        ("%v", math.inf, "+Inf"),
        ("%6.1f|", -math.inf, "  -Inf|"),
        ("%06f|", math.nan, "   NaN|"),
        ("%+v", math.nan, "NaN"),
        ("%+f", math.nan, "+NaN"),
        ("%v", -0.0, "-0"),
        ("%v", 5e-324, "5e-324"),
        ("%v", 1.7976931348623157e308, "1.7976931348623157e+308"),
        ("%O", -8, "-0o10"),
        ("%v", Record((Field("A", 1), Field("B", [None, MISSING]))), "{1 [<nil> <nil>]}"),
        ("%T", Record(()), "struct"),
        ("%d", [1, "x", None], "[1 %!d(string=x) <nil>]"),
    ],
)
def test_values_that_no_literal_makes(pattern: str, value: Value, text: str) -> None:
    assert print_format(pattern, [value], Budget()) == text


def test_the_three_ways_of_putting_blanks() -> None:
    values: list[Value] = ["a", 1, 2, "b", True]
    assert print_values(values, Budget()) == "a1 2btrue"
    assert print_line(values, Budget()) == "a 1 2 b true\n"
    assert format_value(values, Budget()) == "[a 1 2 b true]"


def test_too_much_is_refused() -> None:
    half = "x" * (MAX_TEXT_CHARS // 2 + 1)
    deep: Value = 1
    for _ in range(MAX_NESTING + 1):
        deep = [deep]
    for value in ([half, half], {"a": half, "b": half}, half + half, deep):
        with pytest.raises(OverLimit):
            format_value(value, Budget())
    with pytest.raises(OverLimit):
        print_format("%s%s", [half, half], Budget())
    with pytest.raises(Problem, match="cannot use"):
        format_value({"a": {1}}, Budget())  # type: ignore[dict-item]  # what a caller must not do


@given(st.floats(min_value=0, allow_infinity=False, allow_nan=False))
def test_both_spellings_of_a_number_are_the_number(number: float) -> None:
    assert float(shortest(number)) == number
    assert float(positional(number)) == number
    assert "e" not in positional(number)


@given(st.text(st.sampled_from("%+- 0159.vsqdxXcUteEfFgGTbO*[#é")), st.lists(st.integers() | st.text() | st.floats()))
def test_any_pattern_gives_a_text_or_our_error(pattern: str, values: list[Value]) -> None:
    with suppress(Problem):
        assert len(print_format(pattern, values, Budget())) <= 2 * MAX_TEXT_CHARS
