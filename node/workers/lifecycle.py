"""The life of the worker of one model, as a state machine (pure).

    state     meaning                               entered by                      left by
    IDLE      no process                            start; unload; breaker over     a request, preload -> STARTING
    STARTING  process spawned, has not said Hello   Spawn                           Hello -> LOADING; end: a crash
    LOADING   reads the model                       Hello                           Loaded -> READY; end: a crash
    READY     answers requests                      Loaded                          end: a crash; unload -> STOPPING
    STOPPING  asked to exit                         unload, shutdown, load failure  end -> IDLE, BROKEN or CLOSED
    BACKOFF   crashed, waits before the next start  crash                           time -> STARTING
    BROKEN    breaker open: refuses at once         load failure, series of crashes time -> IDLE
    CLOSED    the node stops                        shutdown                        never

A request is *waiting* until a worker is READY, then *active* until its terminal event, then forgotten.
When a worker ends, each active request fails with :class:`WorkerLost`; waiting ones stay, for the next start.
``Spawn`` is answered by ``Spawned`` or ``Ended``; ``Terminate`` and ``Kill`` by ``Ended``. Events that name an
older incarnation become an ``Ignored`` command.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from localai.mesh.errors import LocalAIError, ModelLoadFailed, RateLimited, Unavailable, WorkerLost
from localai.node.inference import Progress, RequestId
from localai.node.workers.frames import Heartbeat, ModelFacts
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


class State(StrEnum):
    """See the table in the module's docstring."""

    IDLE = "idle"
    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    BROKEN = "broken"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class LifecycleConfig:
    """Limits and delays. Defaults suit one machine at home."""

    max_requests: int = 256
    """Requests waiting and active together; one more is refused with 429. Each holds its prompt in memory."""
    hello_timeout_s: float = 60.0
    """From spawn to Hello: importing the engine on a slow disk takes seconds, never a minute."""
    silence_timeout_s: float = 15.0
    """Without any frame the worker counts as frozen and is killed. Heartbeats come every second, even during a load."""
    stop_timeout_s: float = 3.0
    """From Terminate to Kill."""
    crash_window_s: float = 60.0
    crash_limit: int = 3
    """This many crashes inside the window open the breaker."""
    backoff_s: tuple[float, ...] = (0.0, 1.0, 2.0)
    """Wait before the restart after the first, second, ... crash inside the window. The first is free."""
    cooldown_s: float = 10.0
    """First time the breaker stays open; doubles with each failure that follows, up to the maximum."""
    max_cooldown_s: float = 300.0


_PROCESS_STATES = frozenset({State.STARTING, State.LOADING, State.READY, State.STOPPING})


@dataclass(frozen=True, slots=True)
class Statistics:
    """A snapshot for pages, logs and routing."""

    state: State
    waiting: int
    active: int
    incarnation: int
    load_per_mille: int
    recent_crashes: int
    facts: ModelFacts | None
    heartbeat: Heartbeat | None
    last_problem: str


class Lifecycle:
    """One model's worker. ``handle`` is the only mutator; it returns what the shell must do."""

    def __init__(self, model: str, config: LifecycleConfig | None = None) -> None:
        self._model = model
        self._config = config or LifecycleConfig()
        self._state = State.IDLE
        self._incarnation = 0
        self._waiting: dict[RequestId, None] = {}
        self._active: dict[RequestId, None] = {}
        self._deadline: float | None = None
        self._after_stop = State.IDLE
        self._crashes: deque[float] = deque(maxlen=self._config.crash_limit)
        self._cooldown_s = self._config.cooldown_s
        self._problem: LocalAIError | None = None
        self._per_mille = 0
        self._facts: ModelFacts | None = None
        self._heartbeat: Heartbeat | None = None
        self._story: deque[str] = deque(maxlen=200)

    # Reading

    def next_wakeup(self) -> float | None:
        """The instant at which ``Woke`` is due, in the clock of ``now``."""
        return self._deadline

    def statistics(self) -> Statistics:
        """The current state, frozen."""
        return Statistics(
            state=self._state,
            waiting=len(self._waiting),
            active=len(self._active),
            incarnation=self._incarnation,
            load_per_mille=self._per_mille,
            recent_crashes=len(self._crashes),
            facts=self._facts,
            heartbeat=self._heartbeat,
            last_problem=self._problem.message if self._problem else "",
        )

    def story(self) -> tuple[str, ...]:
        """The last events and what they led to, oldest first, for bug reports."""
        return tuple(self._story)

    def validate(self) -> None:
        """Check every invariant.

        Raises:
            AssertionError: one does not hold; the story is in the message.
        """
        story = "\n".join(self._story)
        assert not self._waiting.keys() & self._active.keys(), story
        assert not self._active or self._state is State.READY, story
        assert (self._facts is not None) == (self._state is State.READY), story
        assert not self._waiting or self._state not in (State.IDLE, State.READY, State.BROKEN, State.CLOSED), story
        assert (self._deadline is None) == (self._state in (State.IDLE, State.CLOSED)), story
        assert len(self._waiting) + len(self._active) <= self._config.max_requests, story

    # Changing

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event at the instant ``now`` (seconds, monotonic); get the commands to execute, in order."""
        before = self._state
        commands = self._dispatch(event, now)
        if not isinstance(event, HeartbeatReceived):
            self._story.append(f"{now:.3f} {before} {event} -> {self._state} {commands}"[:400])
        return commands

    def _dispatch(self, event: Event, now: float) -> list[Command]:
        match event:
            case RequestArrived():
                return self._request_arrived(event.request_id, now)
            case RequestEnded():
                return self._request_ended(event.request_id)
            case RequestAbandoned():
                return self._request_abandoned(event.request_id)
            case PreloadRequested():
                return self._preload(now)
            case UnloadRequested():
                return self._unload(event.reason, now)
            case ShutdownRequested():
                return self._shutdown(now)
            case Woke():
                return self._woke(now)
            case Spawned() | HelloReceived() | LoadProgressed() | LoadSucceeded() | LoadRejected():
                return self._process_event(event, now)
            case HeartbeatReceived() | Ended():
                return self._process_event(event, now)
            case _:
                assert_never(event)

    def _request_arrived(self, request_id: RequestId, now: float) -> list[Command]:
        if request_id in self._waiting or request_id in self._active:
            return [Ignored(f"request {request_id} is here already")]
        closing = self._state is State.STOPPING and self._after_stop is not State.IDLE
        if closing or self._state in (State.BROKEN, State.CLOSED):
            return [Reject(request_id, self._refusal(now))]
        if len(self._waiting) + len(self._active) >= self._config.max_requests:
            message = f"The queue of model '{self._model}' is full ({self._config.max_requests}). Try again soon."
            return [Reject(request_id, RateLimited(message, retry_after_s=1.0))]
        if self._state is State.READY:
            self._active[request_id] = None
            return [Admit(request_id)]
        self._waiting[request_id] = None
        commands: list[Command] = [Report(request_id, Progress("loading", self._per_mille, 1000))]
        if self._state is State.IDLE:
            commands += self._spawn(now)
        return commands

    def _request_ended(self, request_id: RequestId) -> list[Command]:
        if self._active.pop(request_id, self) is self:
            return [Ignored(f"request {request_id} is not active")]
        return []

    def _request_abandoned(self, request_id: RequestId) -> list[Command]:
        if request_id in self._active:
            del self._active[request_id]
            return [CancelWork(request_id)]
        if self._waiting.pop(request_id, self) is self:
            return [Ignored(f"request {request_id} is gone already")]
        return []

    def _preload(self, now: float) -> list[Command]:
        if self._state is State.IDLE:
            return self._spawn(now)
        return [Ignored(f"preload in state {self._state}")]

    def _unload(self, reason: str, now: float) -> list[Command]:
        why = f": {reason}" if reason else ""
        if self._state in (State.STARTING, State.LOADING, State.READY):
            error = Unavailable(f"Model '{self._model}' was unloaded{why}. Ask again to load it.", retry_after_s=1.0)
            return [*self._reject_all(error), *self._stop(State.IDLE, now)]
        if self._state in (State.BACKOFF, State.BROKEN):
            commands = self._reject_all(Unavailable(f"Model '{self._model}' was unloaded{why}.", retry_after_s=1.0))
            self._enter(State.IDLE, None)
            return commands
        return [Ignored(f"unload in state {self._state}")]

    def _shutdown(self, now: float) -> list[Command]:
        commands = self._reject_all(Unavailable("This node is shutting down. Ask another node, or try again later."))
        if self._state is State.STOPPING:
            self._after_stop = State.CLOSED
            return commands
        if self._state in _PROCESS_STATES:
            return [*commands, *self._stop(State.CLOSED, now)]
        self._enter(State.CLOSED, None)
        return commands

    def _process_event(
        self,
        event: Spawned | HelloReceived | LoadProgressed | LoadSucceeded | LoadRejected | HeartbeatReceived | Ended,
        now: float,
    ) -> list[Command]:
        if event.incarnation != self._incarnation or self._state not in _PROCESS_STATES:
            return [Ignored(f"{type(event).__name__} of incarnation {event.incarnation} in state {self._state}")]
        match event:
            case Ended():
                return self._ended(event.description, now)
            case Spawned():
                # Asked to stop while the process was being started: nobody could be told until now.
                return [Terminate(self._incarnation)] if self._state is State.STOPPING else []
            case _ if self._state is State.STOPPING:
                return [Ignored(f"{type(event).__name__} while stopping")]
            case HelloReceived():
                if self._state is not State.STARTING:
                    return [Ignored("a second Hello")]
                self._enter(State.LOADING, now + self._config.silence_timeout_s)
                return [SendLoad(self._incarnation)]
            case LoadProgressed():
                return self._load_progressed(event.per_mille, now)
            case LoadSucceeded():
                return self._load_succeeded(event.facts, now)
            case LoadRejected():
                return self._load_rejected(event.error, now)
            case HeartbeatReceived():
                if self._state is not State.STARTING:
                    self._deadline = now + self._config.silence_timeout_s
                    self._heartbeat = event.heartbeat
                return []
            case _:
                assert_never(event)

    def _load_progressed(self, per_mille: int, now: float) -> list[Command]:
        if self._state is not State.LOADING:
            return [Ignored(f"load progress in state {self._state}")]
        self._deadline = now + self._config.silence_timeout_s
        self._per_mille = per_mille
        return [Report(request_id, Progress("loading", per_mille, 1000)) for request_id in self._waiting]

    def _load_succeeded(self, facts: ModelFacts, now: float) -> list[Command]:
        if self._state is not State.LOADING:
            return [Ignored(f"Loaded in state {self._state}")]
        self._enter(State.READY, now + self._config.silence_timeout_s)
        self._facts = facts
        self._per_mille = 1000
        self._cooldown_s = self._config.cooldown_s
        self._problem = None
        self._active, self._waiting = self._waiting, {}
        return [Admit(request_id) for request_id in self._active]

    def _load_rejected(self, error: LocalAIError, now: float) -> list[Command]:
        if self._state not in (State.STARTING, State.LOADING):
            return [Ignored(f"LoadFailed in state {self._state}")]
        self._problem = error
        return [*self._reject_all(error), *self._stop(State.BROKEN, now)]

    def _ended(self, description: str, now: float) -> list[Command]:
        if self._state is not State.STOPPING:
            return self._crashed(description, now)
        after = self._after_stop
        if after is State.BROKEN:
            self._break(now)
            return []
        commands: list[Command] = []
        self._enter(after, None)
        if self._waiting:  # they came while the old process was going
            commands += self._spawn(now)
        return commands

    def _crashed(self, description: str, now: float) -> list[Command]:
        self._crashes.append(now)
        while self._crashes[0] < now - self._config.crash_window_s:
            self._crashes.popleft()
        lost = WorkerLost(
            f"The worker of model '{self._model}' ended ({description}) while answering. "
            "It is being restarted; try again.",
            retry_after_s=1.0,
        )
        commands: list[Command] = [Reject(request_id, lost) for request_id in self._active]
        self._active.clear()
        self._problem = lost
        if len(self._crashes) >= self._config.crash_limit:
            self._problem = ModelLoadFailed(
                f"The worker of model '{self._model}' ended {len(self._crashes)} times in a row ({description}). "
                f"See the log of this node."
            )
            commands += self._reject_all(self._problem)
            self._break(now)
            return commands
        delay = self._config.backoff_s[min(len(self._crashes), len(self._config.backoff_s)) - 1]
        if delay <= 0:
            return [*commands, *self._spawn(now)]
        self._enter(State.BACKOFF, now + delay)
        return commands

    def _woke(self, now: float) -> list[Command]:
        if self._deadline is None or now < self._deadline:
            return [Ignored("woken early")]
        match self._state:
            case State.STARTING:
                return self._kill("said nothing after its start", now)
            case State.LOADING | State.READY:
                return self._kill(f"no sign of life for {self._config.silence_timeout_s:g} s", now)
            case State.STOPPING:
                return self._kill("did not exit when asked", now)
            case State.BACKOFF:
                return self._spawn(now)
            case State.BROKEN:
                self._enter(State.IDLE, None)
                return []
            case State.IDLE | State.CLOSED:
                raise AssertionError(f"a deadline in state {self._state}")
            case _:
                assert_never(self._state)

    # Steps shared by several transitions

    def _spawn(self, now: float) -> list[Command]:
        self._incarnation += 1
        self._enter(State.STARTING, now + self._config.hello_timeout_s)
        return [Spawn(self._incarnation)]

    def _stop(self, after: State, now: float) -> list[Command]:
        self._after_stop = after
        self._enter(State.STOPPING, now + self._config.stop_timeout_s)
        return [Terminate(self._incarnation)]

    def _kill(self, reason: str, now: float) -> list[Command]:
        # The end is still to be reported. Ask again later rather than trust that it will be.
        self._deadline = now + self._config.stop_timeout_s
        return [Kill(self._incarnation, reason)]

    def _break(self, now: float) -> None:
        self._enter(State.BROKEN, now + self._cooldown_s)
        self._crashes.clear()
        self._cooldown_s = min(self._cooldown_s * 2, self._config.max_cooldown_s)

    def _enter(self, state: State, deadline: float | None) -> None:
        self._state = state
        self._deadline = deadline
        if state is not State.READY:
            self._facts = None
            self._heartbeat = None
            self._per_mille = 0

    def _reject_all(self, error: LocalAIError) -> list[Command]:
        commands: list[Command] = [Reject(request_id, error) for request_id in (*self._waiting, *self._active)]
        self._waiting.clear()
        self._active.clear()
        return commands

    def _refusal(self, now: float) -> LocalAIError:
        if State.CLOSED in (self._state, self._after_stop):
            return Unavailable("This node is shutting down. Ask another node, or try again later.")
        wait_s = max(0.0, (self._deadline or now) - now)
        reason = self._problem.message if self._problem else "It failed before."
        return Unavailable(
            f"Model '{self._model}' failed recently and is tried again in {wait_s:.0f} s. {reason}",
            code="model_cooldown",
            retry_after_s=wait_s,
        )
