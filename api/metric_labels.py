"""Labels of metrics, of which there are never more than a few: each value makes a series that stays (pure)."""

from __future__ import annotations

OTHER = "other"
"""What all stands under that has no label of its own."""
MAX_MODELS = 100
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def method_label(method: str) -> str:
    """The method, if it is one that HTTP knows."""
    return method if method in _METHODS else OTHER


def path_label(pattern: str | None) -> str:
    """The pattern of a route without a final slash; empty where no route fits, as in LocalAI."""
    return "" if pattern is None else pattern.rstrip("/") or "/"


class BoundedNames:
    """The first names that come get a label of their own, at most ``limit``."""

    def __init__(self, limit: int = MAX_MODELS) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        """The name, or :data:`OTHER`."""
        if name in self._known:
            return name
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(name)
        return name
