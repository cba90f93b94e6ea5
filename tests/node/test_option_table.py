from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from localai.node.model_config import MAX_SLOTS
from localai.node.option_table import COMMANDS, FEDERATED, OPTIONS, RUN, commands_under, options_of
from localai.node.option_values import Places
from localai.node.options import Kind, Option, resolve
from localai.node.settings import DEFAULT_SLOTS

PLACES = Places(cwd=PurePosixPath("/base"), home=PurePosixPath("/home/ann"))


def test_options_of_a_command_are_its_own_and_the_global_ones() -> None:
    of_version = {option.flag for option in options_of("version")}
    assert of_version == {"--log-level", "--log-format", "--debug"}
    not_of_run = {"--random-worker", "--target-worker", "--output", "--header"}
    assert {option.flag for option in options_of(RUN)} == {option.flag for option in OPTIONS} - not_of_run
    assert {option.flag for option in options_of("p2p token")} == of_version


def test_the_entry_takes_no_options_of_models() -> None:
    groups = {option.group for option in options_of(FEDERATED)}
    assert groups == {"storage", "api", "hardening", "p2p", "logging"}
    flags = {option.flag for option in options_of(FEDERATED)}
    assert {"--random-worker", "--p2p-token", "--show-route", "--data-path"} <= flags
    assert flags.isdisjoint({"--models-path", "--p2p", "--federated", "--no-serve", "--p2p-dht-interval"})


def test_no_name_key_or_variable_is_used_twice() -> None:
    names = [name for option in OPTIONS for name in option.names]
    keys = [option.key for option in OPTIONS]
    variables = [name for option in OPTIONS for name in option.env]
    for used in (names, keys, variables):
        assert len(used) == len(set(used))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.flag)
def test_each_row_is_sound(option: Option) -> None:
    assert option.flag.startswith("--")
    assert option.flag == option.flag.lower()
    assert option.key.isidentifier()
    assert option.help.endswith(".")
    assert (option.kind is Kind.ENUM) == bool(option.choices)
    assert option.commands <= {command.name for command in COMMANDS if not command.is_group}
    assert all(alias.startswith("--") for alias in (*option.aliases, *option.old_names))
    assert option.short is None or (len(option.short) == 2 and option.short[0] == "-")
    resolve([option], {}, {}, PLACES)  # the default can be read


def test_an_option_without_effect_has_no_default_that_could_be_believed() -> None:
    rows = [option for option in OPTIONS if option.no_effect]
    assert {"--upload-path", "--backends-path"} <= {option.flag for option in rows}
    for option in rows:
        assert option.default is None
        assert not option.no_effect.endswith(".")
        assert option.help_line.startswith(f"{option.help} No effect yet: {option.no_effect}.")


def test_slots_are_those_of_definitions() -> None:
    slots = next(option for option in OPTIONS if option.flag == "--slots")
    assert (slots.default, slots.maximum) == (str(DEFAULT_SLOTS), MAX_SLOTS)


def test_help_ends_with_the_environment_names() -> None:
    by_flag = {option.flag: option for option in OPTIONS}
    assert by_flag["--f16"].help_line.endswith(" ($LOCALAI_F16, $F16)")
    assert by_flag["--threads"].help_line.endswith(" (default 0) ($LOCALAI_THREADS, $THREADS)")
    assert by_flag["--version"].help_line == "Print the version and exit."
    assert "Also --allow-insecure-public-bind." in by_flag["--allow-anonymous"].help_line
    assert "One of default, text, json." in by_flag["--log-format"].help_line
    assert by_flag["--f16"].metavar == "[=bool]"
    assert by_flag["--threads"].metavar == "<number>"


def test_commands_form_a_tree() -> None:
    groups = {""}
    for command in COMMANDS:
        assert command.parent in groups, "a group stands before what it holds"
        assert command.name == f"{command.parent} {command.last_word}".strip()
        assert command.help.endswith(".")
        assert not (command.is_group and command.argument)
        if command.is_group:
            groups.add(command.name)
    assert all(commands_under(group) for group in groups)
    assert [command.name for command in commands_under("p2p token")] == [
        "p2p token new",
        "p2p token inspect",
        "p2p token qr",
    ]


def test_arguments_show_their_choices() -> None:
    by_name = {command.name: command.argument for command in COMMANDS}
    assert (shell := by_name["completion"]) is not None
    assert shell.metavar == "bash|zsh|fish"
    assert (model := by_name["run"]) is not None
    assert model.metavar == "MODEL"
