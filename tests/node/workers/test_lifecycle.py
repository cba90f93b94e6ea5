"""Transcripts of a worker's life, and a state machine that tries everything."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from localai.mesh.errors import LocalAIError, ModelLoadFailed, RateLimited, Unavailable, WorkerLost
from localai.node.inference import Progress, RequestId
from localai.node.workers.frames import Heartbeat, ModelFacts
from localai.node.workers.lifecycle import Lifecycle, LifecycleConfig, State
from localai.node.workers.lifecycle_messages import (
    Admit,
    CancelWork,
    Command,
    Ended,
    Event,
    HeartbeatReceived,
    HelloReceived,
    Ignored,
    Kill,
    LoadProgressed,
    LoadRejected,
    LoadSucceeded,
    PreloadRequested,
    Reject,
    Report,
    RequestAbandoned,
    RequestArrived,
    RequestEnded,
    SendLoad,
    ShutdownRequested,
    Spawn,
    Spawned,
    Terminate,
    UnloadRequested,
    Woke,
)

FACTS = ModelFacts(4096, 4, 8192, 100)
A, B, C = RequestId("a"), RequestId("b"), RequestId("c")
LOADING = Progress("loading", 0, 1000)
BEAT = Heartbeat(0, 0)


class Story:
    """A machine and a clock; checks the invariants after every event."""

    def __init__(self, config: LifecycleConfig | None = None) -> None:
        self.machine = Lifecycle("m", config)
        self.now = 100.0

    def __call__(self, event: Event, *, after_s: float = 0.0) -> list[Command]:
        self.now += after_s
        commands = self.machine.handle(event, self.now)
        self.machine.validate()
        return commands

    @property
    def state(self) -> State:
        return self.machine.statistics().state

    def expect(self, state: State) -> None:
        assert self.state is state

    def to_ready(self, incarnation: int = 1) -> None:
        self(Spawned(incarnation))
        self(HelloReceived(incarnation))
        self(LoadSucceeded(incarnation, FACTS))

    def wake(self) -> list[Command]:
        due = self.machine.next_wakeup()
        assert due is not None
        self.now = due
        return self(Woke())


def rejections(commands: list[Command]) -> dict[RequestId, LocalAIError]:
    return {command.request_id: command.error for command in commands if isinstance(command, Reject)}


def test_the_first_request_starts_a_worker_and_is_admitted_when_it_is_ready() -> None:
    story = Story()
    assert story(RequestArrived(A)) == [Report(A, LOADING), Spawn(1)]
    assert story(RequestArrived(B)) == [Report(B, LOADING)]
    assert story(Spawned(1)) == []
    assert story(HelloReceived(1)) == [SendLoad(1)]
    assert story(LoadProgressed(1, 500)) == [
        Report(A, Progress("loading", 500, 1000)),
        Report(B, Progress("loading", 500, 1000)),
    ]
    assert story(LoadSucceeded(1, FACTS)) == [Admit(A), Admit(B)]
    assert story(RequestArrived(C)) == [Admit(C)]
    assert story(RequestEnded(A)) == []
    statistics = story.machine.statistics()
    assert (statistics.state, statistics.waiting, statistics.active, statistics.facts) == (State.READY, 0, 2, FACTS)


def test_a_client_that_leaves_is_forgotten_or_cancelled() -> None:
    story = Story()
    story(RequestArrived(A))
    story(RequestArrived(B))
    assert story(RequestAbandoned(A)) == []
    story.to_ready()
    assert story(RequestAbandoned(B)) == [CancelWork(B)]
    assert isinstance(story(RequestAbandoned(B))[0], Ignored)
    assert isinstance(story(RequestEnded(B))[0], Ignored)


def test_a_request_that_arrives_twice_is_ignored() -> None:
    story = Story()
    story(RequestArrived(A))
    assert isinstance(story(RequestArrived(A))[0], Ignored)


def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    story = Story(LifecycleConfig(max_requests=1))
    story(RequestArrived(A))
    error = rejections(story(RequestArrived(B)))[B]
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == 1.0


def test_a_crash_fails_active_requests_and_restarts_at_once() -> None:
    story = Story()
    story(RequestArrived(A))
    story.to_ready()
    first, *rest = story(Ended(1, "signal 9"))
    assert isinstance(rejections([first])[A], WorkerLost)
    assert "signal 9" in rejections([first])[A].message
    assert rest == [Spawn(2)]
    story(RequestArrived(B))
    story(Spawned(2))
    story(HelloReceived(2))
    assert story(LoadSucceeded(2, FACTS)) == [Admit(B)]


def test_waiting_requests_survive_a_crash_during_the_load() -> None:
    story = Story()
    story(RequestArrived(A))
    story(Spawned(1))
    story(HelloReceived(1))
    assert story(Ended(1, "signal 11")) == [Spawn(2)]
    story.to_ready(2)
    assert story.machine.statistics().active == 1


def test_a_second_crash_waits_and_a_third_opens_the_breaker() -> None:
    story = Story()
    story(RequestArrived(A))
    assert story(Ended(1, "x")) == [Spawn(2)]
    assert story(Ended(2, "x")) == []
    story.expect(State.BACKOFF)
    assert story.wake() == [Spawn(3)]
    assert isinstance(rejections(story(Ended(3, "x")))[A], ModelLoadFailed)
    story.expect(State.BROKEN)
    refusal = rejections(story(RequestArrived(B), after_s=4.0))[B]
    assert isinstance(refusal, Unavailable)
    assert refusal.retry_after_s == pytest.approx(6.0)
    assert story.wake() == []
    story.expect(State.IDLE)
    assert story(RequestArrived(C)) == [Report(C, LOADING), Spawn(4)]


def test_crashes_far_apart_do_not_open_the_breaker() -> None:
    story = Story()
    story(PreloadRequested())
    for incarnation in range(1, 10):
        story.to_ready(incarnation)
        assert story(Ended(incarnation, "x"), after_s=61.0) == [Spawn(incarnation + 1)]


def test_a_model_that_cannot_be_loaded_fails_its_requests_and_rests_longer_each_time() -> None:
    story = Story()
    error = ModelLoadFailed("Not a model.")
    for attempt, cooldown_s in enumerate((10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0), start=1):
        story(RequestArrived(A))
        story(Spawned(attempt))
        story(HelloReceived(attempt))
        commands = story(LoadRejected(attempt, error))
        assert rejections(commands) == {A: error}
        assert commands[-1] == Terminate(attempt)
        assert isinstance(rejections(story(RequestArrived(B)))[B], Unavailable), "while it is going"
        assert story(Ended(attempt, "exit code 1")) == []
        story.expect(State.BROKEN)
        assert "Not a model." in rejections(story(RequestArrived(B)))[B].message
        assert story.machine.next_wakeup() == pytest.approx(story.now + cooldown_s)
        story.wake()
        story.expect(State.IDLE)


def test_a_good_load_makes_the_breaker_forget() -> None:
    story = Story()
    story(RequestArrived(A))
    story(Spawned(1))
    story(HelloReceived(1))
    story(LoadRejected(1, ModelLoadFailed("No.")))
    story(Ended(1, "exit code 1"))
    story.wake()
    story(PreloadRequested())
    story.to_ready(2)
    assert story.machine.statistics().last_problem == ""


@pytest.mark.parametrize("said_hello", [False, True])
def test_a_silent_worker_is_killed_and_its_end_is_a_crash(said_hello: bool) -> None:
    story = Story()
    story(PreloadRequested())
    story(Spawned(1))
    if said_hello:
        story(HelloReceived(1))
    (kill,) = story.wake()
    assert isinstance(kill, Kill)
    assert isinstance(story.wake()[0], Kill), "asks again while the end is not reported"
    assert story(Ended(1, "signal 9")) == [Spawn(2)]


def test_heartbeats_keep_a_worker_alive() -> None:
    story = Story()
    story(PreloadRequested())
    story.to_ready()
    for _ in range(5):
        assert story(HeartbeatReceived(1, BEAT), after_s=14.0) == []
        assert isinstance(story(Woke())[0], Ignored)
    assert story.machine.statistics().heartbeat == BEAT
    story.now += 15.0
    assert isinstance(story(Woke())[0], Kill)


def test_a_heartbeat_before_hello_does_not_postpone_the_deadline() -> None:
    story = Story()
    story(PreloadRequested())
    due = story.machine.next_wakeup()
    story(HeartbeatReceived(1, BEAT), after_s=1.0)
    assert story.machine.next_wakeup() == due


def test_unload_fails_requests_and_the_next_one_loads_again() -> None:
    story = Story()
    story(RequestArrived(A))
    story.to_ready()
    commands = story(UnloadRequested())
    assert isinstance(rejections(commands)[A], Unavailable)
    assert commands[-1] == Terminate(1)
    assert story(RequestArrived(B)) == [Report(B, LOADING)]
    assert isinstance(story(HeartbeatReceived(1, BEAT))[0], Ignored)
    assert story(Ended(1, "exit code 0")) == [Spawn(2)]
    story.to_ready(2)
    assert story.machine.statistics().active == 1


def test_unload_without_anything_to_unload() -> None:
    story = Story()
    assert isinstance(story(UnloadRequested())[0], Ignored)
    story(RequestArrived(A))
    story(Ended(1, "x"))
    story(Ended(2, "x"))
    story.expect(State.BACKOFF)
    assert rejections(story(UnloadRequested())).keys() == {A}
    story.expect(State.IDLE)


def test_a_worker_that_does_not_exit_is_killed() -> None:
    story = Story()
    story(PreloadRequested())
    story.to_ready()
    story(UnloadRequested())
    assert isinstance(story.wake()[0], Kill)
    assert story(Ended(1, "signal 9")) == []
    story.expect(State.IDLE)


def test_a_process_that_appears_after_it_is_not_wanted_any_more_is_ended() -> None:
    story = Story()
    story(PreloadRequested())
    assert story(UnloadRequested()) == [Terminate(1)]
    assert story(Spawned(1)) == [Terminate(1)]


def test_shutdown_fails_everything_and_refuses_from_then_on() -> None:
    story = Story()
    story(RequestArrived(A))
    story.to_ready()
    story(RequestArrived(B))
    commands = story(ShutdownRequested())
    assert rejections(commands).keys() == {A, B}
    assert commands[-1] == Terminate(1)
    assert "shutting down" in rejections(story(RequestArrived(C)))[C].message
    assert story(Ended(1, "exit code 0")) == []
    story.expect(State.CLOSED)
    assert "shutting down" in rejections(story(RequestArrived(C)))[C].message
    assert story.machine.next_wakeup() is None


def test_shutdown_while_stopping_or_without_a_process() -> None:
    story = Story()
    story(PreloadRequested())
    story.to_ready()
    story(UnloadRequested())
    story(RequestArrived(A))
    assert rejections(story(ShutdownRequested())).keys() == {A}
    story(Ended(1, "exit code 0"))
    story.expect(State.CLOSED)

    story = Story()
    assert story(ShutdownRequested()) == []
    story.expect(State.CLOSED)
    assert isinstance(story(Woke())[0], Ignored)


def test_preload_only_starts_what_is_idle() -> None:
    story = Story()
    assert story(PreloadRequested()) == [Spawn(1)]
    assert isinstance(story(PreloadRequested())[0], Ignored)


def test_events_out_of_place_are_ignored_with_a_reason() -> None:
    story = Story()
    for event in (Spawned(1), HelloReceived(0), LoadProgressed(1, 5), LoadSucceeded(1, FACTS), Ended(0, "x")):
        assert isinstance(story(event)[0], Ignored)
    story(PreloadRequested())
    story(Spawned(1))
    for event in (LoadProgressed(1, 5), LoadSucceeded(1, FACTS)):
        assert isinstance(story(event)[0], Ignored)
    story.to_ready()
    refused = LoadRejected(1, ModelLoadFailed("x"))
    for late in (HelloReceived(1), HelloReceived(2), LoadProgressed(1, 5), LoadSucceeded(1, FACTS), refused):
        assert isinstance(story(late)[0], Ignored)


def test_a_file_found_unusable_before_the_start_is_a_load_failure() -> None:
    story = Story()
    story(RequestArrived(A))
    error = ModelLoadFailed("Missing.")
    assert rejections(story(LoadRejected(1, error))) == {A: error}
    assert story(Ended(1, "not started")) == []
    story.expect(State.BROKEN)


def test_the_story_tells_what_happened_without_heartbeats() -> None:
    story = Story()
    story(PreloadRequested())
    story.to_ready()
    for _ in range(1000):
        story(HeartbeatReceived(1, BEAT))
    assert [line.split()[2] for line in story.machine.story()] == [
        "PreloadRequested()",
        "Spawned(incarnation=1)",
        "HelloReceived(incarnation=1)",
        "LoadSucceeded(incarnation=1,",
    ]


def test_validate_notices_a_broken_machine() -> None:
    machine = Lifecycle("m")
    machine._active[A] = None
    with pytest.raises(AssertionError):
        machine.validate()


class Everything(RuleBasedStateMachine):
    """Any events in any order: invariants hold, and every request gets exactly one end."""

    def __init__(self) -> None:
        super().__init__()
        config = replace(LifecycleConfig(), max_requests=3)
        self.machine = Lifecycle("m", config)
        self.now = 0.0
        self.names = itertools.count()
        self.open: set[RequestId] = set()
        self.admitted: set[RequestId] = set()
        self.incarnation = 0
        self.alive = False

    def give(self, event: Event) -> None:
        for command in self.machine.handle(event, self.now):
            match command:
                case Admit(request_id=request_id):
                    assert request_id in self.open
                    self.admitted.add(request_id)
                case Reject(request_id=request_id) | CancelWork(request_id=request_id):
                    self.open.remove(request_id)
                    self.admitted.discard(request_id)
                case Report(request_id=request_id):
                    assert request_id in self.open - self.admitted
                case Spawn(incarnation=incarnation):
                    assert not self.alive, "two processes for one model"
                    assert incarnation == self.incarnation + 1
                    self.incarnation, self.alive = incarnation, True
                case SendLoad(incarnation=incarnation) | Terminate(incarnation=incarnation):
                    assert incarnation == self.incarnation
                    assert self.alive
                case Kill(incarnation=incarnation):
                    assert incarnation == self.incarnation
                    assert self.alive
                case Ignored():
                    pass

    @rule()
    def arrive(self) -> None:
        request_id = RequestId(f"r{next(self.names)}")
        self.open.add(request_id)
        self.give(RequestArrived(request_id))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.open)))
        was_admitted = request_id in self.admitted
        self.give(RequestAbandoned(request_id))
        assert (request_id in self.open) is not was_admitted
        self.open.discard(request_id)

    @precondition(lambda self: self.admitted)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.admitted)))
        self.give(RequestEnded(request_id))
        self.open.remove(request_id)
        self.admitted.remove(request_id)

    @rule(older=st.integers(0, 1), kind=st.sampled_from([Spawned, HelloReceived]))
    def say(self, older: int, kind: type[Spawned] | type[HelloReceived]) -> None:
        self.give(kind(self.incarnation - older))

    @rule(older=st.integers(0, 1))
    def load(self, older: int) -> None:
        self.give(LoadProgressed(self.incarnation - older, 500))
        self.give(LoadSucceeded(self.incarnation - older, FACTS))

    @rule()
    def refuse_to_load(self) -> None:
        self.give(LoadRejected(self.incarnation, ModelLoadFailed("No.")))

    @rule()
    def beat(self) -> None:
        self.give(HeartbeatReceived(self.incarnation, BEAT))

    @precondition(lambda self: self.alive)
    @rule()
    def end(self) -> None:
        self.alive = False
        self.give(Ended(self.incarnation, "signal 9"))

    @rule(event=st.sampled_from([PreloadRequested(), UnloadRequested()]))
    def steer(self, event: Event) -> None:
        self.give(event)

    @rule(seconds=st.floats(0, 400))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due = self.machine.next_wakeup()
        if due is not None and due <= self.now:
            self.give(Woke())

    @rule()
    def shut_down(self) -> None:
        self.give(ShutdownRequested())

    @invariant()
    def holds(self) -> None:
        self.machine.validate()
        statistics = self.machine.statistics()
        assert statistics.waiting + statistics.active == len(self.open)
        assert statistics.active == len(self.admitted)


TestEverything = Everything.TestCase
TestEverything.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
