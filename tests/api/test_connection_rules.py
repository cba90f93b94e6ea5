from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.api.connection_rules import ConnectionLimits, Door, Look, Patience, Wait

LIMITS = ConnectionLimits(total=4, per_address=2, headers_s=30.0, window_s=20.0, bytes_per_s=10.0)


def test_so_many_and_no_more_of_one_address_and_in_all() -> None:
    door = Door(LIMITS)
    assert [door.enter("10.0.0.1") for _ in range(3)] == [None, None, "address"]
    assert door.enter("10.0.0.2") is None
    assert door.enter("10.0.0.3") is None
    assert door.enter("10.0.0.4") == "total"
    assert door.count == 4
    door.leave("10.0.0.1")
    assert door.enter("10.0.0.1") is None


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "", "/run/some.sock"])
def test_this_machine_is_limited_only_in_all(address: str) -> None:
    door = Door(LIMITS)
    assert [door.enter(address) for _ in range(5)] == [None] * 4 + ["total"]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("10.0.0.1", "10.0.0.2", False),
    ],
)
def test_what_counts_as_one_client(first: str, second: str, same: bool) -> None:
    door = Door(ConnectionLimits(per_address=1))
    assert door.enter(first) is None
    assert door.enter(second) == ("address" if same else None)


@given(st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "::1", "2001:db8::1"]), max_size=30))
def test_leaving_undoes_entering(addresses: list[str]) -> None:
    door = Door(LIMITS)
    inside = [address for address in addresses if door.enter(address) is None]
    assert door.count == len(inside) <= LIMITS.total
    for address in inside:
        door.leave(address)
    assert door.count == 0
    assert not door._inside


def verdicts(*looks: tuple[float, Look]) -> list[bool]:
    patience = Patience(LIMITS)
    return [patience.is_over(look, now) for now, look in looks]


def test_headers_have_their_time_however_many_bytes_come() -> None:
    assert verdicts(*((t, Look(Wait.HEADERS, 0, int(t) * 1000)) for t in (0.0, 10.0, 29.0, 30.0))) == [
        False,
        False,
        False,
        True,
    ]


def test_a_new_turn_begins_anew() -> None:
    assert verdicts(
        (0.0, Look(Wait.HEADERS, 0)), (29.0, Look(Wait.NOTHING)), (30.0, Look(Wait.HEADERS, 1)),
        (59.0, Look(Wait.HEADERS, 1)), (61.0, Look(Wait.HEADERS, 2)),
    ) == [False] * 5  # fmt: skip


@pytest.mark.parametrize("wait", [Wait.BODY, Wait.READER])
def test_a_body_and_a_reader_may_go_on_for_ever_at_the_least_speed(wait: Wait) -> None:
    steady = [(float(t), Look(wait, 1, t * 10)) for t in range(0, 1000, 5)]
    assert not any(verdicts(*steady))
    assert verdicts((0.0, Look(wait, 1, 0)), (19.0, Look(wait, 1, 0)), (20.0, Look(wait, 1, 199))) == [
        False,
        False,
        True,
    ]


def test_closing_has_its_time() -> None:
    assert verdicts((0.0, Look(Wait.CLOSING)), (19.0, Look(Wait.CLOSING)), (20.0, Look(Wait.CLOSING))) == [
        False,
        False,
        True,
    ]


@given(st.lists(st.floats(0.0, 1e6), max_size=20))
def test_nothing_waits_for_ever(times: list[float]) -> None:
    assert not any(verdicts(*((now, Look(Wait.NOTHING)) for now in sorted(times))))


def test_looks_are_frequent_enough() -> None:
    assert LIMITS.look_s <= min(LIMITS.headers_s, LIMITS.window_s) / 4
