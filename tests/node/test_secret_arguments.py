from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import SetupError
from localai.node.arguments import split_command
from localai.node.option_table import COMMANDS, OPTIONS
from localai.node.options import Command
from localai.node.secret_arguments import Separated, parse_secret_words, put_back, render_secret_words, separate


def separated(*tokens: str) -> tuple[list[str], list[str]]:
    """Public and secret tokens."""
    found = separate(*split_command(tokens))
    return list(found.public), [token for _, token in found.secret]


@pytest.mark.parametrize(
    ("tokens", "public", "secret"),
    [
        ([], [], []),
        (["phi", "--threads", "4"], ["phi", "--threads", "4"], []),
        (["--p2p-token", "T"], [], ["--p2p-token", "T"]),
        (["a", "--p2ptoken=T", "b"], ["a", "b"], ["--p2ptoken=T"]),
        (["--api-keys", "k", "run", "--api-keys=l", "-t", "4"], ["-t", "4"], ["--api-keys", "k", "--api-keys=l"]),
        (["federated", "--p2p-token=T", "--random-worker"], ["--random-worker"], ["--p2p-token=T"]),
        (["--p2p-token-file", "f"], ["--p2p-token-file", "f"], []),
        (["p2p", "token", "inspect", "T"], [], ["T"]),
        (["p2p", "token", "inspect", "--", "T"], ["--"], ["T"]),
        (["p2p", "token", "inspect", "-h", "-"], ["-h", "-"], []),
        (["p2p", "token", "qr", "T", "--output", "q.png"], ["--output", "q.png"], ["T"]),
        (["p2p", "token"], [], []),
        (["-h"], ["-h"], []),
        (["--", "--p2p-token", "T"], ["--", "--p2p-token", "T"], []),
    ],
)
def test_secrets_are_taken_out(tokens: list[str], public: list[str], secret: list[str]) -> None:
    assert separated(*tokens) == (public, secret)


def test_a_command_line_that_is_about_to_be_refused_stays_whole() -> None:
    assert separated("--p2p-token", "T", "--nonsense") == (["--p2p-token", "T", "--nonsense"], [])


TOKENS = st.one_of(
    st.sampled_from([name for option in OPTIONS for name in option.names]),
    st.sampled_from(["--", "-", "-h", "--api-keys=a", "--p2p-token=x", "", "\udcff"]),
    st.text(max_size=6),
)


@given(st.sampled_from(COMMANDS), st.lists(TOKENS, max_size=8))
def test_what_was_taken_out_can_be_handed_over_and_put_back(command: Command, tokens: list[str]) -> None:
    apart = separate(command, tokens)
    words = parse_secret_words(render_secret_words(apart.secret))
    assert put_back(Separated(apart.public, words)) == tokens


@given(st.lists(TOKENS, max_size=8))
def test_the_second_program_reads_the_same_command(tokens: list[str]) -> None:
    command, rest = split_command(tokens)
    if command:
        public = separate(command, rest).public
        assert split_command([*command.name.split(), *public]) == (command, list(public))


@pytest.mark.parametrize("data", [b"", b"{", b"1", b'[["a", "b"]]', b"[[1]]", b"[[1, 2]]", b"\xff", b"[" * 100_000])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(SetupError, match="got lost on the way"):
        parse_secret_words(data)
