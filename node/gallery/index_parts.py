"""A long YAML list cut into parts that are each small enough to be loaded with the usual limits (pure).

Items begin with ``- `` at the start of a line. An item may have an anchor (``- &name``), and later ones may refer to
it (``*name``): a part begins with the items that it refers to and that are not its own, to be passed over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_ITEM = re.compile(r"^(?=- )", re.MULTILINE)
_ANCHOR = re.compile(r"- &([^\s,\[\]{}]+)")
_ALIAS = re.compile(r"(?<![^\s\[,])\*([^\s,\[\]{}]+)")


@dataclass(frozen=True, slots=True)
class Part:
    """A list on its own. The first ``borrowed`` items are those of earlier parts."""

    text: str
    borrowed: int = 0


def split_list(text: str, max_bytes: int) -> tuple[Part, ...]:
    """Parts of at most ``max_bytes`` of UTF-8 each, in order; the whole, if it is short enough or has no items.

    An item that is longer by itself makes a part of its own.
    """
    items = [piece for piece in _ITEM.split(text) if piece.startswith("- ")]
    if not items or len(text.encode("utf-8", "replace")) <= max_bytes:
        return (Part(text),)
    needs = _needs(items)
    sizes = [len(item.encode("utf-8", "replace")) for item in items]
    parts: list[Part] = []
    first, borrowed = 0, set[int]()
    for position in range(len(items)):
        wanted = borrowed | {at for at in needs[position] if at < first}
        size = sum(sizes[at] for at in wanted) + sum(sizes[first : position + 1])
        if size > max_bytes and position > first:
            parts.append(_part(items, first, position, borrowed))
            first, wanted = position, set(needs[position])
        borrowed = wanted
    parts.append(_part(items, first, len(items), borrowed))
    return tuple(parts)


def _needs(items: Sequence[str]) -> list[frozenset[int]]:
    """For each item the earlier ones that it cannot be read without."""
    needs: list[frozenset[int]] = []
    anchored: dict[str, int] = {}
    for position, item in enumerate(items):
        direct = {anchored[name] for name in _ALIAS.findall(item) if name in anchored}
        needs.append(frozenset(direct.union(*(needs[at] for at in direct))))
        if anchor := _ANCHOR.match(item):
            anchored[anchor[1]] = position
    return needs


def _part(items: Sequence[str], first: int, end: int, borrowed: set[int]) -> Part:
    before = [items[at] for at in sorted(borrowed)]
    return Part("".join([*before, *items[first:end]]), len(before))
