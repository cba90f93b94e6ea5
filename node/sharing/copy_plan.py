"""Which chunk comes from whom: copying one file from several members at once (pure).

Each source has a few chunks on their way; a chunk that fails its check, or whose source is lost, is asked for
elsewhere. A source that sent one wrong chunk is not asked again. When only a few chunks are left, idle sources help
with chunks that others are slow with, and the first good copy counts.

``CopyPlan`` is told what happens and says what to ask for; nobody else changes its state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from localai.mesh.ids import PeerId
from localai.node.sharing.chunks import ChunkList

PIPELINE = 2
"""Chunks on their way from one source: one is written while the next one travels."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask this source for this chunk."""

    source: PeerId
    index: int


@dataclass(slots=True)
class _Source:
    asked: set[int] = field(default_factory=set)
    is_trusted: bool = True


class CopyPlan:
    """The state of one copy. ``have`` are chunks that were checked before."""

    def __init__(self, chunks: ChunkList, have: Iterable[int] = ()) -> None:
        self._chunks = chunks
        self._done: set[int] = set(have)
        self._missing = [index for index in range(chunks.count) if index not in self._done]
        self._sources: dict[PeerId, _Source] = {}

    @property
    def is_complete(self) -> bool:
        """True when every chunk was checked."""
        return len(self._done) == self._chunks.count

    @property
    def is_stuck(self) -> bool:
        """True when chunks are missing and nobody is left to ask."""
        return not self.is_complete and not any(source.is_trusted for source in self._sources.values())

    @property
    def done_bytes(self) -> int:
        """Bytes in checked chunks."""
        return sum(self._chunks.place_of(index)[1] for index in self._done)

    def sources(self) -> tuple[PeerId, ...]:
        """Everybody who may still be asked."""
        return tuple(peer for peer, source in self._sources.items() if source.is_trusted)

    def source_came(self, peer: PeerId) -> list[Ask]:
        """A source has offered the file."""
        self._sources.setdefault(peer, _Source())
        return self._asks(peer)

    def source_lost(self, peer: PeerId) -> list[Ask]:
        """A source is gone, or refuses; its chunks go to others."""
        source = self._sources.pop(peer, None)
        return [] if source is None else self._again(source.asked)

    def chunk_came(self, peer: PeerId, index: int, *, is_good: bool) -> list[Ask]:
        """A chunk has come and was checked."""
        source = self._sources.get(peer)
        if source is None or index not in source.asked:
            return []
        source.asked.discard(index)
        if is_good:
            self._done.add(index)
            return self._asks(peer)
        source.is_trusted = False
        failed, source.asked = {index, *source.asked}, set()
        return self._again(failed)

    def validate(self) -> None:
        """Check every invariant.

        Raises:
            AssertionError: one does not hold.
        """
        asked = {index for source in self._sources.values() for index in source.asked}
        everything = set(range(self._chunks.count))
        assert not self._done & set(self._missing)
        assert everything == self._done | set(self._missing) | asked
        assert len(self._missing) == len(set(self._missing))
        assert all(len(source.asked) <= PIPELINE for source in self._sources.values())
        assert all(source.is_trusted or not source.asked for source in self._sources.values())

    def _again(self, indices: Iterable[int]) -> list[Ask]:
        """Chunks must be asked for anew, unless somebody else has them on the way."""
        elsewhere = {index for source in self._sources.values() for index in source.asked}
        lost = [index for index in sorted(indices) if index not in self._done and index not in elsewhere]
        self._missing = [*lost, *(index for index in self._missing if index not in lost)]
        return [ask for peer in list(self._sources) for ask in self._asks(peer)]

    def _asks(self, peer: PeerId) -> list[Ask]:
        source = self._sources[peer]
        asks: list[Ask] = []
        while source.is_trusted and len(source.asked) < PIPELINE:
            index = self._missing.pop(0) if self._missing else self._slow_chunk(source)
            if index is None:
                break
            source.asked.add(index)
            asks.append(Ask(peer, index))
        return asks

    def _slow_chunk(self, helper: _Source) -> int | None:
        """A chunk that only one other source has on the way, when nothing else is left to do."""
        if helper.asked:
            return None
        for source in self._sources.values():
            for index in sorted(source.asked):
                holders = sum(index in other.asked for other in self._sources.values())
                if index not in self._done and holders == 1:
                    return index
        return None
