"""Vectors and the texts that belong to them, by name of a store, with search by likeness (pure).

Everything lies in memory and is gone when the process ends. A store begins with its first key, which says how many
numbers the others must have, and ends with its last one. Two keys are the same when all their numbers are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localai.mesh.errors import InvalidRequest, TooLarge

Vector = NDArray[np.float64]
_ENTRY_BYTES = 300
"""About what an entry costs beside its numbers and its text, so that many small ones count too."""
_FIRST_ROWS = 16


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What all stores together may hold. ``dimensions`` are the numbers of one key."""

    stores: int = 1024
    keys: int = 1_000_000
    dimensions: int = 65_536
    bytes: int = 1 << 29
    name_chars: int = 256


@dataclass(frozen=True, slots=True)
class Entry:
    """A key and its text."""

    key: tuple[float, ...]
    value: str


@dataclass(frozen=True, slots=True)
class Match:
    """An entry and the cosine of the angle between its key and what was looked for, -1 to 1."""

    entry: Entry
    similarity: float


class VectorStores:
    """All stores of a node. Not safe to be used by two threads at once."""

    def __init__(self, limits: StoreLimits | None = None) -> None:
        self._limits = limits or StoreLimits()
        self._stores: dict[str, _Store] = {}

    def set(self, name: str, keys: Sequence[Sequence[float]], values: Sequence[str]) -> None:
        """Put entries in; a key that is there gets the new text. Of equal keys the last one counts. All or nothing.

        Raises:
            InvalidRequest: there are no keys, another number of texts, or keys of another length than the store has.
            TooLarge: there would be more than the limits allow.
        """
        if not keys:
            raise InvalidRequest("'keys' is empty. Send at least one key.", param="keys")
        if len(keys) != len(values):
            message = f"There are {len(keys)} keys and {len(values)} values. Send one value for each key."
            raise InvalidRequest(message, param="values")
        store = self._stores.get(name)
        vectors = _vectors(keys, store.dimensions if store else len(keys[0]), name)
        store = store or self._new_store(name, vectors.shape[1])
        added = store.cost_of(vectors, values)
        self._check_room(added, store.new_keys(vectors))
        self._stores[name] = store
        store.set(vectors, values)

    def get(self, name: str, keys: Sequence[Sequence[float]]) -> list[Entry]:
        """The entries with these keys, in the order of the keys; those that are not there are left out.

        Raises:
            InvalidRequest: the keys are of another length than those of the store.
        """
        store = self._stores.get(name)
        if store is None or not keys:
            return []
        rows = (store.row_of(vector) for vector in _vectors(keys, store.dimensions, name))
        return [store.entry(row) for row in rows if row is not None]

    def find(self, name: str, key: Sequence[float], topk: int) -> list[Match]:
        """The ``topk`` entries that are most like ``key``, best first. A key of zeros is like nothing.

        Raises:
            InvalidRequest: ``topk`` is below 1, or the key is of another length than those of the store.
        """
        if topk < 1:
            raise InvalidRequest(f"'topk' is {topk}. Send a number of at least 1.", param="topk")
        store = self._stores.get(name)
        if store is None:
            return []
        (vector,) = _vectors([key], store.dimensions, name, param="key")
        return store.find(vector, topk)

    def delete(self, name: str, keys: Sequence[Sequence[float]]) -> None:
        """Take entries out; keys that are not there do not matter.

        Raises:
            InvalidRequest: there are no keys, or they are of another length than those of the store.
        """
        if not keys:
            raise InvalidRequest("'keys' is empty. Send at least one key.", param="keys")
        store = self._stores.get(name)
        if store is None:
            return
        for vector in _vectors(keys, store.dimensions, name):
            store.delete(vector)
        if not store.count:
            del self._stores[name]

    @property
    def used_bytes(self) -> int:
        """What all stores take, about."""
        return sum(store.used_bytes for store in self._stores.values())

    def _new_store(self, name: str, dimensions: int) -> _Store:
        limits = self._limits
        if len(name) > limits.name_chars:
            raise InvalidRequest(f"The store's name is longer than {limits.name_chars} characters.", param="store")
        if len(self._stores) >= limits.stores:
            message = f"This node has {limits.stores} stores already, which is the limit. Delete all keys of one."
            raise TooLarge(message, code="too_many_stores", param="store")
        if dimensions > limits.dimensions:
            message = f"A key has {dimensions} numbers; at most {limits.dimensions} are allowed. Send shorter keys."
            raise TooLarge(message, code="key_too_long", param="keys")
        return _Store(dimensions)

    def _check_room(self, added_bytes: int, added_keys: int) -> None:
        keys = sum(store.count for store in self._stores.values()) + added_keys
        if keys > self._limits.keys or self.used_bytes + added_bytes > self._limits.bytes:
            message = (
                f"The stores of this node may hold {self._limits.keys} keys and {self._limits.bytes} bytes together, "
                "and these would not fit. Delete some first."
            )
            raise TooLarge(message, code="stores_full", param="keys")


class _Store:
    """The entries of one name: row r of the matrix of unit vectors belongs to key r and text r, without gaps."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self._units = np.empty((0, dimensions), np.float32)
        self._keys: list[bytes] = []
        self._values: list[str] = []
        self._rows: dict[bytes, int] = {}
        self._text_bytes = 0

    @property
    def count(self) -> int:
        return len(self._keys)

    @property
    def used_bytes(self) -> int:
        numbers = self._units.nbytes + self.count * 8 * self.dimensions
        return numbers + self.count * _ENTRY_BYTES + self._text_bytes

    def cost_of(self, vectors: Vector, values: Sequence[str]) -> int:
        """Bytes that these would take at most."""
        return self.new_keys(vectors) * (12 * self.dimensions + _ENTRY_BYTES) + sum(map(_text_bytes, values))

    def new_keys(self, vectors: Vector) -> int:
        return len({vector.tobytes() for vector in vectors} - self._rows.keys())

    def set(self, vectors: Vector, values: Sequence[str]) -> None:
        for vector, value in zip(vectors, values, strict=True):
            key = vector.tobytes()
            row = self._rows.setdefault(key, self.count)
            if row == self.count:
                self._append(key, vector)
            self._text_bytes += _text_bytes(value) - _text_bytes(self._values[row])
            self._values[row] = value

    def row_of(self, vector: Vector) -> int | None:
        return self._rows.get(vector.tobytes())

    def entry(self, row: int) -> Entry:
        return Entry(tuple(np.frombuffer(self._keys[row], np.float64).tolist()), self._values[row])

    def find(self, vector: Vector, topk: int) -> list[Match]:
        likeness = (self._units[: self.count] @ _unit(vector)).clip(-1.0, 1.0)
        rows = np.arange(self.count)
        if topk < self.count:
            rows = np.argpartition(-likeness, topk - 1)[:topk]
        best = rows[np.lexsort((rows, -likeness[rows]))]
        return [Match(self.entry(row), float(likeness[row])) for row in best.tolist()]

    def delete(self, vector: Vector) -> None:
        row = self._rows.pop(vector.tobytes(), None)
        if row is None:
            return
        self._text_bytes -= _text_bytes(self._values[row])
        key, value = self._keys.pop(), self._values.pop()
        if row != self.count:  # the last entry takes the free place
            self._rows[key] = row
            self._keys[row], self._values[row] = key, value
            self._units[row] = self._units[self.count]
        if self.count < len(self._units) // 4:
            self._make_room(2 * self.count)

    def _append(self, key: bytes, vector: Vector) -> None:
        if self.count == len(self._units):
            self._make_room(self.count + self.count // 4)
        self._units[self.count] = _unit(vector)
        self._keys.append(key)
        self._values.append("")

    def _make_room(self, rows: int) -> None:
        units = np.empty((max(_FIRST_ROWS, rows), self.dimensions), np.float32)
        units[: self.count] = self._units[: self.count]
        self._units = units


def _vectors(keys: Sequence[Sequence[float]], dimensions: int, name: str, *, param: str = "keys") -> Vector:
    """One row for each key, in which there is no negative zero.

    Raises:
        InvalidRequest: a key has another number of numbers than ``dimensions``, or none.
    """
    for key in keys:
        if not key:
            raise InvalidRequest(f"A key in '{param}' is empty. Send its numbers.", param=param)
        if len(key) != dimensions:
            message = (
                f"A key has {len(key)} numbers, and those of store '{name[:100]}' have {dimensions}. "
                "Send keys of one length, or use another store."
            )
            raise InvalidRequest(message, code="key_length", param=param)
    vectors: Vector = np.array(keys, np.float64) + 0.0
    return vectors


def _unit(vector: Vector) -> NDArray[np.float32]:
    """The vector of length 1 in the same direction, or zeros. Scaled first, so that no square is too large or small."""
    largest = float(np.abs(vector).max())
    if not largest:
        return np.zeros(len(vector), np.float32)
    scaled = vector / largest
    return (scaled / np.linalg.norm(scaled)).astype(np.float32)


def _text_bytes(value: str) -> int:
    return len(value.encode())
