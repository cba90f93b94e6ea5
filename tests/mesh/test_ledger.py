from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import Conflict
from localai.mesh.ids import PeerId
from localai.mesh.ledger import DEFAULT_TTL_S, MAX_AHEAD_MS, Ledger, Merged
from localai.mesh.records import SignedRecord

OWN = PeerId("own")
WALL_MS = 1_750_000_000_000
EPOCH = WALL_MS - 1000


def record(author: str, seq: int = 0, body: bytes = b"", epoch: int = EPOCH, signature: bytes = b"") -> SignedRecord:
    return SignedRecord(PeerId(author), epoch, seq, body, signature)


def merge(ledger: Ledger, merged: SignedRecord, now: float = 0.0) -> Merged:
    outcome = ledger.merge(merged, now, WALL_MS)
    ledger.validate()
    return outcome


def ledger_of(records: Iterable[SignedRecord]) -> Ledger:
    ledger = Ledger(OWN)
    for one in records:
        merge(ledger, one)
    return ledger


def test_the_newest_record_of_each_author_is_kept() -> None:
    ledger = Ledger(OWN)
    assert merge(ledger, record("a", 1)) is Merged.NEW
    assert merge(ledger, record("b", 1)) is Merged.NEW
    assert merge(ledger, record("a", 3)) is Merged.UPDATED
    assert merge(ledger, record("a", 2)) is Merged.STALE
    assert merge(ledger, record("a", 3)) is Merged.DUPLICATE
    assert merge(ledger, record("a", 0, epoch=EPOCH + 1)) is Merged.UPDATED
    assert merge(ledger, record("a", 9)) is Merged.STALE
    assert ledger.records() == (record("a", 0, epoch=EPOCH + 1), record("b", 1))
    assert ledger.get(PeerId("a")) == record("a", 0, epoch=EPOCH + 1)
    assert ledger.get(PeerId("c")) is None


def test_of_two_records_in_one_position_all_nodes_keep_the_same_and_neither_is_a_sign_of_life() -> None:
    ledger = Ledger(OWN, ttl_s=10.0)
    assert merge(ledger, record("a", 1, b"m"), 0.0) is Merged.NEW
    assert merge(ledger, record("a", 1, b"a"), 9.0) is Merged.STALE
    assert merge(ledger, record("a", 1, b"z"), 9.0) is Merged.REPLACED
    assert merge(ledger, record("a", 1, b"z", signature=b"s"), 9.0) is Merged.REPLACED
    assert ledger.records() == (record("a", 1, b"z", signature=b"s"),)
    assert ledger.expire(10.0) == ("a",)


RECORDS = st.builds(
    record,
    st.sampled_from("abcd"),
    st.integers(0, 3),
    st.binary(max_size=2),
    st.sampled_from([EPOCH, EPOCH + 1]),
    st.binary(max_size=1),
)


@given(st.lists(RECORDS, max_size=12), st.data())
def test_order_and_repetition_change_nothing(records: list[SignedRecord], data: st.DataObject) -> None:
    repeated = data.draw(st.lists(st.sampled_from(records), max_size=6)) if records else []
    shuffled = data.draw(st.permutations(records + repeated))
    assert ledger_of(shuffled).records() == ledger_of(records).records()


@given(st.lists(RECORDS, max_size=8), st.lists(RECORDS, max_size=8), st.lists(RECORDS, max_size=8))
def test_it_does_not_matter_who_merged_with_whom_first(
    left: list[SignedRecord], middle: list[SignedRecord], right: list[SignedRecord]
) -> None:
    left_first = ledger_of([*ledger_of([*left, *middle]).records(), *right])
    right_first = ledger_of([*left, *ledger_of([*middle, *right]).records()])
    assert left_first.records() == right_first.records()


@given(st.lists(RECORDS, max_size=12))
def test_merging_what_is_there_is_no_news(records: list[SignedRecord]) -> None:
    ledger = ledger_of(records)
    assert {merge(ledger, one) for one in ledger.records()} <= {Merged.DUPLICATE}


def test_an_epoch_from_the_far_future_is_refused() -> None:
    ledger = Ledger(OWN)
    assert merge(ledger, record("a", epoch=WALL_MS + MAX_AHEAD_MS + 1)) is Merged.FROM_FUTURE
    assert ledger.records() == ()
    assert merge(ledger, record("a", epoch=WALL_MS + MAX_AHEAD_MS)) is Merged.NEW
    assert merge(ledger, record("a", epoch=WALL_MS + MAX_AHEAD_MS + 1)) is Merged.FROM_FUTURE


def test_an_author_expires_after_its_last_sign_of_life() -> None:
    ledger = Ledger(OWN)
    assert ledger.next_wakeup() is None
    merge(ledger, record("a", 1), 0.0)
    merge(ledger, record("b", 1), 10.0)
    merge(ledger, record("a", 2), 20.0)
    assert ledger.next_wakeup() == 10.0 + DEFAULT_TTL_S
    assert ledger.expire(10.0 + DEFAULT_TTL_S - 0.1) == ()
    assert ledger.expire(10.0 + DEFAULT_TTL_S) == ("b",)
    assert ledger.records() == (record("a", 2),)
    ledger.validate()


def test_a_replay_keeps_nobody_alive_and_brings_nobody_back() -> None:
    ledger = Ledger(OWN, ttl_s=10.0)
    merge(ledger, record("a", 5), 0.0)
    assert merge(ledger, record("a", 5), 9.0) is Merged.DUPLICATE
    assert merge(ledger, record("a", 4), 9.0) is Merged.STALE
    assert ledger.expire(10.0) == ("a",)
    for seq in (4, 5):
        assert merge(ledger, record("a", seq, b"zzz"), 11.0) is Merged.STALE
    assert ledger.records() == ()
    assert merge(ledger, record("a", 6), 12.0) is Merged.NEW
    assert ledger.statistics().remembered == 0
    assert ledger.expire(22.0) == ("a",)
    assert ledger.statistics().expired == 2
    ledger.validate()


@pytest.mark.parametrize("remembered", [0, 2])
def test_the_longest_expired_are_forgotten_first(remembered: int) -> None:
    ledger = Ledger(OWN, ttl_s=10.0, max_remembered=remembered)
    for now, author in enumerate("abcd"):
        merge(ledger, record(author), float(now))
        ledger.expire(now + 10.0)
        ledger.validate()
    outcomes = [merge(ledger, record(author), 30.0) for author in "abcd"]
    assert outcomes == [Merged.NEW] * (4 - remembered) + [Merged.STALE] * remembered


def test_a_full_ledger_refuses_newcomers_and_still_updates_who_is_there() -> None:
    ledger = Ledger(OWN, ttl_s=10.0, max_authors=2)
    merge(ledger, record("a", 1), 0.0)
    merge(ledger, record("b", 1), 5.0)
    assert merge(ledger, record("c", 1), 6.0) is Merged.FULL
    assert merge(ledger, record("b", 2), 6.0) is Merged.UPDATED
    ledger.expire(10.0)
    assert merge(ledger, record("c", 1), 11.0) is Merged.NEW
    assert merge(ledger, record("a", 1), 11.0) is Merged.STALE
    assert merge(ledger, record("a", 2), 11.0) is Merged.FULL


def test_the_bodies_together_are_bounded() -> None:
    ledger = Ledger(OWN, max_total_bytes=10)
    assert merge(ledger, record("a", 1, bytes(6))) is Merged.NEW
    assert merge(ledger, record("b", 1, bytes(5))) is Merged.FULL
    assert merge(ledger, record("b", 1, bytes(4))) is Merged.NEW
    assert merge(ledger, record("a", 2, bytes(7))) is Merged.FULL
    assert merge(ledger, record("a", 1, b"\x01" + bytes(6))) is Merged.FULL
    assert merge(ledger, record("a", 2, bytes(1))) is Merged.UPDATED
    assert merge(ledger, record("b", 2, bytes(9))) is Merged.UPDATED
    assert ledger.statistics().body_bytes == 10


def test_our_own_record_is_ours_alone_to_change() -> None:
    ledger = Ledger(OWN, ttl_s=10.0, max_authors=0)
    assert ledger.get(OWN) is None
    assert merge(ledger, record("own", 1)) is Merged.DUPLICATE_IDENTITY
    ledger.put_own(record("own", 1))
    ledger.put_own(record("own", 2, b"x"))
    assert merge(ledger, record("own", 2, b"x")) is Merged.DUPLICATE
    assert merge(ledger, record("own", 1)) is Merged.STALE
    assert merge(ledger, record("own", 2, b"y")) is Merged.DUPLICATE_IDENTITY
    assert merge(ledger, record("own", 3)) is Merged.DUPLICATE_IDENTITY
    assert merge(ledger, record("own", 0, epoch=WALL_MS + 2 * MAX_AHEAD_MS)) is Merged.DUPLICATE_IDENTITY
    assert ledger.expire(1000.0) == ()
    assert ledger.records() == (ledger.get(OWN),) == (record("own", 2, b"x"),)


def test_what_is_not_our_next_record_is_not_put_as_our_own() -> None:
    ledger = Ledger(OWN)
    ledger.put_own(record("own", 2))
    for wrong in (record("a", 3), record("own", 2), record("own", 1)):
        with pytest.raises(Conflict):
            ledger.put_own(wrong)
    assert ledger.records() == (record("own", 2),)


def test_statistics_are_a_snapshot() -> None:
    ledger = Ledger(OWN)
    merge(ledger, record("a", 1, b"xyz"))
    before = ledger.statistics()
    merge(ledger, record("a", 1, b"xyz"))
    assert before.merged == {outcome: int(outcome is Merged.NEW) for outcome in Merged}
    assert (before.authors, before.body_bytes, before.remembered, before.expired) == (1, 3, 0, 0)
    assert ledger.statistics().merged[Merged.DUPLICATE] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.authors = 2  # type: ignore[misc]  # what is tested
    with pytest.raises(TypeError):
        before.merged[Merged.NEW] = 2  # type: ignore[index]  # what is tested


STEPS = st.lists(
    st.tuples(
        st.floats(0, 8),
        st.none() | st.builds(record, st.sampled_from(["a", "b", "c", "d", "own"]), st.integers(0, 6), st.binary()),
    ),
    max_size=60,
)


@given(STEPS)
def test_any_story_keeps_the_invariants_and_no_author_comes_back_older(
    steps: list[tuple[float, SignedRecord | None]],
) -> None:
    ledger = Ledger(OWN, ttl_s=10.0, max_authors=3, max_total_bytes=20)
    newest: dict[PeerId, tuple[int, int]] = {}
    last_sign: dict[PeerId, float] = {}
    now = 0.0
    for wait_s, incoming in steps:
        now += wait_s
        if incoming is None:
            gone = ledger.expire(now)
            assert all(now - last_sign[author] >= 10.0 - 1e-6 for author in gone)
            assert all(now - last_sign[one.author] < 10.0 + 1e-6 for one in ledger.records())
        elif merge(ledger, incoming, now) in (Merged.NEW, Merged.UPDATED):
            assert incoming.position > newest.get(incoming.author, (-1, -1))
            newest[incoming.author] = incoming.position
            last_sign[incoming.author] = now
        ledger.validate()
