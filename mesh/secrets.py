"""Values that must never be shown: their text forms are masked by type (pure)."""

from __future__ import annotations

import hmac
from typing import Generic, NoReturn, TypeVar

MASK = "***"
"""What every text form of a secret reads."""

T = TypeVar("T", str, bytes)


class Secret(Generic[T]):
    """A secret whose repr, str and format are masked; only :meth:`reveal` gives the value.

    Equality takes the same time wherever the values differ. Pickling is refused, so that a secret
    cannot slip into a file or a message as part of something larger; copying returns the same object.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value: T = value

    def reveal(self) -> T:
        """The value itself. Call it only where the value is used."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, format_spec: str) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return type(self._value) is type(other._value) and hmac.compare_digest(
            _as_bytes(self._value), _as_bytes(other._value)
        )

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Secret[T]:
        return self

    def __deepcopy__(self, memo: object) -> Secret[T]:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled; call reveal() where the value is needed")


def _as_bytes(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
