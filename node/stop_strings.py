"""Finding stop strings in a byte stream that arrives in pieces (pure).

Used twice on the same bytes, so both sides agree: by the worker, to end a sequence at the step that completes
a stop string, and by the output parser at the entry node, to cut the text before it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StopScan:
    """What one more piece gave: bytes that are certainly text, and the stop string that appeared, if one did."""

    text: bytes
    matched: str | None = None


class StopMatcher:
    """Holds back bytes only while they may be the beginning of a stop string."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stops = tuple((text, text.encode()) for text in stop if text)
        self._held = b""
        self._matched = False

    def feed(self, data: bytes) -> StopScan:
        """Take the next bytes. After a match every further byte is dropped."""
        if self._matched:
            return StopScan(b"")
        if not self._stops:
            return StopScan(data)
        window = self._held + data
        first = min(
            ((window.find(needle), -len(needle), text) for text, needle in self._stops if needle in window),
            default=None,
        )
        if first is not None:
            self._matched = True
            self._held = b""
            return StopScan(window[: first[0]], first[2])
        keep = max(_overlap(window, needle) for _, needle in self._stops)
        self._held = window[len(window) - keep :]
        return StopScan(window[: len(window) - keep])

    def flush(self) -> bytes:
        """The end has come without a match: give back what was held."""
        held, self._held = self._held, b""
        return held


def _overlap(window: bytes, needle: bytes) -> int:
    """Length of the longest suffix of ``window`` that begins ``needle`` without completing it."""
    for length in range(min(len(window), len(needle) - 1), 0, -1):
        if needle.startswith(window[len(window) - length :]):
            return length
    return 0
