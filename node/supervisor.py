"""Runs the worker of one model: executes what ``workers/lifecycle.py`` decides (shell).

Everything happens on the event loop's thread, so an event is handled and its commands executed without interruption.
Token events go straight from the worker's frames to the request's queue; the machine sees only starts and ends.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable
from typing import assert_never

import structlog

from localai.mesh.errors import LocalAIError, ModelLoadFailed, RateLimited, TooLarge, UpstreamFailed, WireError
from localai.node.event_queue import EventQueue
from localai.node.inference import (
    Event,
    Request,
    RequestId,
    error_from_failed,
    failed_from_error,
    is_terminal,
)
from localai.node.workers import lifecycle as life
from localai.node.workers import lifecycle_messages as messages
from localai.node.workers.connection import Spawn, WorkerConnection, WorkerEnd
from localai.node.workers.frames import (
    FRAMES_VERSION,
    Ask,
    Cancel,
    Events,
    FromWorker,
    Heartbeat,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
)

_LOG = structlog.get_logger()


class ModelSupervisor:
    """Keeps one model's worker alive and passes requests through it."""

    def __init__(self, model: str, load: Load, spawn: Spawn, config: life.LifecycleConfig | None = None) -> None:
        self._model = model
        self._load = load
        self._spawn = spawn
        self._loop = asyncio.get_running_loop()
        self._machine = life.Lifecycle(model, config)
        self._pending: dict[RequestId, EventQueue] = {}
        self._worker: WorkerConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._timer: asyncio.Handle | None = None
        self._timer_due = 0.0
        self._changed = asyncio.Event()
        self._watchers: list[Callable[[], None]] = []
        self._load_began = 0.0
        self.pid = 0
        """Process of the worker, as it says; 0 when there is none."""
        self.last_load_s = 0.0
        """Seconds from the start of a worker until it was ready, the last time; 0 before the first."""

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call this whenever the worker's state changes."""
        self._watchers.append(on_change)

    def statistics(self) -> life.Statistics:
        """The machine's current state, frozen."""
        return self._machine.statistics()

    def story(self) -> tuple[str, ...]:
        """The machine's last steps, for bug reports."""
        return self._machine.story()

    def validate(self) -> None:
        """Check the machine's invariants (tests call this after every scenario)."""
        self._machine.validate()

    async def answer_batches(self, request: Request) -> AsyncGenerator[list[Event], None]:
        """The events of one request, all that are ready at a time, ending with exactly one terminal event.

        Closing the generator early, or cancelling its reader, stops the work at the next engine step.
        """
        pending = EventQueue(request)
        self._pending[request.id] = pending
        try:
            self._handle(messages.RequestArrived(request.id))
            ended = False
            while not ended:
                batch, ended = await pending.take()
                yield batch
        finally:
            del self._pending[request.id]
            if not pending.ended:
                self._handle(messages.RequestAbandoned(request.id))

    def preload(self) -> None:
        """Start loading now, if nothing is."""
        self._handle(messages.PreloadRequested())

    def unload(self, reason: str = "") -> None:
        """Free the model's memory. Requests in it fail, and are told the reason."""
        self._handle(messages.UnloadRequested(reason))

    async def wait_state(self, *states: life.State) -> life.State:
        """Wait until the machine is in one of ``states``; get the one it is in."""
        while (state := self._machine.statistics().state) not in states:
            self._changed.clear()
            await self._changed.wait()
        return state

    async def aclose(self) -> None:
        """End the worker and fail what is left. Returns when the process is gone."""
        self._handle(messages.ShutdownRequested())
        await self.wait_state(life.State.CLOSED)
        if self._reader is not None:
            await self._reader

    # Machine

    def _handle(self, event: messages.Event) -> None:
        before = self._machine.statistics().state
        for command in self._machine.handle(event, self._loop.time()):
            self._execute(command)
        after = self._machine.statistics().state
        if after is not before:
            _LOG.info("worker_state", model=self._model, before=before, after=after)
            self._changed.set()
            self._time_load(after)
            for on_change in self._watchers:
                on_change()
        self._set_timer()

    def _time_load(self, state: life.State) -> None:
        if state is life.State.STARTING:
            self._load_began = self._loop.time()
        elif state is life.State.READY:
            self.last_load_s = self._loop.time() - self._load_began

    def _set_timer(self) -> None:
        due = self._machine.next_wakeup()
        if self._timer is not None:
            if due == self._timer_due:
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = self._loop.call_at(due, self._wake)
            self._timer_due = due  # kept here: uvloop's handle for a time that has passed does not know it

    def _wake(self) -> None:
        self._timer = None
        self._handle(messages.Woke())

    def _execute(self, command: messages.Command) -> None:
        match command:
            case messages.Spawn():
                # A context of its own: the worker outlives the request that happened to start it, and so do its logs.
                reading = self._run_worker(command.incarnation)
                self._reader = self._loop.create_task(reading, context=contextvars.Context())
            case messages.SendLoad():
                self._send_load(command.incarnation)
            case messages.Admit():
                self._admit(command.request_id)
            case messages.CancelWork():
                self._send(Cancel(command.request_id))
            case messages.Reject():
                self._put(command.request_id, failed_from_error(command.error))
            case messages.Report():
                self._put(command.request_id, command.progress)
            case messages.Terminate():
                if self._worker is not None:
                    self._worker.terminate()
            case messages.Kill():
                _LOG.warning("worker_killed", model=self._model, reason=command.reason)
                if self._worker is not None:
                    self._worker.kill()
            case messages.Ignored():
                _LOG.debug("worker_event_ignored", model=self._model, reason=command.reason)
            case _:
                assert_never(command)

    def _send(self, frame: Load | Cancel) -> None:
        if self._worker is not None:
            self._worker.send(frame)

    def _send_load(self, incarnation: int) -> None:
        try:
            self._send(self._load)
        except WireError as error:
            message = f"The path of model '{self._model}' cannot be sent to a worker. Rename the file or its folder."
            problem = ModelLoadFailed(message, detail=error.detail)
            self._loop.call_soon(self._handle, messages.LoadRejected(incarnation, problem))

    def _admit(self, request_id: RequestId) -> None:
        pending = self._pending.get(request_id)
        if pending is None or self._worker is None:
            return
        try:
            self._worker.send(Ask(pending.request))
        except WireError as error:
            message = "The request cannot be sent to a worker: it is too long, or holds a value out of range."
            self._refuse(pending, TooLarge(message, detail=f"{error.message} {error.detail}"))
        except RateLimited as error:
            self._refuse(pending, error)

    def _refuse(self, pending: EventQueue, error: LocalAIError) -> None:
        """Fail a request that the machine has admitted and the worker has not got."""
        pending.put(failed_from_error(error))
        self._loop.call_soon(self._handle, messages.RequestEnded(pending.request.id))

    def _put(self, request_id: RequestId, event: Event) -> None:
        pending = self._pending.get(request_id)
        if pending is not None:
            pending.put(event)

    # Worker

    async def _run_worker(self, incarnation: int) -> None:
        """One process from start to end. Whatever happens in here, the machine hears of the end."""
        try:
            await self._run_process(incarnation)
        except Exception as error:  # a mistake of ours must not leave a model without its end for ever
            _LOG.exception("worker_task_crashed", model=self._model, kind=type(error).__name__)
            if self._worker is not None:
                self._worker.kill()
                self._worker = None
            self._handle(messages.Ended(incarnation, "lost by this node"))

    async def _run_process(self, incarnation: int) -> None:
        try:
            worker = await self._spawn()
        except LocalAIError as error:
            _LOG.error("worker_start_failed", model=self._model, error=error.message, detail=error.detail)
            if isinstance(error, ModelLoadFailed):
                self._handle(messages.LoadRejected(incarnation, error))
            self._handle(messages.Ended(incarnation, "could not be started"))
            return
        self._worker = worker
        self._handle(messages.Spawned(incarnation))
        try:
            end = await self._read_frames(worker, incarnation)
        finally:
            worker.kill()
            self.pid = 0
        self._worker = None
        if self._machine.statistics().state not in (life.State.STOPPING, life.State.CLOSED):
            _LOG.warning("worker_ended", model=self._model, how=end.description, last_words=end.last_words)
        self._handle(messages.Ended(incarnation, end.description))

    async def _read_frames(self, worker: WorkerConnection, incarnation: int) -> WorkerEnd:
        while True:
            received = await worker.receive()
            if isinstance(received, WorkerEnd):
                return received
            for frame in received:
                self._frame(frame, incarnation, worker)

    def _frame(self, frame: FromWorker, incarnation: int, worker: WorkerConnection) -> None:
        match frame:
            case Events():
                for request_id, event in frame.events:
                    self._event(request_id, event)
            case Heartbeat():
                self._handle(messages.HeartbeatReceived(incarnation, frame))
            case Hello():
                if frame.version != FRAMES_VERSION:
                    _LOG.error("worker_version_differs", model=self._model, theirs=frame.version, ours=FRAMES_VERSION)
                    worker.kill()
                self.pid = frame.pid
                self._handle(messages.HelloReceived(incarnation))
            case LoadProgress():
                self._handle(messages.LoadProgressed(incarnation, frame.per_mille))
            case Loaded():
                self._handle(messages.LoadSucceeded(incarnation, frame.facts))
            case LoadFailed():
                self._handle(messages.LoadRejected(incarnation, error_from_failed(frame.error)))
            case _:
                assert_never(frame)

    def _event(self, request_id: RequestId, event: Event) -> None:
        pending = self._pending.get(request_id)
        if pending is None:
            return  # abandoned; its Cancel is on the way
        if pending.is_full:
            pending.put(failed_from_error(UpstreamFailed("The client reads too slowly. Read the answer as it comes.")))
            self._handle(messages.RequestAbandoned(request_id))
            return
        pending.put(event)
        if is_terminal(event):
            self._handle(messages.RequestEnded(request_id))
