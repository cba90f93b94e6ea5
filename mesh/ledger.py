"""The newest record of every node that was heard of lately (pure).

Records are ordered by position, that is epoch, then seq. Nodes that merged the same records keep the same ones, in
whatever order and however often they came, as long as nothing expires and no limit is hit. Two records of one author
with one position are a fault of that author; the greater bytes stay, so that even then all nodes agree.

Only a record with a greater position is a sign of life. A replayed one keeps nobody alive, and the positions of authors
that expired are remembered, so that a replay does not bring them back either.

Who is there is never dropped for a newcomer: a full ledger refuses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from localai.mesh.errors import Conflict
from localai.mesh.ids import PeerId
from localai.mesh.records import Position, SignedRecord

DEFAULT_TTL_S = 45.0
DEFAULT_MAX_AUTHORS = 1024
DEFAULT_MAX_TOTAL_BYTES = 16 << 20
DEFAULT_MAX_REMEMBERED = 4096
MAX_AHEAD_MS = 24 * 3600 * 1000
"""How far an epoch may be ahead of our clock. A node that starts with a clock this wrong is refused until it is set."""


class Merged(StrEnum):
    """What became of a record."""

    NEW = "new"
    """Kept: the first one of its author, or the first after its author had expired."""
    UPDATED = "updated"
    """Kept: newer than the one before."""
    REPLACED = "replaced"
    """Kept, but no sign of life: as old as the one before, and greater by its bytes."""
    DUPLICATE = "duplicate"
    """The very record that is kept."""
    STALE = "stale"
    """Older than what is kept or remembered, or as old and not greater by its bytes."""
    FROM_FUTURE = "from_future"
    """Refused: its epoch is too far ahead of our clock. One of the two clocks is wrong."""
    FULL = "full"
    """Refused: no room for another author, or for a longer body."""
    DUPLICATE_IDENTITY = "duplicate_identity"
    """Ours by its signature, yet newer than or different from what we wrote: another node has our identity, or our
    clock was set back. Not kept."""


_TO_KEEP = frozenset({Merged.NEW, Merged.UPDATED, Merged.REPLACED})


@dataclass(frozen=True, slots=True)
class Statistics:
    """A snapshot for pages and logs."""

    authors: int
    """Others whose records are kept; our own is not counted."""
    body_bytes: int
    remembered: int
    """Expired authors whose last position is known."""
    expired: int
    """Authors that expired since the start, counted each time."""
    merged: Mapping[Merged, int]
    """How often each outcome came since the start; every outcome is there."""


@dataclass(frozen=True, slots=True)
class _Kept:
    record: SignedRecord
    expires_at: float


class Ledger:
    """Records by author. Give it verified ones only. ``own`` is this node's id.

    ``ttl_s``: seconds from the last sign of life to the end. Nodes write a record every 10 s, so with 45 s four may be
    lost in a row; longer means that requests go to dead nodes for longer. ``max_total_bytes`` bounds the bodies
    together. The limits are for the records of others; our own is always kept and never expires.
    """

    def __init__(
        self,
        own: PeerId,
        *,
        ttl_s: float = DEFAULT_TTL_S,
        max_authors: int = DEFAULT_MAX_AUTHORS,
        max_total_bytes: int = DEFAULT_MAX_TOTAL_BYTES,
        max_remembered: int = DEFAULT_MAX_REMEMBERED,
    ) -> None:
        self._own = own
        self._ttl_s = ttl_s
        self._max_authors = max_authors
        self._max_total_bytes = max_total_bytes
        self._max_remembered = max_remembered
        self._own_record: SignedRecord | None = None
        self._kept: dict[PeerId, _Kept] = {}
        self._body_bytes = 0
        self._remembered: dict[PeerId, Position] = {}
        self._expired = 0
        self._merged: Counter[Merged] = Counter()

    # Reading

    def get(self, author: PeerId) -> SignedRecord | None:
        """The current record of a node, our own included."""
        if author == self._own:
            return self._own_record
        kept = self._kept.get(author)
        return kept.record if kept else None

    def records(self) -> tuple[SignedRecord, ...]:
        """All current records, our own included, in the order of their authors' ids."""
        records = [kept.record for kept in self._kept.values()]
        if self._own_record:
            records.append(self._own_record)
        return tuple(sorted(records, key=lambda record: record.author))

    def next_wakeup(self) -> float | None:
        """The instant at which ``expire`` has something to do, in the clock of ``now``."""
        return min((kept.expires_at for kept in self._kept.values()), default=None)

    def statistics(self) -> Statistics:
        """The current counts, frozen."""
        return Statistics(
            authors=len(self._kept),
            body_bytes=self._body_bytes,
            remembered=len(self._remembered),
            expired=self._expired,
            merged=MappingProxyType({outcome: self._merged[outcome] for outcome in Merged}),
        )

    def validate(self) -> None:
        """Check every invariant.

        Raises:
            AssertionError: one does not hold; the statistics are in the message.
        """
        seen = str(self.statistics())
        assert len(self._kept) <= self._max_authors, seen
        assert len(self._remembered) <= self._max_remembered, seen
        assert self._body_bytes == sum(len(kept.record.body) for kept in self._kept.values()), seen
        assert self._body_bytes <= self._max_total_bytes, seen
        assert self._own not in self._kept.keys() | self._remembered.keys(), seen
        assert not self._kept.keys() & self._remembered.keys(), seen
        assert all(author == kept.record.author for author, kept in self._kept.items()), seen
        assert self._own_record is None or self._own_record.author == self._own, seen

    # Changing

    def put_own(self, record: SignedRecord) -> None:
        """Keep what this node now says of itself.

        Do this before the first merge: until then every record of ours from elsewhere looks like a second node.

        Raises:
            Conflict: the record is of another author, or not newer than the one before.
        """
        if record.author != self._own:
            raise Conflict("The ledger takes only this node's record as its own. Merge the others.")
        if self._own_record and record.position <= self._own_record.position:
            raise Conflict("This node's record is not newer than the one before. Count its sequence number up.")
        self._own_record = record

    def merge(self, record: SignedRecord, now: float, wall_ms: int) -> Merged:
        """Take a verified record that came from elsewhere.

        ``now``: seconds, monotonic. ``wall_ms``: milliseconds since 1970 by our clock, only to refuse the far future.
        """
        outcome = self._outcome(record, wall_ms)
        if outcome in (Merged.NEW, Merged.UPDATED):
            self._keep(record, now + self._ttl_s)
        elif outcome is Merged.REPLACED:
            self._keep(record, self._kept[record.author].expires_at)
        self._merged[outcome] += 1
        return outcome

    def expire(self, now: float) -> tuple[PeerId, ...]:
        """Drop the authors without a sign of life for ``ttl_s``; get who they were."""
        gone = tuple(author for author, kept in self._kept.items() if kept.expires_at <= now)
        for author in gone:
            record = self._kept.pop(author).record
            self._body_bytes -= len(record.body)
            self._remembered[author] = record.position
        while len(self._remembered) > self._max_remembered:
            del self._remembered[next(iter(self._remembered))]
        self._expired += len(gone)
        return gone

    def _outcome(self, record: SignedRecord, wall_ms: int) -> Merged:
        if record.author == self._own:
            return self._own_outcome(record)
        if record.epoch > wall_ms + MAX_AHEAD_MS:
            return Merged.FROM_FUTURE
        if kept := self._kept.get(record.author):
            outcome = _compare(record, kept.record)
        else:
            remembered = self._remembered.get(record.author)
            outcome = Merged.NEW if remembered is None or record.position > remembered else Merged.STALE
        if outcome in _TO_KEEP and not self._has_room(record):
            return Merged.FULL
        return outcome

    def _own_outcome(self, record: SignedRecord) -> Merged:
        own = self._own_record
        if own == record:
            return Merged.DUPLICATE
        if own and record.position < own.position:
            return Merged.STALE
        return Merged.DUPLICATE_IDENTITY

    def _has_room(self, record: SignedRecord) -> bool:
        before = self._kept.get(record.author)
        freed = len(before.record.body) if before else 0
        if self._body_bytes - freed + len(record.body) > self._max_total_bytes:
            return False
        return before is not None or len(self._kept) < self._max_authors

    def _keep(self, record: SignedRecord, expires_at: float) -> None:
        if before := self._kept.get(record.author):
            self._body_bytes -= len(before.record.body)
        self._remembered.pop(record.author, None)
        self._kept[record.author] = _Kept(record, expires_at)
        self._body_bytes += len(record.body)


def _compare(record: SignedRecord, kept: SignedRecord) -> Merged:
    if record == kept:
        return Merged.DUPLICATE
    if record.position != kept.position:
        return Merged.UPDATED if record.position > kept.position else Merged.STALE
    return Merged.REPLACED if (record.body, record.signature) > (kept.body, kept.signature) else Merged.STALE
