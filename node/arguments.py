"""Command-line tokens -> which command, which texts for which option (pure).

``run`` is the default command with its arguments, and its options may stand before any command.
A boolean takes a value only after ``=``; every other option takes the next token or one after ``=``.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from localai.node.options import COMMANDS, OPTIONS, RUN, Argument, Command, Kind, Option, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HELP_FLAGS = ("-h", "--help")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What the tokens of one command say. ``texts`` is by option key, in order of appearance."""

    texts: dict[str, list[str]]
    positionals: tuple[str, ...]
    help: bool


def split_command(tokens: Sequence[str]) -> tuple[Command | None, list[str]]:
    """The command, and the tokens without its name.

    None means that no command was named and nothing but help was asked for. Options before the
    command stay in place, so that they are read as its own.
    """
    by_name = {command.name: command for command in COMMANDS}
    takes_value = {name for option in OPTIONS if option.kind is not Kind.BOOL for name in option.names}
    position = 0
    while position < len(tokens) and tokens[position].startswith("-") and tokens[position] != "--":
        position += 2 if tokens[position] in takes_value else 1
    if position < len(tokens) and tokens[position] in by_name:
        return by_name[tokens[position]], [*tokens[:position], *tokens[position + 1 :]]
    if tokens and all(token in HELP_FLAGS for token in tokens):
        return None, list(tokens)
    return by_name[RUN], list(tokens)


def parse(command: Command, options: Sequence[Option], tokens: Sequence[str]) -> Parsed:
    """Sort the tokens of one command.

    Raises:
        UsageError: unknown flag, missing value, or arguments that the command does not take.
    """
    parsed = scan(options, tokens)
    if not parsed.help:
        _check_positionals(command, parsed.positionals)
    return parsed


def scan(options: Sequence[Option], tokens: Sequence[str]) -> Parsed:
    """Sort the tokens without asking whether the command takes the positionals.

    Raises:
        UsageError: unknown flag or missing value.
    """
    by_name = {name: option for option in options for name in option.names}
    texts: dict[str, list[str]] = {}
    positionals: list[str] = []
    asked_for_help = False
    rest = list(reversed(tokens))
    while rest:
        token = rest.pop()
        if token == "--":
            positionals.extend(reversed(rest))
            break
        if token in HELP_FLAGS:
            asked_for_help = True
        elif token.startswith("-") and token != "-":
            option, text = _read_option(by_name, token, rest)
            texts.setdefault(option.key, []).append(text)
        else:
            positionals.append(token)
    return Parsed(texts, tuple(positionals), asked_for_help)


def closest_command(token: str, names: Iterable[str]) -> str | None:
    """A command within two edits of the token, if it is none itself."""
    distance, name = min((edit_distance(token, name), name) for name in names)
    return name if 0 < distance <= 2 else None


def edit_distance(left: str, right: str) -> int:
    """How many characters must be added, dropped or replaced to get from one text to the other."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(right, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def _read_option(by_name: dict[str, Option], token: str, rest: list[str]) -> tuple[Option, str]:
    name, equals, text = token.partition("=")
    option = by_name.get(name)
    if option is None and not token.startswith("--"):
        name, text, equals = token[:2], token[2:].removeprefix("="), "="
        option = by_name.get(name)
    if option is None:
        raise UsageError(_unknown_flag(name if token.startswith("--") else token, by_name))
    if equals:
        return option, text
    if option.kind is Kind.BOOL:
        return option, "true"
    if not rest or _looks_like_flag(rest[-1]):
        raise UsageError(f"{name} needs a value, such as {name}={option.default or option.metavar}")
    return option, rest.pop()


def _looks_like_flag(token: str) -> bool:
    return len(token) > 1 and token[0] == "-" and not token[1].isdecimal()


def _unknown_flag(flag: str, by_name: dict[str, Option]) -> str:
    visible = [name for name, option in by_name.items() if name.startswith("--") and not option.hidden]
    positive = flag.replace("--no-", "--", 1)
    if positive in by_name and by_name[positive].kind is Kind.BOOL:
        return f'unknown flag {flag}, did you mean "{positive}=false"?'
    if close := get_close_matches(flag, [*visible, "--help"], n=1):
        return f'unknown flag {flag}, did you mean "{close[0]}"?'
    return f"unknown flag {flag}"


def _check_positionals(command: Command, positionals: tuple[str, ...]) -> None:
    argument = command.argument
    most = 0 if argument is None else len(positionals) if argument.repeated else 1
    if extra := positionals[most:]:
        raise UsageError(f'unexpected argument "{extra[0]}"')
    if argument is None:
        return
    if argument.required and not positionals:
        raise UsageError(f"{command.name} needs {_wanted(argument)}")
    for text in positionals:
        if argument.choices and text not in argument.choices:
            raise UsageError(f'{command.name} needs {_wanted(argument)}, not "{text}"')


def _wanted(argument: Argument) -> str:
    return f"one of {', '.join(argument.choices)}" if argument.choices else argument.name
