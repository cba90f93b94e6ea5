"""The tree of a template (pure).

``at`` is the offset in the template's text, for messages. Nothing here changes after parsing, so one tree serves any
number of renderings at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from localai.node.go_template.values import Value


@dataclass(frozen=True, slots=True)
class Constant:
    """``"text"``, ``1.5``, ``true``."""

    at: int
    value: Value


@dataclass(frozen=True, slots=True)
class Nil:
    """``nil``: allowed as an argument only."""

    at: int


@dataclass(frozen=True, slots=True)
class Fields:
    """``.A.B``, ``$x.A`` or ``(pipeline).A``: a value and the fields to follow, perhaps none."""

    at: int
    base: Dot | Variable | Pipeline | FunctionName
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dot:
    """``.``"""

    at: int


@dataclass(frozen=True, slots=True)
class Variable:
    """``$`` or ``$name``; the name has its ``$``."""

    at: int
    name: str


@dataclass(frozen=True, slots=True)
class FunctionName:
    """A function that exists."""

    at: int
    name: str


Operand: TypeAlias = "Constant | Nil | Fields | Dot | Variable | FunctionName | Pipeline"


@dataclass(frozen=True, slots=True)
class Command:
    """One stage of a pipeline: a function with its arguments, or a single value."""

    at: int
    operands: tuple[Operand, ...]
    """At least one."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """``$x := a | b``. Each stage's value is the last argument of the next stage."""

    at: int
    commands: tuple[Command, ...]
    variables: tuple[str, ...] = ()
    """Names that get the value; two only in ``range``."""
    declares: bool = True
    """``:=``, not ``=``."""


@dataclass(frozen=True, slots=True)
class Text:
    """What stands between actions."""

    at: int
    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """``{{pipeline}}``: its value is printed unless it goes to a variable."""

    at: int
    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class Branch:
    """A condition and what it guards."""

    condition: Pipeline
    body: Body


@dataclass(frozen=True, slots=True)
class Conditional:
    """``if`` and ``with``: the first branch whose condition is true runs, otherwise the rest."""

    at: int
    word: Literal["if", "with"]
    branches: tuple[Branch, ...]
    otherwise: Body


@dataclass(frozen=True, slots=True)
class Range:
    """``range``: the body for each element, or the rest when there is none."""

    at: int
    pipeline: Pipeline
    body: Body
    otherwise: Body


@dataclass(frozen=True, slots=True)
class Jump:
    """``break`` and ``continue``."""

    at: int
    word: Literal["break", "continue"]


@dataclass(frozen=True, slots=True)
class Call:
    """``template "name" pipeline``, and what ``block`` leaves behind where it stands."""

    at: int
    name: str
    argument: Pipeline | None


Node: TypeAlias = "Text | Action | Conditional | Range | Jump | Call"
Body: TypeAlias = tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """A parsed template and the templates it defines, by name."""

    body: Body
    defined: Mapping[str, Body]
