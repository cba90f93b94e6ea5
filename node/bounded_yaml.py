"""YAML text as plain values, with every way of blowing up closed (pure).

The size, the nesting and the number of values after expanding aliases are limited before anything is built.
Untyped values follow the YAML 1.2 core rules, as LocalAI's files expect: ``on`` and ``yes`` are text, ``1e3`` is a
number, and dates are text. Anchors, aliases and merge keys work within the limits.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml

from localai.mesh.errors import InvalidRequest

MAX_YAML_BYTES = 1 << 20
"""Bytes of UTF-8 in one text."""
MAX_DEPTH = 32
"""Nested lists and mappings."""
MAX_VALUES = 100_000
"""Scalars, lists and mappings, each alias counted with everything it stands for."""

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # typed Any: the fast one exists only with libyaml


class _CoreLoader(_Loader):  # type: ignore[misc]  # the base class is chosen at run time
    """Safe loader whose untyped values follow the 1.2 core schema."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}  # PyYAML's own protocol


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
):
    _CoreLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), ["" if c == "\0" else c for c in _first]
    )


def _construct_int(_loader: object, node: yaml.ScalarNode) -> int:
    """Decimal also with leading zeros, ``0o17`` and ``0x1f``."""
    text = str(node.value)
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _construct_float(_loader: object, node: yaml.ScalarNode) -> float:
    return float(node.value)


_CoreLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_CoreLoader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def load_yaml(text: str, source: str) -> object:
    """The value in ``text``: dict, list, str, int, float, bool or None; None for an empty text.

    ``source`` names the text in errors. Shared parts (aliases) are the same object in several places.

    Raises:
        InvalidRequest: not YAML, or over a limit.
    """
    if len(text) > MAX_YAML_BYTES or len(text.encode("utf-8", "replace")) > MAX_YAML_BYTES:
        raise _refusal(source, f"is larger than {MAX_YAML_BYTES >> 20} MiB")
    try:
        _check_limits(text, source)
        return yaml.load(text, Loader=_CoreLoader)  # a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise _refusal(source, f"is not valid YAML: {error.problem or error.context}{where}") from error
    except (yaml.YAMLError, UnicodeError, ValueError, TypeError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _refusal(source, f"is not valid YAML: {reason[:200]}") from error


def _check_limits(text: str, source: str) -> None:
    """Walk the events without building anything; an alias weighs what its anchor weighs."""
    open_collections: list[tuple[str | None, int]] = []  # (anchor, values before it)
    weights: dict[str, int] = {}
    values = 0
    for event in yaml.parse(text, Loader=_Loader):
        anchor: str | None = getattr(event, "anchor", None)
        if isinstance(event, yaml.CollectionStartEvent):
            open_collections.append((anchor, values))
            values += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            opened, before = open_collections.pop()
            if opened is not None:
                weights[opened] = values - before
        elif isinstance(event, yaml.AliasEvent):
            if anchor not in weights:
                raise _refusal(source, f"uses the alias '*{anchor}' before the anchor it names is complete")
            values += weights[anchor]
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
            if anchor is not None:
                weights[anchor] = 1
        if len(open_collections) > MAX_DEPTH:
            raise _refusal(source, f"is nested deeper than {MAX_DEPTH} levels")
        if values > MAX_VALUES:
            raise _refusal(source, f"holds more than {MAX_VALUES} values")


def _refusal(source: str, problem: str) -> InvalidRequest:
    return InvalidRequest(f"{source} {problem}. Correct the file.", code="invalid_yaml")


class _CoreDumper(yaml.SafeDumper):
    """Quotes every text that begins like a number: YAML 1.1 and 1.2 disagree about some of them, such as ``08``.

    Line ends other than the usual one are written as escapes: between other quotes they would be folded.
    """


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "'" if text[:1] in set("+-.0123456789") and "\n" not in text else None
    if any(character in text for character in "\x85\u2028\u2029\ufeff"):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_CoreDumper.add_representer(str, _write_text)


def write_yaml(value: object) -> str:
    """YAML text that :func:`load_yaml` reads back as ``value``, ending in a newline."""
    return yaml.dump(value, Dumper=_CoreDumper, sort_keys=False, allow_unicode=True, width=100)
