"""What each option of a running node is, and who said so (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum

from localai.node.options import Option, Value, Values, variable_of


class Source(StrEnum):
    """Who gave a value."""

    FLAG = "flag"
    ENV = "env"
    FILE = "file"
    """An ``.env`` file."""
    DEFAULT = "default"
    API = "api"
    """``POST /api/settings``, since the start of the node."""


@dataclass(frozen=True, slots=True)
class EffectiveOption:
    """One option as it is."""

    option: Option
    value: Value
    source: Source


def effective_options(
    options: Sequence[Option],
    values: Values,
    given: Mapping[str, Sequence[str]],
    environ: Mapping[str, str],
    from_files: Set[str],
) -> tuple[EffectiveOption, ...]:
    """The options in the order of the table. ``from_files`` names the variables that ``.env`` files have filled in."""

    def source_of(option: Option) -> Source:
        if option.key in given:
            return Source.FLAG
        variable = variable_of(option, environ)
        if variable is None:
            return Source.DEFAULT
        return Source.FILE if variable in from_files else Source.ENV

    return tuple(EffectiveOption(option, values[option.key], source_of(option)) for option in options)
