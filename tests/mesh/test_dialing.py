from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from localai.mesh.dialing import (
    FIRST_PAUSE_S,
    FORGET_S,
    MAX_ADDRESSES,
    MAX_PAUSE_S,
    MAX_PEERS,
    STRANGER_PAUSE_S,
    Dialing,
    DialNow,
)
from localai.mesh.ids import PeerId

OWN, A, B = PeerId("own"), PeerId("a"), PeerId("b")
HERE, THERE = "/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.2/tcp/1"


def fail(dialing: Dialing, peer: PeerId, now: float) -> None:
    """A dial that is due and leads nowhere."""
    assert [dial.peer for dial in dialing.due(now)] == [peer]
    dialing.dialled(peer, now)


def connect(dialing: Dialing, peer: PeerId, now: float) -> None:
    """A dial that is due and works."""
    assert [dial.peer for dial in dialing.due(now)] == [peer]
    dialing.connected(peer)
    dialing.dialled(peer, now)


def test_a_found_peer_is_dialled_once_until_the_dial_has_ended() -> None:
    dialing = Dialing(OWN)
    assert dialing.next_wakeup() is None
    dialing.found(A, (HERE, THERE, HERE), 1.0)
    assert dialing.next_wakeup() == 1.0
    assert dialing.due(0.5) == []
    assert dialing.due(1.0) == [DialNow(A, (HERE, THERE))]
    assert dialing.due(100.0) == []
    assert dialing.next_wakeup() is None
    dialing.dialled(A, 101.0)
    assert dialing.next_wakeup() == 101.0 + FIRST_PAUSE_S


def test_the_pause_grows_up_to_a_limit() -> None:
    dialing = Dialing(OWN)
    dialing.found(A, [HERE], 0.0)
    dials = [0.0]
    for _ in range(10):
        fail(dialing, A, dials[-1])
        wakeup = dialing.next_wakeup()
        assert wakeup is not None
        dials.append(wakeup)
    pauses = [later - earlier for earlier, later in pairwise(dials)]
    assert pauses[:5] == [FIRST_PAUSE_S * 2**number for number in range(5)]
    assert pauses[-1] == MAX_PAUSE_S


def test_a_new_address_is_tried_at_once_and_a_known_one_is_not() -> None:
    dialing = Dialing(OWN)
    dialing.found(A, [HERE], 0.0)
    for now in (0.0, 0.5, 1.5):
        fail(dialing, A, now)
    dialing.found(A, [HERE], 2.0)
    assert dialing.due(2.0) == []
    dialing.found(A, [THERE], 2.0)
    assert dialing.due(2.0) == [DialNow(A, (THERE, HERE))]
    dialing.dialled(A, 2.0)
    assert dialing.next_wakeup() == 2.0 + FIRST_PAUSE_S


def test_an_announcement_of_more_than_is_kept_is_new_only_once() -> None:
    dialing = Dialing(OWN)
    many = [f"/ip4/192.0.2.{number}/tcp/1" for number in range(2 * MAX_ADDRESSES)]
    dialing.found(A, many, 0.0)
    fail(dialing, A, 0.0)
    dialing.found(A, many, 0.1)
    assert dialing.due(0.1) == []
    assert dialing.known() == {A: tuple(many[:MAX_ADDRESSES])}


def test_what_a_peer_says_of_itself_does_not_push_out_what_the_user_gave() -> None:
    dialing = Dialing(OWN)
    dialing.found(A, [HERE], 0.0, given=True)
    dialing.found(A, [f"/ip4/198.51.100.{number}/tcp/1" for number in range(2 * MAX_ADDRESSES)], 0.0)
    (dial,) = dialing.due(0.0)
    assert dial.addresses[:2] == (HERE, "/ip4/198.51.100.0/tcp/1")
    assert len(dial.addresses) == MAX_ADDRESSES


def test_nobody_dials_itself_or_nowhere() -> None:
    dialing = Dialing(OWN)
    dialing.found(OWN, [HERE], 0.0, given=True)
    dialing.found(A, [], 0.0, given=True)
    assert dialing.due(0.0) == []
    assert dialing.known() == {}


def test_a_connected_peer_is_left_alone_until_the_connection_is_gone() -> None:
    dialing = Dialing(OWN)
    dialing.found(A, [HERE], 0.0)
    connect(dialing, A, 0.0)
    dialing.joined(A, 0.0)
    dialing.found(A, [THERE], 1.0)
    assert dialing.due(1000.0) == []
    assert dialing.next_wakeup() is None
    dialing.disconnected(A, 1000.0)
    assert dialing.next_wakeup() == 1000.0 + FIRST_PAUSE_S
    dialing.disconnected(A, 2000.0)
    assert dialing.next_wakeup() == 1000.0 + FIRST_PAUSE_S


def test_a_stranger_rests_even_when_it_is_announced_again() -> None:
    dialing = Dialing(OWN)
    dialing.found(A, [HERE], 0.0)
    connect(dialing, A, 0.0)
    dialing.is_stranger(A, 0.1)
    dialing.disconnected(A, 0.2)
    dialing.found(A, [THERE], 1.0)
    assert dialing.next_wakeup() == 0.2 + STRANGER_PAUSE_S
    fail(dialing, A, 0.2 + STRANGER_PAUSE_S)
    wakeup = dialing.next_wakeup()
    assert wakeup is not None
    assert wakeup >= 2 * STRANGER_PAUSE_S


def test_a_stranger_that_shows_its_proof_is_a_stranger_no_more() -> None:
    dialing = Dialing(OWN)
    dialing.found(A, [HERE], 0.0)
    dialing.is_stranger(A, 0.0)
    dialing.joined(A, 1.0)
    dialing.found(A, [THERE], 1.0)
    assert dialing.due(1.0) == [DialNow(A, (THERE, HERE))]


def test_a_peer_that_is_never_reached_is_forgotten() -> None:
    dialing = Dialing(OWN)
    dialing.found(A, [HERE], 0.0)
    dialing.found(B, [HERE], 0.0, given=True)
    assert {dial.peer for dial in dialing.due(FORGET_S)} == {A, B}
    dialing.dialled(A, FORGET_S)
    dialing.dialled(B, FORGET_S)
    assert dialing.due(FORGET_S + 1) == [DialNow(B, (HERE,))]
    assert dialing.known() == {B: (HERE,)}


def test_a_member_of_long_standing_is_looked_for_when_it_is_gone() -> None:
    dialing = Dialing(OWN)
    dialing.found(A, [HERE], 0.0)
    connect(dialing, A, 0.0)
    dialing.joined(A, 0.0)
    dialing.disconnected(A, 10 * FORGET_S)
    assert dialing.due(10 * FORGET_S + FIRST_PAUSE_S) == [DialNow(A, (HERE,))]


def test_a_stranger_is_forgotten_though_it_answers() -> None:
    dialing = Dialing(OWN)
    dialing.found(A, [HERE], 0.0)
    now = 0.0
    while dialing.known():
        for dial in dialing.due(now):
            dialing.connected(dial.peer)
            dialing.dialled(dial.peer, now)
            dialing.is_stranger(dial.peer, now)
            dialing.disconnected(dial.peer, now)
        now += STRANGER_PAUSE_S
        assert now < 3 * FORGET_S


def test_a_flood_of_peers_is_refused_but_not_those_of_the_user() -> None:
    dialing = Dialing(OWN)
    for number in range(MAX_PEERS + 10):
        dialing.found(PeerId(f"peer {number}"), [HERE], 0.0)
    assert len(dialing.known()) == MAX_PEERS
    dialing.found(A, [HERE], 0.0, given=True)
    assert A in dialing.known()


def test_peers_nobody_knows_change_nothing() -> None:
    dialing = Dialing(OWN)
    dialing.connected(A)
    dialing.joined(A, 0.0)
    dialing.is_stranger(A, 0.0)
    dialing.disconnected(A, 0.0)
    dialing.dialled(A, 0.0)
    assert dialing.known() == {}
    assert dialing.next_wakeup() is None


PEERS = st.sampled_from([OWN, A, B, PeerId("c")])
ADDRESSES = st.lists(st.integers(0, 20).map(lambda number: f"/ip4/192.0.2.{number}/tcp/1"), max_size=12)


class AnySequence(RuleBasedStateMachine):
    """Whatever happens, in whatever order."""

    @initialize()
    def start(self) -> None:
        self.dialing = Dialing(OWN)
        self.now = 0.0
        self.dialling: set[PeerId] = set()
        self.connected_peers: set[PeerId] = set()
        self.resting: dict[PeerId, float] = {}

    @rule(peer=PEERS, addresses=ADDRESSES, given=st.booleans())
    def found(self, peer: PeerId, addresses: list[str], given: bool) -> None:
        self.dialing.found(peer, addresses, self.now, given=given)

    @rule(peer=PEERS)
    def connected(self, peer: PeerId) -> None:
        self.dialing.connected(peer)
        if peer in self.dialing.known():
            self.connected_peers.add(peer)

    @rule(peer=PEERS)
    def disconnected(self, peer: PeerId) -> None:
        self.dialing.disconnected(peer, self.now)
        self.connected_peers.discard(peer)

    @rule(peer=PEERS)
    def joined(self, peer: PeerId) -> None:
        self.dialing.joined(peer, self.now)
        self.resting.pop(peer, None)

    @rule(peer=PEERS)
    def is_stranger(self, peer: PeerId) -> None:
        self.dialing.is_stranger(peer, self.now)
        if peer in self.dialing.known():
            self.resting[peer] = self.now + STRANGER_PAUSE_S

    @rule(peer=PEERS)
    def dialled(self, peer: PeerId) -> None:
        self.dialing.dialled(peer, self.now)
        self.dialling.discard(peer)

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, MAX_PAUSE_S, STRANGER_PAUSE_S, FORGET_S + 1]))
    def due(self, seconds: float) -> None:
        self.now += seconds
        wakeup = self.dialing.next_wakeup()
        dials = self.dialing.due(self.now)
        peers = [dial.peer for dial in dials]
        assert len(set(peers)) == len(peers)
        assert OWN not in peers
        assert not self.dialling & set(peers)
        assert not self.connected_peers & set(peers)
        assert all(self.resting.get(peer, 0.0) <= self.now for peer in peers)
        assert not dials or (wakeup is not None and wakeup <= self.now)
        self.dialling |= set(peers)
        self.resting = {peer: until for peer, until in self.resting.items() if peer in self.dialing.known()}

    @invariant()
    def bounds_hold(self) -> None:
        known = self.dialing.known()
        assert OWN not in known
        assert all(0 < len(addresses) <= MAX_ADDRESSES for addresses in known.values())
        assert all(len(set(addresses)) == len(addresses) for addresses in known.values())
        if (wakeup := self.dialing.next_wakeup()) is not None:
            assert wakeup <= self.now + STRANGER_PAUSE_S


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(max_examples=30, stateful_step_count=40)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2 * MAX_PEERS), st.booleans()), max_size=50))
def test_only_the_user_can_go_beyond_the_limit(found: list[tuple[int, bool]]) -> None:
    dialing = Dialing(OWN)
    for number in range(MAX_PEERS):
        dialing.found(PeerId(str(number)), [HERE], 0.0)
    for number, given_by_user in found:
        dialing.found(PeerId(str(number)), [HERE], 0.0, given=given_by_user)
    from_user = {number for number, given_by_user in found if given_by_user}
    assert len(dialing.known()) <= MAX_PEERS + len(from_user)
