from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from localai.mesh.errors import SetupError
from localai.mesh.network_token import ALPHABET, BadNetworkToken, NetworkToken, new_network_token
from localai.node.network_token_input import MAX_FILE_BYTES, draw_network_token, read_network_token
from localai.node.option_table import RUN, TOKEN_INSPECT, options_of
from localai.node.option_values import Places
from localai.node.options import UsageError, resolve

ONE = new_network_token(lambda length: "1" * length)
TWO = new_network_token(lambda length: "2" * length)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one").write_text(f"{ONE.text.reveal()}\n")


def read(
    flags: dict[str, str] | None = None, environ: dict[str, str] | None = None, argument: str | None = None
) -> NetworkToken | None:
    given = {key: [text] for key, text in (flags or {}).items()}
    values = resolve(options_of(TOKEN_INSPECT), given, environ or {}, Places(Path.cwd(), Path("/")))
    return read_network_token(values, given, environ or {}, argument)


@contextmanager
def standard_input(data: bytes) -> Iterator[None]:
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    kept = os.dup(0)
    os.dup2(reader, 0)
    os.close(reader)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)


T1, T2 = ONE.text.reveal(), TWO.text.reveal()


@pytest.mark.parametrize(
    ("flags", "environ", "argument", "expected"),
    [
        ({}, {}, None, None),
        ({}, {"LOCALAI_P2P_TOKEN": "", "LOCALAI_P2P_TOKEN_FILE": ""}, None, None),
        ({"p2p_token": T1}, {}, None, ONE),
        ({"p2p_token_file": "one"}, {}, None, ONE),
        ({}, {}, f" {T1}\n", ONE),
        ({}, {"TOKEN": T1}, None, ONE),
        ({}, {"LOCALAI_P2P_TOKEN_FILE": "one"}, None, ONE),
        ({}, {"LOCALAI_P2P_TOKEN_FILE": "one", "TOKEN": T2}, None, TWO),
        ({"p2p_token": T1}, {"LOCALAI_P2P_TOKEN_FILE": "gone", "LOCALAI_P2P_TOKEN": T2}, None, ONE),
        ({"p2p_token_file": "one"}, {"LOCALAI_P2P_TOKEN": T2}, None, ONE),
        ({}, {"LOCALAI_P2P_TOKEN": T2, "LOCALAI_P2P_TOKEN_FILE": "gone"}, T1, ONE),
    ],
)
def test_argument_then_flags_then_variables(
    flags: dict[str, str], environ: dict[str, str], argument: str | None, expected: NetworkToken | None
) -> None:
    assert read(flags, environ, argument) == expected


def test_standard_input_is_read_for_a_dash_and_stays_open() -> None:
    with standard_input(T1.encode() + b"\r\n"):
        assert read({"p2p_token_file": "-"}) == ONE
        os.fstat(0)
    with standard_input(T2.encode()):
        assert read(argument="-") == TWO


def test_a_byte_order_mark_is_no_part_of_the_token() -> None:
    Path("windows").write_bytes(b"\xef\xbb\xbf" + T1.encode() + b"\r\n")
    assert read({"p2p_token_file": "windows"}) == ONE


@pytest.mark.parametrize(
    ("flags", "argument", "ways"),
    [
        ({"p2p_token": T1, "p2p_token_file": "one"}, None, "--p2p-token and --p2p-token-file"),
        ({"p2p_token": T1}, T1, "--p2p-token and an argument"),
        ({"p2p_token_file": "one"}, "-", "--p2p-token-file and an argument"),
    ],
)
def test_a_token_given_twice_is_refused(flags: dict[str, str], argument: str | None, ways: str) -> None:
    with pytest.raises(UsageError, match=f"given twice, by {ways}; give it once"):
        read(flags, argument=argument)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"\xff\xff", "does not hold text"), (T1[:-3].encode(), "cut off"), (b"a b", "blanks inside")],
)
def test_a_broken_file_is_said(content: bytes, words: str) -> None:
    Path("broken").write_bytes(content)
    with pytest.raises(BadNetworkToken, match=words):
        read({"p2p_token_file": "broken"})


def test_a_file_that_cannot_be_read_or_is_too_large_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=f"{tmp_path}/gone cannot be read: no such file or directory"):
        read({"p2p_token_file": "gone"})
    with pytest.raises(SetupError, match="is a directory"):
        read({"p2p_token_file": "."})
    Path("large").write_bytes(b"a" * (MAX_FILE_BYTES + 1))
    with pytest.raises(SetupError, match=f"more than {MAX_FILE_BYTES} bytes"):
        read({"p2p_token_file": "large"})


def test_an_error_names_the_variable_but_no_flag() -> None:
    with pytest.raises(BadNetworkToken, match=r"characters that no token has.*\(from envar TOKEN\)$"):
        read(environ={"TOKEN": "s3cret!"})
    with pytest.raises(BadNetworkToken) as caught:
        read({"p2p_token": "s3cret!"}, {"TOKEN": T1})
    assert "envar" not in caught.value.message
    assert "s3cret" not in caught.value.message


def test_a_drawn_token_has_the_intervals_of_the_options_and_keys_of_its_own() -> None:
    given = {"p2p_dht_interval": ["60"], "p2p_otp_interval": ["600"]}
    values = resolve(options_of(RUN), given, {}, Places(Path("/"), Path("/")))
    first, second = draw_network_token(values), draw_network_token(values)
    assert (first.dht.interval_s, first.crypto.interval_s) == (60, 600)
    assert first.text != second.text
    keys = {key.reveal() for token in (first, second) for key in (token.dht.key, token.crypto.key, token.room)}
    assert len(keys) == 6
    assert set("".join(keys)) <= set(ALPHABET)
