"""Who stays in memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from localai.node.residency import (
    Evict,
    Load,
    Newcomer,
    ResidencyRules,
    Resident,
    Unload,
    Wait,
    make_room,
    watch,
)

A, B, C = (Resident(name, last_used=float(age)) for age, name in enumerate("abc", start=1))
NEW = Newcomer("new")


def busy(resident: Resident, since: float = 0.0) -> Resident:
    return Resident(resident.model, resident.last_used, oldest_request=since)


def test_without_rules_everybody_stays() -> None:
    assert make_room(NEW, [A, B, C], ResidencyRules(), 0) == Load()
    assert watch([A, busy(B)], ResidencyRules(), 1.0, 1e9) == []


def test_the_least_recently_used_goes_first() -> None:
    assert make_room(NEW, [C, A, B], ResidencyRules(max_active=3), 0) == Evict(("a",))
    assert make_room(NEW, [C, A, B], ResidencyRules(max_active=1), 0) == Evict(("a", "b", "c"))
    assert make_room(NEW, [A, B], ResidencyRules(max_active=3), 0) == Load()


def test_a_model_that_is_loaded_already_makes_no_rival_of_itself() -> None:
    assert make_room(Newcomer("a"), [A, B], ResidencyRules(max_active=2), 0) == Load()


def test_busy_ones_are_waited_for_and_then_the_limit_gives_way() -> None:
    rules = ResidencyRules(max_active=1, max_retries=2, retry_interval_s=0.5)
    assert make_room(NEW, [busy(A)], rules, 0) == Wait(0.5)
    assert make_room(NEW, [busy(A)], rules, 1) == Wait(0.5)
    assert make_room(NEW, [busy(A)], rules, 2) == Load(over_limit=True)
    assert make_room(NEW, [busy(A), B], rules, 0) == Evict(("b",)), "what can go goes at once"


def test_force_takes_busy_ones_too_but_idle_ones_first() -> None:
    rules = ResidencyRules(max_active=2, force_when_busy=True)
    assert make_room(NEW, [busy(A), B], rules, 0) == Evict(("b",))
    assert make_room(NEW, [busy(A), busy(B)], rules, 0) == Evict(("a",))


def test_pinned_and_loading_ones_stay() -> None:
    rules = ResidencyRules(max_active=1, force_when_busy=True, idle_s=1, memory_threshold=0.5, max_retries=0)
    pinned, loading = Resident("p", 0, is_pinned=True), Resident("l", 0, is_loading=True)
    assert make_room(NEW, [pinned, loading], rules, 0) == Load(over_limit=True)
    assert watch([pinned, loading], rules, 0.99, 1e9) == []


def test_one_of_a_concurrency_group_excludes_the_others() -> None:
    rival = Resident("rival", 9, groups=frozenset({"gpu", "x"}))
    newcomer = Newcomer("new", frozenset({"gpu"}))
    assert make_room(newcomer, [A, rival], ResidencyRules(), 0) == Evict(("rival",))
    assert make_room(newcomer, [A, rival], ResidencyRules(max_active=2), 0) == Evict(("rival",))
    assert make_room(newcomer, [A, rival], ResidencyRules(max_active=1), 0) == Evict(("rival", "a"))
    assert make_room(NEW, [A, rival], ResidencyRules(), 0) == Load()


def test_the_largest_first_when_asked() -> None:
    small, large = Resident("small", 1, memory_bytes=10), Resident("large", 2, memory_bytes=20)
    assert make_room(NEW, [small, large], ResidencyRules(max_active=2, largest_first=True), 0) == Evict(("large",))
    assert make_room(NEW, [small, large], ResidencyRules(max_active=2), 0) == Evict(("small",))


def test_idle_ones_give_way_to_a_newcomer_that_needs_their_memory() -> None:
    first, second = Resident("first", 1, memory_bytes=10), Resident("second", 2, memory_bytes=10)
    newcomer, rules = Newcomer("new", memory_bytes=25), ResidencyRules()
    assert make_room(newcomer, [second, first], rules, 0) == Load()
    assert make_room(newcomer, [second, first], rules, 0, free_bytes=25) == Load()
    assert make_room(newcomer, [second, first], rules, 0, free_bytes=20) == Evict(("first",))
    assert make_room(newcomer, [second, first], rules, 0, free_bytes=10) == Evict(("first", "second"))
    assert make_room(newcomer, [busy(first)], ResidencyRules(force_when_busy=True), 0, free_bytes=0) == Load()
    assert make_room(newcomer, [second, first], ResidencyRules(max_active=2), 0, free_bytes=15) == Evict(("first",))


def test_idle_and_hung_ones_are_found() -> None:
    rules = ResidencyRules(idle_s=10, busy_s=5)
    assert watch([A], rules, 0.0, 11.0) == []
    assert watch([A], rules, 0.0, 11.1) == [Unload("a", "not used for 10 s")]
    assert watch([busy(A, since=100.0)], rules, 0.0, 105.0) == []
    assert watch([busy(A, since=100.0)], rules, 0.0, 105.1) == [
        Unload("a", "a request has been running for more than 5 s", force=True)
    ]


def test_full_memory_costs_one_model_at_a_time() -> None:
    rules = ResidencyRules(memory_threshold=0.9)
    assert watch([B, A], rules, 0.9, 0.0) == []
    assert watch([B, A], rules, 0.95, 0.0) == [Unload("a", "memory is 95% full")]
    assert watch([busy(A)], rules, 0.95, 0.0) == []


RESIDENTS = st.lists(
    st.builds(
        Resident,
        st.sampled_from("abcdef"),
        st.floats(0, 100),
        st.none() | st.floats(0, 100),
        st.booleans(),
        st.booleans(),
        st.frozensets(st.sampled_from(["g", "h"])),
    ),
    unique_by=lambda resident: resident.model,
)


@given(RESIDENTS, st.integers(0, 4), st.booleans(), st.integers(0, 5))
def test_evicting_ends_and_spares_whom_it_must(
    residents: list[Resident], limit: int, force: bool, retries: int
) -> None:
    rules = ResidencyRules(max_active=limit, force_when_busy=force, max_retries=3)
    newcomer = Newcomer("new", frozenset({"g"}))
    for _ in range(len(residents) + 1):
        match make_room(newcomer, residents, rules, retries):
            case Evict(models=models):
                assert models
                gone = [resident for resident in residents if resident.model in models]
                assert not any(resident.is_pinned or resident.is_loading for resident in gone)
                assert force or not any(resident.is_busy for resident in gone)
                residents = [resident for resident in residents if resident.model not in models]
            case Wait():
                assert retries < 3
                return
            case Load(over_limit=over):
                full = bool(limit) and len(residents) + 1 > limit
                assert over == (full or any("g" in resident.groups for resident in residents))
                return
    raise AssertionError("it never ends")
