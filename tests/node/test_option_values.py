from __future__ import annotations

import contextlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.option_values import (
    Address,
    Places,
    check_grpc_backend,
    check_header_value,
    check_listen_address,
    check_network_id,
    check_peer_address,
    parse_address,
    parse_bool,
    parse_choice,
    parse_duration,
    parse_file,
    parse_float,
    parse_int,
    parse_list,
    parse_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PLACES = Places(cwd=PurePosixPath("/base"), home=PurePosixPath("/home/ann"))


@pytest.mark.parametrize("text", ["true", "1", "yes", "TRUE", "Yes"])
def test_bool_true(text: str) -> None:
    assert parse_bool(text) is True


@pytest.mark.parametrize("text", ["false", "0", "no", "False", "NO"])
def test_bool_false(text: str) -> None:
    assert parse_bool(text) is False


@pytest.mark.parametrize("text", ["on", "off", "", "2", "t", " true"])
def test_bool_refuses_other_words(text: str) -> None:
    with pytest.raises(ValueError, match="needs true, 1, yes"):
        parse_bool(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("12", 12),
        ("-1", -1),
        ("+3", 3),
        ("0x1F", 31),
        ("-0x10", -16),
        ("0o17", 15),
        ("0b101", 5),
        ("010", 10),
    ],
)
def test_int(text: str, value: int) -> None:
    assert parse_int(text) == value


@pytest.mark.parametrize("text", ["", "1.0", "1e3", "x", "1_000", "0x", "0o8", "0b2", " 1", "٣", "--1"])
def test_int_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="needs a whole number"):
        parse_int(text)


def test_int_refuses_what_python_would_choke_on() -> None:
    with pytest.raises(ValueError, match="at most 64 digits"):
        parse_int("9" * 5000)


@given(st.integers(min_value=1 - 2**64, max_value=2**64 - 1))
def test_int_reads_every_notation(value: int) -> None:
    assert parse_int(str(value)) == parse_int(hex(value)) == parse_int(oct(value)) == parse_int(bin(value)) == value


@pytest.mark.parametrize(("text", "value"), [("0.95", 0.95), ("1", 1.0), (".5", 0.5), ("2.", 2.0), ("-1e-3", -0.001)])
def test_float(text: str, value: float) -> None:
    assert parse_float(text) == value


@pytest.mark.parametrize("text", ["", "nan", "inf", "1e999", "x", "1_0.0", "."])
def test_float_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="needs a number"):
        parse_float(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("90s", 90.0),
        ("1m30s", 90.0),
        ("500ms", 0.5),
        ("1h", 3600.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("10us", 1e-5),
        ("10µs", 1e-5),
        ("10μs", 1e-5),
        ("1ns", 1e-9),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "90", "1m30", "s", "1d", "-1s", "1s ", "1 s", "1s1", "٣s"])
def test_duration_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="needs a time with its unit"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("", ()),
        ("a", ("a",)),
        ("a,b", ("a", "b")),
        (" a , b ", ("a", "b")),
        ("a,,b,", ("a", "b")),
        (r"a\,b,c", ("a,b", "c")),
        (r"a\b", (r"a\b",)),
    ],
)
def test_list(text: str, items: tuple[str, ...]) -> None:
    assert parse_list(text) == items


@given(st.lists(st.text(st.characters(exclude_characters="\\", exclude_categories=["Cs", "Z", "Cc"]), min_size=1)))
def test_list_gives_escaped_items_back(items: list[str]) -> None:
    assert parse_list(",".join(item.replace(",", "\\,") for item in items)) == tuple(items)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("models", "/base/models"),
        ("./models", "/base/models"),
        ("/srv/m", "/srv/m"),
        ("~", "/home/ann"),
        ("~/m", "/home/ann/m"),
        ("~bob/m", "/base/~bob/m"),
    ],
)
def test_path(text: str, path: str) -> None:
    assert parse_path(text, PLACES) == PurePosixPath(path)


def test_empty_path_switches_the_feature_off() -> None:
    assert parse_path("", PLACES) is None


def test_a_file_is_a_path_or_standard_input() -> None:
    assert parse_file("-", PLACES) == PurePosixPath("-")
    assert parse_file("./-", PLACES) == PurePosixPath("/base/-")
    assert parse_file("~/t", PLACES) == PurePosixPath("/home/ann/t")
    assert parse_file("", PLACES) is None


def test_addresses_of_the_mesh() -> None:
    check_listen_address("/ip4/0.0.0.0/tcp/0")
    check_peer_address("/dns/box/tcp/1/p2p/QmPeer")
    with pytest.raises(ValueError, match=r'cannot use "0.0.0.0:1": it must look like /ip4/'):
        check_listen_address("0.0.0.0:1")
    with pytest.raises(ValueError, match=r'cannot use "/ip4/1.2.3.4/tcp/1": it does not end in /p2p/'):
        check_peer_address("/ip4/1.2.3.4/tcp/1")


def test_network_ids() -> None:
    check_network_id("")
    check_network_id("home.lab_2-b")
    with pytest.raises(ValueError, match=r'cannot be "a b": a network id has at most 64 .* underscores$'):
        check_network_id("a b")


@pytest.mark.parametrize("text", ["mine", ":1", "mine:", " : "])
def test_grpc_backends_have_a_name_and_a_target(text: str) -> None:
    with pytest.raises(ValueError, match="needs NAME:TARGET"):
        check_grpc_backend(text)


def test_grpc_backends_are_refused_for_now() -> None:
    with pytest.raises(ValueError, match='cannot be used yet, and "mine" would not answer'):
        check_grpc_backend("mine:127.0.0.1:9000")


def test_choice() -> None:
    assert parse_choice("b", ("a", "b")) == "b"
    with pytest.raises(ValueError, match='must be one of a, b, not "c"'):
        parse_choice("c", ("a", "b"))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        (":8080", Address("", 8080)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:80", Address("::1", 80)),
        ("[::]:65535", Address("::", 65535)),
    ],
)
def test_address(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "needs host:port"),
        ("8080", "needs host:port"),
        ("localhost", "needs host:port"),
        ("localhost:", "needs host:port"),
        ("localhost:http", "needs host:port"),
        ("localhost:65536", "needs host:port"),
        ("localhost:123456", "needs host:port"),
        ("localhost:٣", "needs host:port"),
        ("localhost:²", "needs host:port"),
        ("::1:8080", "needs brackets"),
        ("http://localhost:8080", "needs brackets"),
        ("a b:80", "needs a host name"),
        ("a/b:80", "needs a host name"),
    ],
)
def test_address_refuses(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_address(text)


@given(st.text(), st.sampled_from([parse_bool, parse_int, parse_float, parse_duration, parse_address]))
def test_parsers_only_ever_raise_value_errors(text: str, parse: Callable[[str], object]) -> None:
    with contextlib.suppress(ValueError):
        parse(text)


def test_what_can_stand_in_a_header() -> None:
    for text in ("", "box-7", "a b", "x" * 200):
        check_header_value(text)
    for text in ("a\r\nb", "ü", "\x00", "x" * 201):
        with pytest.raises(ValueError, match="plain characters"):
            check_header_value(text)
