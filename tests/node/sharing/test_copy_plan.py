"""Who is asked for which chunk."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.ids import PeerId
from localai.node.sharing.chunks import HASH_BYTES, LEAST_CHUNK_BYTES, ChunkList
from localai.node.sharing.copy_plan import PIPELINE, Ask, CopyPlan

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")


def chunks(count: int) -> ChunkList:
    size = LEAST_CHUNK_BYTES * count - 1 if count else 1
    return ChunkList(bytes(32), size, LEAST_CHUNK_BYTES, bytes(HASH_BYTES * count))


def test_two_sources_share_the_work() -> None:
    plan = CopyPlan(chunks(6))
    assert plan.is_stuck
    assert plan.source_came(A) == [Ask(A, 0), Ask(A, 1)]
    assert plan.source_came(B) == [Ask(B, 2), Ask(B, 3)]
    assert plan.chunk_came(B, 2, is_good=True) == [Ask(B, 4)]
    assert plan.chunk_came(A, 0, is_good=True) == [Ask(A, 5)]
    assert plan.done_bytes == 2 * LEAST_CHUNK_BYTES
    for source, index in ((A, 1), (B, 3), (B, 4)):
        plan.chunk_came(source, index, is_good=True)
    assert not plan.is_complete
    plan.chunk_came(A, 5, is_good=True)
    assert plan.is_complete
    assert plan.done_bytes == chunks(6).size


def test_a_corrupt_chunk_is_asked_for_elsewhere_and_its_source_no_more() -> None:
    plan = CopyPlan(chunks(4))
    plan.source_came(A)
    plan.source_came(B)
    assert plan.chunk_came(A, 0, is_good=False) == []  # B has its hands full
    assert plan.sources() == (B,)
    assert plan.chunk_came(B, 2, is_good=True) == [Ask(B, 0)]
    assert plan.chunk_came(B, 3, is_good=True) == [Ask(B, 1)]
    assert plan.chunk_came(A, 1, is_good=True) == [], "nothing of it counts any more"


def test_when_the_last_source_is_bad_it_is_stuck() -> None:
    plan = CopyPlan(chunks(2))
    plan.source_came(A)
    plan.chunk_came(A, 0, is_good=False)
    assert plan.is_stuck
    assert plan.source_came(B) == [Ask(B, 0), Ask(B, 1)]
    assert not plan.is_stuck


def test_a_lost_source_leaves_its_chunks_to_others() -> None:
    plan = CopyPlan(chunks(3))
    plan.source_came(A)
    assert plan.source_came(B) == [Ask(B, 2)]
    assert plan.source_lost(A) == [Ask(B, 0)]
    assert plan.source_lost(A) == []
    assert plan.chunk_came(B, 2, is_good=True) == [Ask(B, 1)]


def test_an_idle_source_helps_with_the_last_chunks() -> None:
    plan = CopyPlan(chunks(2))
    plan.source_came(A)
    assert plan.source_came(B) == [Ask(B, 0)]
    assert plan.chunk_came(B, 0, is_good=True) == [Ask(B, 1)]
    assert plan.chunk_came(B, 1, is_good=True) == []
    assert plan.is_complete
    assert plan.chunk_came(A, 0, is_good=True) == []


def test_what_was_there_is_not_asked_for() -> None:
    plan = CopyPlan(chunks(4), have=[1, 2])
    assert plan.source_came(A) == [Ask(A, 0), Ask(A, 3)]
    assert CopyPlan(chunks(2), have=[0, 1]).is_complete


EVENTS = st.lists(st.tuples(st.sampled_from("cgbl"), st.sampled_from([A, B, C]), st.integers(0, 6)), max_size=80)


@given(st.integers(1, 6), EVENTS)
def test_any_course_of_events_keeps_it_sound(count: int, events: list[tuple[str, PeerId, int]]) -> None:
    plan = CopyPlan(chunks(count))
    outstanding: set[tuple[PeerId, int]] = set()
    for kind, peer, index in events:
        match kind:
            case "c":
                asks = plan.source_came(peer)
            case "l":
                asks = plan.source_lost(peer)
                outstanding = {each for each in outstanding if each[0] != peer}
            case _:
                asks = plan.chunk_came(peer, index, is_good=kind == "g")
                outstanding.discard((peer, index))
        plan.validate()
        for ask in asks:
            assert (ask.source, ask.index) not in outstanding
            outstanding.add((ask.source, ask.index))
    fresh = PeerId("fresh")
    asks = plan.source_came(fresh)
    for _ in range(count + 1):
        for ask in [each for each in asks if each.source == fresh]:
            asks = [*asks[1:], *plan.chunk_came(fresh, ask.index, is_good=True)]
            plan.validate()
    for peer in (A, B, C):
        asks = plan.source_lost(peer)
        while asks:
            ask = asks.pop(0)
            asks += plan.chunk_came(ask.source, ask.index, is_good=True)
    assert plan.is_complete, "one honest source is enough"
    assert PIPELINE >= 1
