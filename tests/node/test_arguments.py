from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.arguments import Parsed, closest_command, edit_distance, parse, read_tokens, scan, split_command
from localai.node.option_table import COMMANDS, OPTIONS, RUN, options_of
from localai.node.options import UsageError

BY_NAME = {command.name: command for command in COMMANDS}


def run(*tokens: str) -> Parsed:
    return parse(BY_NAME[RUN], options_of(RUN), tokens)


@pytest.mark.parametrize(
    ("tokens", "command", "rest"),
    [
        ([], "run", []),
        (["run"], "run", []),
        (["run", "phi"], "run", ["phi"]),
        (["phi"], "run", ["phi"]),
        (["phi", "version"], "run", ["phi", "version"]),
        (["--threads", "4"], "run", ["--threads", "4"]),
        (["--threads", "4", "phi"], "run", ["--threads", "4", "phi"]),
        (["--threads", "4", "run", "phi"], "run", ["--threads", "4", "phi"]),
        (["-t", "version"], "run", ["-t", "version"]),
        (["-t4", "version"], "version", ["-t4"]),
        (["--f16", "run"], "run", ["--f16"]),
        (["--log-level", "debug", "completion", "bash"], "completion", ["--log-level", "debug", "bash"]),
        (["--log-level=debug", "version"], "version", ["--log-level=debug"]),
        (["--version"], "run", ["--version"]),
        (["--", "version"], "run", ["--", "version"]),
        (["-h", "run"], "run", ["-h"]),
        (["--threads", "4", "-h"], "run", ["--threads", "4", "-h"]),
        (["--threads"], "run", ["--threads"]),
        (["-h"], None, ["-h"]),
        (["--help", "-h"], None, ["--help", "-h"]),
        (["p2p"], "p2p", []),
        (["p2p", "-h"], "p2p", ["-h"]),
        (["p2p", "token"], "p2p token", []),
        (["p2p", "token", "--help"], "p2p token", ["--help"]),
        (["p2p", "token", "new"], "p2p token new", []),
        (["p2p", "token", "inspect", "abc"], "p2p token inspect", ["abc"]),
        (["p2p", "token", "inspect", "new"], "p2p token inspect", ["new"]),
        (["--log-level", "debug", "p2p", "-h", "token", "new"], "p2p token new", ["--log-level", "debug", "-h"]),
        (["p2p", "token", "nwe"], "p2p token", ["nwe"]),
        (["p2p", "--", "token"], "p2p", ["--", "token"]),
        (["p2p", "version"], "p2p", ["version"]),
        (["phi", "p2p", "token"], "run", ["phi", "p2p", "token"]),
        (["token", "new"], "run", ["token", "new"]),
        (["federated", "--address", "p2p"], "federated", ["--address", "p2p"]),
    ],
)
def test_split_command(tokens: list[str], command: str | None, rest: list[str]) -> None:
    found, left = split_command(tokens)
    assert (found.name if found else None, left) == (command, rest)


def test_bool_takes_a_value_only_after_the_equals_sign() -> None:
    assert run("--f16") == Parsed({"f16": ["true"]}, (), help=False)
    assert run("--f16=false") == Parsed({"f16": ["false"]}, (), help=False)
    assert run("--f16", "false") == Parsed({"f16": ["true"]}, ("false",), help=False)
    assert run("--f16=") == Parsed({"f16": [""]}, (), help=False)


@pytest.mark.parametrize("tokens", [["--threads", "4"], ["--threads=4"], ["-t", "4"], ["-t4"], ["-t=4"]])
def test_ways_to_give_a_value(tokens: list[str]) -> None:
    assert run(*tokens).texts == {"threads": ["4"]}


def test_values_may_be_negative_empty_a_dash_or_hold_equals_signs() -> None:
    assert run("--context-size", "-1").texts == {"context_size": ["-1"]}
    assert run("--models-path", "-").texts == {"models_path": ["-"]}
    assert run("--models-path=").texts == {"models_path": [""]}
    assert run("--api-keys=a=b").texts == {"api_keys": ["a=b"]}


def test_repeats_are_kept_in_order_and_aliases_share_the_key() -> None:
    assert run("--api-keys", "a", "--api-keys=b,c").texts == {"api_keys": ["a", "b,c"]}
    assert run("--allow-insecure-public-bind").texts == {"allow_anonymous": ["true"]}


def test_old_names_are_noticed() -> None:
    parsed = run("--p2ptoken", "a", "--p2p-token=b", "--p2ptoken=c", "--peer-2-peer-network-id=home")
    assert parsed.texts == {"p2p_token": ["a", "b", "c"], "p2p_network_id": ["home"]}
    assert parsed.old_names == (("--p2ptoken", "--p2p-token"), ("--p2ptoken", "--p2p-token"))


def test_what_was_said_knows_its_place() -> None:
    tokens = ["a", "-h", "--threads", "4", "-t5", "--f16", "--", "-x", "b"]
    said = [(each.text, each.name, each.help, list(each.tokens)) for each in read_tokens(options_of(RUN), tokens)]
    assert said == [
        ("a", "", False, [0]),
        ("-h", "", True, [1]),
        ("4", "--threads", False, [2, 3]),
        ("5", "-t", False, [4]),
        ("true", "--f16", False, [5]),
        ("-x", "", False, [7]),
        ("b", "", False, [8]),
    ]


def test_positionals_mix_with_flags_and_end_them_after_two_dashes() -> None:
    assert run("a", "--f16", "b", "-", "--", "--threads", "-h") == Parsed(
        {"f16": ["true"]}, ("a", "b", "-", "--threads", "-h"), help=False
    )


def test_help_is_seen_anywhere_and_skips_the_other_checks() -> None:
    assert run("a", "-h").help
    assert parse(BY_NAME["completion"], options_of("completion"), ["--help"]).help


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["--thread", "4"], 'unknown flag --thread, did you mean "--threads"?'),
        (["--thread=4"], 'unknown flag --thread, did you mean "--threads"?'),
        (["--no-f16"], 'unknown flag --no-f16, did you mean "--f16=false"?'),
        (["--no-threads"], 'unknown flag --no-threads, did you mean "--threads"?'),
        (["--halp"], 'unknown flag --halp, did you mean "--help"?'),
        (["--debgu"], "unknown flag --debgu"),
        (["--qqqqqq"], "unknown flag --qqqqqq"),
        (["-x"], "unknown flag -x"),
        (["-x=1"], "unknown flag -x=1"),
        (["--threads"], "--threads needs a value, such as --threads=0"),
        (["-t", "--f16"], "-t needs a value, such as -t=0"),
        (["--api-keys", "-t"], "--api-keys needs a value, such as --api-keys=<list>"),
    ],
)
def test_usage_errors_of_run(tokens: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        run(*tokens)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("command", "tokens", "message"),
    [
        ("version", ["x"], 'unexpected argument "x"'),
        ("version", ["--threads", "4"], "unknown flag --threads"),
        ("completion", [], "completion needs one of bash, zsh, fish"),
        ("completion", ["tcsh"], 'completion needs one of bash, zsh, fish, not "tcsh"'),
        ("completion", ["bash", "x"], 'unexpected argument "x"'),
        ("p2p", ["tokens"], 'p2p has no command "tokens", did you mean "token"?'),
        ("p2p token", ["nwe"], 'p2p token has no command "nwe", did you mean "new"?'),
        ("p2p token", ["--", "burn", "x"], 'p2p token has no command "burn", it has new, inspect, qr'),
        ("p2p token", ["--p2p-token", "x"], "unknown flag --p2p-token"),
        ("p2p token new", ["x"], 'unexpected argument "x"'),
        ("p2p token inspect", ["x", "y"], 'unexpected argument "y"'),
        ("federated", ["phi"], 'unexpected argument "phi"'),
    ],
)
def test_usage_errors_of_other_commands(command: str, tokens: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(BY_NAME[command], options_of(command), tokens)
    assert caught.value.message == message


def test_other_commands_take_the_global_options() -> None:
    parsed = parse(BY_NAME["completion"], options_of("completion"), ["--log-level=debug", "zsh"])
    assert parsed == Parsed({"log_level": ["debug"]}, ("zsh",), help=False)
    assert parse(BY_NAME["version"], options_of("version"), []) == Parsed({}, (), help=False)


TOKENS = st.one_of(
    st.sampled_from([name for option in OPTIONS for name in option.names]),
    st.sampled_from(["--", "-", "-h", "run", "version", "p2p", "token", "new", "--f16=x", "-t3", "", "="]),
    st.text(max_size=6),
)


@given(st.lists(TOKENS, max_size=8))
def test_any_tokens_are_sorted_or_refused(tokens: list[str]) -> None:
    command, rest = split_command(tokens)
    words = command.name.split() if command else []
    assert len(rest) in {len(tokens), len(tokens) - len(words)}
    try:
        parsed = scan(options_of(command.name if command else RUN), rest)
    except UsageError:
        return
    assert len(parsed.positionals) <= len(rest)
    assert all(texts for texts in parsed.texts.values())


@pytest.mark.parametrize(
    ("token", "close"),
    [
        ("vesion", "version"),
        ("rum", "run"),
        ("run", None),
        ("phi-2", None),
        ("completoin", "completion"),
        ("phi", None),
        ("p2", "p2p"),
    ],
)
def test_closest_command(token: str, close: str | None) -> None:
    assert closest_command(token, BY_NAME) == close


@given(st.text(max_size=6), st.text(max_size=6), st.text(max_size=6))
def test_edit_distance_is_a_metric(a: str, b: str, c: str) -> None:
    assert (edit_distance(a, b) == 0) is (a == b)
    assert edit_distance(a, b) == edit_distance(b, a)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert abs(len(a) - len(b)) <= edit_distance(a, b) <= max(len(a), len(b))
