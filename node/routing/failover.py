"""What to do when the node that was to answer fails (pure).

Until the first token nothing of an answer has been given out, so another node can begin again and nobody notices. After
it the failure is told; continuing on another node will join here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from localai.mesh.errors import Category, WorkerLost
from localai.mesh.ids import PeerId
from localai.node.inference import Event, Failed, Started, Tokens

MAX_ATTEMPTS = 4
"""Tries of one request, the first included."""
_ELSEWHERE = frozenset(
    {
        Category.UNAVAILABLE,
        Category.UPSTREAM_FAILED,
        Category.RATE_LIMITED,
        Category.TIMEOUT,
        Category.INTERNAL,
        Category.UNSUPPORTED,
    }
)
"""Failures that another node may not have: it has memory, a queue, backends and files of its own."""
_STALE_CODES = frozenset({"model_not_found"})
"""The node has changed since we heard of it."""


def is_retriable(failed: Failed) -> bool:
    """True when the same request may work at another node, or at this one a moment later."""
    return failed.category in _ELSEWHERE or failed.code in _STALE_CODES


@dataclass(slots=True)
class Attempts:
    """How the tries of one request went, and what has been given out of its answer."""

    tried: list[PeerId | None] = field(default_factory=list)
    """Nodes in order; None is this one."""
    committed: bool = False
    """A token has been given out."""
    _started: bool = False

    def begin(self, node: PeerId | None) -> None:
        """Another try."""
        self.tried.append(node)

    def should_move_on(self, batch: Sequence[Event]) -> Failed | None:
        """The failure at the end of ``batch`` when it may be kept from the client; None to pass the batch on."""
        last = batch[-1]
        if not isinstance(last, Failed) or not is_retriable(last) or len(self.tried) >= MAX_ATTEMPTS:
            return None
        if self.committed or any(isinstance(event, Tokens) for event in batch):
            return None
        return last

    def excluded(self, failed: Failed | None) -> frozenset[PeerId | None]:
        """Nodes that must not be asked again. One whose worker died is restarting it, and may be asked once more."""
        again = failed is not None and failed.code == WorkerLost.default_code and self.tried.count(self.tried[-1]) == 1
        return frozenset(self.tried[:-1] if again else self.tried)

    def to_give_out(self, batch: list[Event]) -> list[Event]:
        """The batch without a second Started; it may be empty then."""
        self.committed = self.committed or any(isinstance(event, Tokens) for event in batch)
        if not any(isinstance(event, Started) for event in batch):
            return batch
        again, self._started = self._started, True
        return [event for event in batch if not (again and isinstance(event, Started))]
