"""What a row of the option table says, and the rule that turns texts into values (pure).

A value comes from the first of: flag, environment (``.env`` files only fill gaps in it), default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import TypeAlias

from localai.mesh.errors import SetupError
from localai.mesh.secrets import MASK, Secret
from localai.node import option_values
from localai.node.option_values import Address, Places


class UsageError(SetupError):
    """The command line is wrong (exit code 80)."""

    default_code = "usage_error"


class Kind(StrEnum):
    """What the text of a value must look like."""

    STR = "text"
    INT = "number"
    FLOAT = "fraction"
    BOOL = "bool"
    LIST = "list"
    PATH = "path"
    FILE = "file"
    DURATION = "duration"
    ENUM = "choice"
    ADDRESS = "address"


Value: TypeAlias = (
    str | int | float | bool | Address | PurePath | Secret[str] | tuple[str, ...] | tuple[Secret[str], ...] | None
)
Values: TypeAlias = Mapping[str, Value]

_EMPTY_IS_A_VALUE = frozenset({Kind.STR, Kind.LIST, Kind.PATH, Kind.FILE})


@dataclass(frozen=True, slots=True)
class Option:
    """One row. ``default`` is text as a user would write it; None leaves the value unset.

    ``commands`` names the commands that take it; empty means every command. ``old_names`` are spellings
    that are taken with a hint at the present one. ``minimum`` and ``maximum`` bound numbers. ``check`` looks at a
    text, or at each item of a list, and raises ``ValueError`` with a reason that completes "<flag> <reason>". A
    secret's values are never shown, and an empty variable never blanks one. ``no_effect`` is for options of LocalAI
    that are taken and do nothing yet: it completes "<flag> has no effect yet: <reason>", which whoever sets it is told.
    """

    flag: str
    kind: Kind
    help: str
    env: tuple[str, ...] = ()
    default: str | None = None
    short: str | None = None
    aliases: tuple[str, ...] = ()
    old_names: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    check: Callable[[str], None] | None = None
    group: str = ""
    commands: frozenset[str] = frozenset()
    secret: bool = False
    hidden: bool = False
    no_effect: str = ""

    @property
    def key(self) -> str:
        """Name of the value: the flag without dashes."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def names(self) -> tuple[str, ...]:
        """Every spelling accepted on the command line, the documented one first."""
        return (self.flag, *self.aliases, *self.old_names, *((self.short,) if self.short else ()))

    @property
    def meaning(self) -> str:
        """The help, and whether it does nothing yet."""
        return f"{self.help} No effect yet: {self.no_effect}." if self.no_effect else self.help

    @property
    def help_line(self) -> str:
        """Help as shown: meaning, choices, other spellings, default, and the environment names last."""
        choices = f" One of {', '.join(self.choices)}." if self.choices else ""
        aliases = f" Also {', '.join(self.aliases)}." if self.aliases else ""
        default = f" (default {self.default})" if self.default is not None and self.kind is not Kind.BOOL else ""
        env = f" ({', '.join(f'${name}' for name in self.env)})" if self.env else ""
        return f"{self.meaning}{choices}{aliases}{default}{env}"

    @property
    def metavar(self) -> str:
        """What stands after the flag in help."""
        return "[=bool]" if self.kind is Kind.BOOL else f"<{self.kind}>"


@dataclass(frozen=True, slots=True)
class Argument:
    """What a command takes besides options."""

    name: str
    help: str
    choices: tuple[str, ...] = ()
    required: bool = False
    repeated: bool = False
    secret: bool = False

    @property
    def metavar(self) -> str:
        """What stands for it in the usage line."""
        return "|".join(self.choices) or self.name


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the program, or a group of them. ``name`` is every word from the program on."""

    name: str
    help: str
    argument: Argument | None = None
    is_group: bool = False

    @property
    def parent(self) -> str:
        """Name of the group that it belongs to; empty at the first level."""
        return self.name.rpartition(" ")[0]

    @property
    def last_word(self) -> str:
        """What is typed after the group's name."""
        return self.name.rpartition(" ")[2]


def resolve(
    options: Sequence[Option], given: Mapping[str, Sequence[str]], environ: Mapping[str, str], places: Places
) -> dict[str, Value]:
    """Values by key. ``given`` holds the texts from the command line by key, in order.

    Raises:
        UsageError: a flag's value, or any choice, is wrong.
        SetupError: an environment variable cannot be read; the message ends with its name and value.
    """
    return {option.key: _resolve_one(option, given.get(option.key), environ, places) for option in options}


def is_set(option: Option, given: Mapping[str, Sequence[str]], environ: Mapping[str, str]) -> bool:
    """Whether the user said anything: by flag or by environment."""
    return option.key in given or variable_of(option, environ) is not None


def without_effect(
    options: Sequence[Option], given: Mapping[str, Sequence[str]], environ: Mapping[str, str]
) -> tuple[Option, ...]:
    """The options that the user set although they do nothing yet, in the order of the table."""
    return tuple(option for option in options if option.no_effect and is_set(option, given, environ))


def variable_of(option: Option, environ: Mapping[str, str]) -> str | None:
    """Name of the variable that gives the value where no flag does; None if none is set."""
    found = _from_environment(option, environ)
    return found[0] if found else None


def _resolve_one(option: Option, texts: Sequence[str] | None, environ: Mapping[str, str], places: Places) -> Value:
    if texts:
        try:
            return _parse(option, texts, places)
        except ValueError as error:
            raise UsageError(f"{option.flag} {error}") from None
    if found := _from_environment(option, environ):
        name, text = found
        try:
            return _parse(option, [text], places)
        except ValueError as error:
            shown = MASK if option.secret else text
            kind = UsageError if option.kind is Kind.ENUM else SetupError
            raise kind(f'{option.flag} {error} (from envar {name}="{shown}")') from None
    if option.default is None:
        return () if option.kind is Kind.LIST else None
    return _parse(option, [option.default], places)


def _from_environment(option: Option, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """First name that is present. An empty value counts only where it means something."""
    empty_counts = option.kind in _EMPTY_IS_A_VALUE and not option.secret
    for name in option.env:
        text = environ.get(name)
        if text or (text is not None and empty_counts):
            return name, text
    return None


def _parse(option: Option, texts: Sequence[str], places: Places) -> Value:
    """Value of the texts: lists collect all of them, everything else takes the last."""
    if option.kind is Kind.LIST:
        items = tuple(item for text in texts for item in option_values.parse_list(text))
        _check_each(option, items)
        return tuple(Secret(item) for item in items) if option.secret else items
    value = _parse_single(option, texts[-1], places)
    if option.minimum is not None and isinstance(value, int | float) and value < option.minimum:
        raise ValueError(f"must be at least {option.minimum:g}, not {value}")
    if option.maximum is not None and isinstance(value, int | float) and value > option.maximum:
        raise ValueError(f"must be at most {option.maximum:g}, not {value}")
    if isinstance(value, str):
        _check_each(option, (value,))
    return value


def _check_each(option: Option, texts: Sequence[str]) -> None:
    if option.check:
        for text in texts:
            option.check(text)


def _parse_single(option: Option, text: str, places: Places) -> Value:
    match option.kind:
        case Kind.BOOL:
            return option_values.parse_bool(text)
        case Kind.INT:
            return option_values.parse_int(text)
        case Kind.FLOAT:
            return option_values.parse_float(text)
        case Kind.DURATION:
            return option_values.parse_duration(text)
        case Kind.PATH:
            return option_values.parse_path(text, places)
        case Kind.FILE:
            return option_values.parse_file(text, places)
        case Kind.ENUM:
            return option_values.parse_choice(text, option.choices)
        case Kind.ADDRESS:
            return option_values.parse_address(text)
        case _:
            return Secret(text) if option.secret else text
