"""Who gets a request: single choices, and what many of them add up to."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from localai.mesh.ids import PeerId
from localai.node.routing.decide import NEAR_TIE, NEAR_TIE_S, Choice, decide
from localai.node.routing.replica import Candidate, ReplicaLoad, Work

WORK = Work(100, 100)
LOAD = ReplicaLoad("m", slots=4, loaded=True, prompt_tps=1000.0, decode_tps=100.0)

candidates = st.builds(
    Candidate,
    peer=st.sampled_from("abcdef").map(PeerId),
    load=st.builds(
        ReplicaLoad,
        model=st.just("m"),
        slots=st.integers(1, 8),
        loaded=st.booleans(),
        refuses=st.booleans(),
        prompt_tps=st.sampled_from([0.0, 50.0, 1000.0]),
        decode_tps=st.sampled_from([0.0, 5.0, 100.0]),
    ),
    in_flight=st.integers(0, 20),
)


def peer(name: str, in_flight: int = 0, **changes: object) -> Candidate:
    return Candidate(PeerId(name), msgspec.structs.replace(LOAD, **changes), in_flight)


def first(_count: int) -> int:
    return 0


def last(count: int) -> int:
    return count - 1


def name(choice: Choice | None) -> str:
    assert choice is not None
    return str(choice.chosen.candidate.peer)


def test_without_candidates_there_is_no_choice() -> None:
    assert decide([], WORK, first) is None
    assert decide([], WORK, first, at_random=True) is None


def test_the_one_that_finishes_first_wins() -> None:
    choice = decide([peer("slow", decode_tps=10.0), peer("quick"), peer("cold", loaded=False, load_s=9.0)], WORK, first)
    assert name(choice) == "quick"
    assert choice is not None
    assert [str(each.candidate.peer) for each in choice.considered] == ["slow", "quick", "cold"]


def test_one_that_refuses_is_taken_only_when_all_do() -> None:
    broken = peer("broken", refuses=True)
    assert name(decide([broken, peer("slow", decode_tps=1.0)], WORK, first)) == "slow"
    assert name(decide([broken], WORK, first)) == "broken"


def test_chance_decides_among_equals_only() -> None:
    equals = [peer("a"), peer("b"), peer("far", decode_tps=1.0)]
    assert {name(decide(equals, WORK, first)), name(decide(equals, WORK, last))} == {"a", "b"}


def test_among_near_ties_the_least_full_wins() -> None:
    """A little slower, and less full for its slots."""
    full, roomy = peer("full", 2, slots=4, decode_tps=110.0), peer("roomy", 2, slots=16)
    assert name(decide([full, roomy], WORK, first)) == name(decide([roomy, full], WORK, first)) == "roomy"


def test_at_random_asks_nothing_but_the_draw() -> None:
    mixed = [peer("slow", decode_tps=1.0), peer("quick"), peer("busy", 99)]
    draws = ((first, "slow"), (lambda _: 1, "quick"), (last, "busy"))
    for draw, expected in draws:
        assert name(decide(mixed, WORK, draw, at_random=True)) == expected


@given(st.lists(candidates, min_size=1, max_size=6), st.booleans(), st.integers(0, 1000))
def test_whatever_there_is_somebody_good_is_chosen(found: list[Candidate], at_random: bool, drawn: int) -> None:
    choice = decide(found, WORK, lambda count: drawn % count, at_random=at_random)
    assert choice is not None
    chosen = choice.chosen
    assert chosen.candidate in found
    assert not chosen.candidate.load.refuses or all(each.load.refuses for each in found)
    if not at_random:
        best_s = min(each.estimate.total_s for each in choice.considered)
        assert chosen.estimate.total_s <= best_s * (1 + NEAR_TIE) + NEAR_TIE_S


@given(st.lists(candidates, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_candidates_does_not_matter(found: list[Candidate], random: object) -> None:
    """But for ties, which the draw decides."""
    one = decide(found, WORK, first)
    other = decide(found[::-1], WORK, last)
    assert one is not None
    assert other is not None
    assert abs(one.chosen.estimate.total_s - other.chosen.estimate.total_s) <= NEAR_TIE_S + NEAR_TIE * max(
        one.chosen.estimate.total_s, other.chosen.estimate.total_s
    )


class Nodes:
    """Equal nodes that get every request by ``decide``."""

    def __init__(self, count: int, slots: int) -> None:
        self.in_flight = [0] * count
        self.slots = slots

    def arrive(self, drawn: int) -> int:
        """A request comes; get the node that it goes to."""
        found = [peer(str(index), count, slots=self.slots) for index, count in enumerate(self.in_flight)]
        node = int(name(decide(found, WORK, lambda count: drawn % count)))
        self.in_flight[node] += 1
        return node

    @property
    def spread(self) -> int:
        return max(self.in_flight) - min(self.in_flight)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 1000), min_size=64, max_size=64), st.integers(2, 5), st.integers(1, 16))
def test_64_arrivals_at_equal_nodes_differ_by_one(draws: list[int], count: int, slots: int) -> None:
    nodes = Nodes(count, slots)
    for drawn in draws:
        nodes.arrive(drawn)
        assert nodes.spread <= 1


@settings(max_examples=20)
@given(st.data(), st.integers(2, 4), st.integers(1, 8))
def test_an_arrival_never_makes_equal_nodes_less_equal(data: st.DataObject, count: int, slots: int) -> None:
    """Ends may come in any order and leave any difference; what arrives goes to where it is least full."""
    nodes = Nodes(count, slots)
    running: list[int] = []
    for drawn in data.draw(st.lists(st.integers(0, 1000), min_size=64, max_size=64)):
        before, least = nodes.spread, min(nodes.in_flight)
        node = nodes.arrive(drawn)
        running.append(node)
        assert nodes.in_flight[node] == least + 1
        assert nodes.spread <= max(1, before)
        if data.draw(st.booleans()):
            nodes.in_flight[running.pop(drawn % len(running))] -= 1


def test_64_requests_of_which_8_run_at_a_time_stay_level() -> None:
    """The usual case: answers end in about the order in which they began."""
    for start in range(10):
        nodes = Nodes(2, 4)
        running: list[int] = []
        for number in range(64):
            if len(running) == 8:
                nodes.in_flight[running.pop((number * 7 + start) % 2)] -= 1
            running.append(nodes.arrive(number * 13 + start))
            assert nodes.spread <= 2
