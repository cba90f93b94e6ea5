"""Command-line tokens -> which command, which texts for which option (pure).

Commands form a tree, whose inner nodes are groups such as ``p2p token``. ``run`` is the default command with its
arguments, and its options may stand before any command.
A boolean takes a value only after ``=``; every other option takes the next token or one after ``=``.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from localai.node.option_table import COMMANDS, OPTIONS, RUN, commands_under
from localai.node.options import Argument, Command, Kind, Option, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HELP_FLAGS = ("-h", "--help")
_BY_NAME = {command.name: command for command in COMMANDS}
_TAKES_VALUE = {name for option in OPTIONS if option.kind is not Kind.BOOL for name in option.names}


@dataclass(frozen=True, slots=True)
class Parsed:
    """What the tokens of one command say. ``texts`` is by option key, in order of appearance.

    ``old_names`` holds the old spellings that were used, each with the present one.
    """

    texts: dict[str, list[str]]
    positionals: tuple[str, ...]
    help: bool
    old_names: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that tokens say: an option with its text, a request for help, or else a positional."""

    text: str
    tokens: range
    """Where in the list it stands."""
    option: Option | None = None
    name: str = ""
    """The spelling of the option that was used."""
    help: bool = False


def split_command(tokens: Sequence[str]) -> tuple[Command | None, list[str]]:
    """The command, or the group where the words end, and the tokens without the words of its name.

    None means that no command was named and nothing but help was asked for. Options before the
    command, or between its words, stay in place, so that they are read as its own.
    """
    found: Command | None = None
    left = list(tokens)
    while found is None or found.is_group:
        position = _first_word(left)
        below = {command.last_word: command for command in commands_under(found.name if found else "")}
        if position == len(left) or left[position] not in below:
            break
        found = below[left.pop(position)]
    if found or (tokens and all(token in HELP_FLAGS for token in tokens)):
        return found, left
    return _BY_NAME[RUN], left


def _first_word(tokens: Sequence[str]) -> int:
    """Position of the first token that is neither a flag nor a flag's value; the end if there is none."""
    position = 0
    while position < len(tokens) and tokens[position].startswith("-"):
        if tokens[position] == "--":
            return len(tokens)
        position += 2 if tokens[position] in _TAKES_VALUE else 1
    return min(position, len(tokens))


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
    said = read_tokens(options, tokens)
    texts: dict[str, list[str]] = {}
    for each in said:
        if each.option:
            texts.setdefault(each.option.key, []).append(each.text)
    return Parsed(
        texts,
        positionals=tuple(each.text for each in said if not each.option and not each.help),
        help=any(each.help for each in said),
        old_names=tuple(
            (each.name, each.option.flag) for each in said if each.option and each.name in each.option.old_names
        ),
    )


def read_tokens(options: Sequence[Option], tokens: Sequence[str]) -> list[Said]:
    """What the tokens say, in order. After ``--`` every token is a positional.

    Raises:
        UsageError: unknown flag or missing value.
    """
    by_name = {name: option for option in options for name in option.names}
    said: list[Said] = []
    position = 0
    while position < len(tokens):
        token = tokens[position]
        if token == "--":
            said += [Said(tokens[at], range(at, at + 1)) for at in range(position + 1, len(tokens))]
            break
        if token in HELP_FLAGS:
            said.append(Said(token, range(position, position + 1), help=True))
        elif token.startswith("-") and token != "-":
            said.append(_read_option(by_name, tokens, position))
        else:
            said.append(Said(token, range(position, position + 1)))
        position = said[-1].tokens.stop
    return said


def closest_command(token: str, names: Iterable[str]) -> str | None:
    """A command within two edits of the token (one, if its name is short), if it is none itself."""
    distance, name = min((edit_distance(token, name), name) for name in names)
    return name if 0 < distance <= min(2, len(name) // 2) else None


def edit_distance(left: str, right: str) -> int:
    """How many characters must be added, dropped or replaced to get from one text to the other."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(right, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def _read_option(by_name: dict[str, Option], tokens: Sequence[str], position: int) -> Said:
    token = tokens[position]
    name, equals, text = token.partition("=")
    option = by_name.get(name)
    if option is None and not token.startswith("--"):
        name, text, equals = token[:2], token[2:].removeprefix("="), "="
        option = by_name.get(name)
    if option is None:
        raise UsageError(_unknown_flag(name if token.startswith("--") else token, by_name))
    alone = range(position, position + 1)
    if equals:
        return Said(text, alone, option, name)
    if option.kind is Kind.BOOL:
        return Said("true", alone, option, name)
    if position + 1 == len(tokens) or _looks_like_flag(tokens[position + 1]):
        raise UsageError(f"{name} needs a value, such as {name}={option.default or option.metavar}")
    return Said(tokens[position + 1], range(position, position + 2), option, name)


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
    if command.is_group and positionals:
        raise UsageError(_unknown_command(command.name, positionals[0]))
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


def _unknown_command(group: str, word: str) -> str:
    names = [command.last_word for command in commands_under(group)]
    close = get_close_matches(word, names, n=1)
    advice = f'did you mean "{close[0]}"?' if close else f"it has {', '.join(names)}"
    return f'{group} has no command "{word}", {advice}'


def _wanted(argument: Argument) -> str:
    return f"one of {', '.join(argument.choices)}" if argument.choices else argument.name
