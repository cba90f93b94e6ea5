"""The one table of commands and options, and the rule that turns texts into values (pure).

Everything about an option lives in its row: flags, environment names, help, completion, docs and
parsing are all derived from it. A value comes from the first of: flag, environment (``.env`` files
only fill gaps in it), default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    DURATION = "duration"
    ENUM = "choice"
    ADDRESS = "address"


Value: TypeAlias = (
    str | int | float | bool | Address | PurePath | Secret[str] | tuple[str, ...] | tuple[Secret[str], ...] | None
)
Values: TypeAlias = Mapping[str, Value]

_EMPTY_IS_A_VALUE = frozenset({Kind.STR, Kind.LIST, Kind.PATH})


@dataclass(frozen=True, slots=True)
class Option:
    """One row. ``default`` is text as a user would write it; None leaves the value unset.

    ``commands`` names the commands that take it; empty means every command. ``minimum`` bounds
    numbers. A secret's values are never shown, and an empty variable never blanks one.
    """

    flag: str
    kind: Kind
    help: str
    env: tuple[str, ...] = ()
    default: str | None = None
    short: str | None = None
    aliases: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    group: str = ""
    commands: frozenset[str] = frozenset()
    secret: bool = False
    hidden: bool = False

    @property
    def key(self) -> str:
        """Name of the value: the flag without dashes."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def names(self) -> tuple[str, ...]:
        """Every spelling accepted on the command line, the documented one first."""
        return (self.flag, *self.aliases, *((self.short,) if self.short else ()))

    @property
    def help_line(self) -> str:
        """Help as shown: meaning, choices, other spellings, default, and the environment names last."""
        choices = f" One of {', '.join(self.choices)}." if self.choices else ""
        aliases = f" Also {', '.join(self.aliases)}." if self.aliases else ""
        default = f" (default {self.default})" if self.default is not None and self.kind is not Kind.BOOL else ""
        env = f" ({', '.join(f'${name}' for name in self.env)})" if self.env else ""
        return f"{self.help}{choices}{aliases}{default}{env}"

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

    @property
    def metavar(self) -> str:
        """What stands for it in the usage line."""
        return "|".join(self.choices) or self.name


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the program."""

    name: str
    help: str
    argument: Argument | None = None


RUN = "run"
_RUN = frozenset({RUN})

COMMANDS: tuple[Command, ...] = (
    Command(
        RUN,
        "Start this node: the API, the pages and the models. This is what happens without a command too.",
        Argument("MODEL", "Models to have ready, by name, in addition to --models.", repeated=True),
    ),
    Command("version", "Print the version and exit."),
    Command(
        "completion",
        "Print a completion script for your shell.",
        Argument("SHELL", "The shell that will read the script.", choices=("bash", "zsh", "fish"), required=True),
    ),
)

OPTIONS: tuple[Option, ...] = (
    Option(
        "--models-path",
        Kind.PATH,
        "Directory with the model files and their YAML definitions. Needs room: models are gigabytes each.",
        env=("LOCALAI_MODELS_PATH", "MODELS_PATH"),
        default="./models",
        group="storage",
        commands=_RUN,
    ),
    Option(
        "--data-path",
        Kind.PATH,
        "Directory for what this node remembers: its identity and its database. Keep it private and backed up.",
        env=("LOCALAI_DATA_PATH",),
        default="./data",
        group="storage",
        commands=_RUN,
    ),
    Option(
        "--models",
        Kind.LIST,
        "Models to have ready, by name; those given as arguments come after these. Each one takes memory once used.",
        env=("LOCALAI_MODELS", "MODELS"),
        group="models",
        commands=_RUN,
    ),
    Option(
        "--f16",
        Kind.BOOL,
        "Taken as LocalAI takes it; the memory of a context is half precision here in any case.",
        env=("LOCALAI_F16", "F16"),
        default="false",
        group="performance",
        commands=_RUN,
    ),
    Option(
        "--threads",
        Kind.INT,
        "Threads that compute for models that do not say; 0 means all cores but one. More than there are is slower.",
        env=("LOCALAI_THREADS", "THREADS"),
        default="0",
        short="-t",
        minimum=0,
        group="performance",
        commands=_RUN,
    ),
    Option(
        "--context-size",
        Kind.INT,
        "LLM tokens of prompt and answer that a model without its own setting can hold; 0 lets the node choose, "
        "-1 means as many as the model was trained for. Memory grows with it.",
        env=("LOCALAI_CONTEXT_SIZE", "CONTEXT_SIZE"),
        default="0",
        minimum=-1,
        group="performance",
        commands=_RUN,
    ),
    Option(
        "--address",
        Kind.ADDRESS,
        "Where to listen, as host:port; :8080 means all interfaces, and then other machines can reach it.",
        env=("LOCALAI_ADDRESS", "ADDRESS"),
        default="127.0.0.1:8080",
        group="api",
        commands=_RUN,
    ),
    Option(
        "--api-keys",
        Kind.LIST,
        "Keys that clients must show, separated by commas; none means no check. Prefer the variable or an .env "
        "file: other users of this machine can read command lines.",
        env=("LOCALAI_API_KEY", "LOCALAI_API_KEYS", "API_KEY"),
        group="api",
        commands=_RUN,
        secret=True,
    ),
    Option(
        "--upload-limit",
        Kind.INT,
        "Largest request body in MB, held in memory while it is read; 0 means no limit.",
        env=("LOCALAI_UPLOAD_LIMIT", "UPLOAD_LIMIT"),
        default="15",
        minimum=0,
        group="api",
        commands=_RUN,
    ),
    Option(
        "--allowed-hosts",
        Kind.LIST,
        "More host names under which browsers may reach this node. Others are refused, so that a web page cannot "
        "reach it by a trick with DNS.",
        env=("LOCALAI_ALLOWED_HOSTS",),
        group="hardening",
        commands=_RUN,
    ),
    Option(
        "--allow-anonymous",
        Kind.BOOL,
        "Listen on a public address without API keys: then anyone who finds it can use it.",
        env=("LOCALAI_ALLOW_ANONYMOUS", "LOCALAI_ALLOW_INSECURE_PUBLIC_BIND"),
        default="false",
        aliases=("--allow-insecure-public-bind",),
        group="hardening",
        commands=_RUN,
    ),
    Option("--version", Kind.BOOL, "Print the version and exit.", default="false", commands=_RUN),
    Option(
        "--log-level",
        Kind.ENUM,
        "How much to log: each level includes those before it. debug and trace cost speed.",
        env=("LOCALAI_LOG_LEVEL",),
        choices=("error", "warn", "info", "debug", "trace"),
        default="info",
        group="logging",
    ),
    Option(
        "--log-format",
        Kind.ENUM,
        "default is for people (coloured on a terminal), text is key=value, json is one object per line.",
        env=("LOCALAI_LOG_FORMAT",),
        choices=("default", "text", "json"),
        default="default",
        group="logging",
    ),
    Option(
        "--debug",
        Kind.BOOL,
        "Old way to say --log-level debug; an explicit level wins.",
        env=("LOCALAI_DEBUG", "DEBUG"),
        default="false",
        group="logging",
        hidden=True,
    ),
)


def options_of(command: str, table: Sequence[Option] = OPTIONS) -> tuple[Option, ...]:
    """Options that the command takes, in the order of the table."""
    return tuple(option for option in table if not option.commands or command in option.commands)


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
    return option.key in given or _from_environment(option, environ) is not None


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
        return tuple(Secret(item) for item in items) if option.secret else items
    value = _parse_single(option, texts[-1], places)
    if option.minimum is not None and isinstance(value, int | float) and value < option.minimum:
        raise ValueError(f"must be at least {option.minimum:g}, not {value}")
    return value


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
        case Kind.ENUM:
            return option_values.parse_choice(text, option.choices)
        case Kind.ADDRESS:
            return option_values.parse_address(text)
        case _:
            return Secret(text) if option.secret else text
