"""A worker in memory: the real schedule, a byte vocabulary, and an answer given by a function.

Everything but the arithmetic is the real worker's: slots, queue, stop strings, choices, limits, cancelling.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from localai.mesh.errors import InvalidRequest, LocalAIError
from localai.node.features import EVERYTHING, Feature, check_features
from localai.node.inference import (
    ChatInput,
    Event,
    GenerateRequest,
    Prompt,
    Request,
    RequestId,
    Started,
    TextInput,
    TokenInput,
    Tokens,
    failed_from_error,
)
from localai.node.testing.fake_results import fake_logprob, fake_result
from localai.node.workers.connection import WorkerEnd
from localai.node.workers.frames import (
    FRAMES_VERSION,
    HEARTBEAT_S,
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
    ModelFacts,
    ToWorker,
    from_worker_codec,
    to_worker_codec,
)
from localai.node.workers.llama.schedule import EventList, Ids, Schedule

END_TOKEN = 256


def echo(request: GenerateRequest) -> bytes:
    """The default answer: what was said last."""
    match request.prompt:
        case ChatInput(messages=messages):
            return messages[-1].content.encode() if messages else b""
        case TextInput(text=text):
            return text.encode()
        case TokenInput(ids=ids):
            return bytes(token for token in ids if token < END_TOKEN)


async def _no_wait() -> None:
    await asyncio.sleep(0)


@dataclass(slots=True)
class FakeWorker:
    """Implements ``WorkerConnection``. Tests steer it through its fields."""

    answer: Callable[[GenerateRequest], bytes] = echo
    """The bytes of the answer; every byte is one token."""
    before_step: Callable[[], Awaitable[None]] = _no_wait
    """Awaited before each step: a test holds the worker here."""
    load_error: LocalAIError | None = None
    default_context_size: int = 4096
    parser_id: str = "plain"
    """What it says about how reasoning and tool calls are written."""
    features: frozenset[Feature] = EVERYTHING
    pid: int = 0
    sent: list[ToWorker] = field(default_factory=list)
    """Every frame it was sent."""
    _out: asyncio.Queue[FromWorker | WorkerEnd] = field(default_factory=asyncio.Queue)
    _end: WorkerEnd | None = None
    _schedule: Schedule | None = None
    _wanted_logprobs: dict[RequestId, int] = field(default_factory=dict)
    _produced: dict[int, int] = field(default_factory=dict)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _told_to_cancel: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._say(Hello(FRAMES_VERSION, "fake", self.pid))

    # WorkerConnection

    def send(self, frame: ToWorker) -> None:
        """See ``WorkerConnection.send``."""
        payload = to_worker_codec().encode(frame)[4:]  # what does not survive the wire must not pass here
        frame = to_worker_codec().decode(payload)
        self.sent.append(frame)
        if self._end is not None:
            return
        match frame:
            case Load():
                self._load(frame)
            case Ask(request=request):
                self._ask(request)
            case Cancel(request_id=request_id):
                self._cancel(request_id)
                self._told_to_cancel.set()

    async def receive(self) -> Sequence[FromWorker] | WorkerEnd:
        """See ``WorkerConnection.receive``."""
        if self._end is not None and self._out.empty():
            return self._end
        item = await self._out.get()
        return item if isinstance(item, WorkerEnd) else [item]

    def terminate(self) -> None:
        """See ``WorkerConnection.terminate``."""
        self._finish(0)

    def kill(self) -> None:
        """See ``WorkerConnection.kill``."""
        self._finish(-9)

    # For tests

    def die(self, exit_code: int = -9) -> None:
        """End without being asked, as a crash does."""
        self._finish(exit_code)

    async def wait_cancelled(self) -> None:
        """Wait until it has been told to stop a request."""
        await self._told_to_cancel.wait()

    @property
    def cancelled(self) -> list[RequestId]:
        """Requests it was told to stop, in order."""
        return [frame.request_id for frame in self.sent if isinstance(frame, Cancel)]

    # Inside

    def _say(self, frame: FromWorker) -> None:
        if self._end is None:
            self._out.put_nowait(from_worker_codec().decode(from_worker_codec().encode(frame)[4:]))

    def _finish(self, exit_code: int) -> None:
        if self._end is None:
            self._end = WorkerEnd(exit_code)
            self._out.put_nowait(self._end)
            for task in self._tasks:
                task.cancel()

    def _load(self, load: Load) -> None:
        if self.load_error is not None:
            self._say(LoadFailed(failed_from_error(self.load_error)))
            return
        context_size = load.context_size if load.context_size > 0 else self.default_context_size
        self._schedule = Schedule(load.slots, context_size, _Bytes())
        for per_mille in (500, 1000):
            self._say(LoadProgress(per_mille))
        facts = ModelFacts(context_size, load.slots, self.default_context_size, END_TOKEN + 1, "bytes", True)
        self._say(Loaded(facts))
        self._tasks += [asyncio.create_task(self._run(self._schedule)), asyncio.create_task(self._pulse())]

    def _ask(self, request: Request) -> None:
        assert self._schedule is not None, "Ask before Loaded"
        try:
            check_features(request, self.features, "fake")
            if not isinstance(request, GenerateRequest):
                self._emit([(request.id, event) for event in fake_result(request)])
                return
            prompt = prompt_ids(request.prompt)
        except LocalAIError as error:
            self._emit([(request.id, failed_from_error(error))])
            return
        if request.logprobs is not None:
            self._wanted_logprobs[request.id] = request.logprobs
        self._emit(self._schedule.submit(request, prompt, "fake-template", time.monotonic()))
        self._wake.set()

    def _cancel(self, request_id: RequestId) -> None:
        if self._schedule is not None:
            self._schedule.cancel(request_id)

    def _emit(self, events: EventList) -> None:
        if events:
            self._say(Events(tuple((request_id, self._completed(request_id, event)) for request_id, event in events)))

    def _completed(self, request_id: RequestId, event: Event) -> Event:
        """What the schedule does not know about."""
        match event:
            case Started():
                return msgspec.structs.replace(event, parser_id=self.parser_id)
            case Tokens(ids=ids) if (top := self._wanted_logprobs.get(request_id)) is not None:
                return msgspec.structs.replace(event, logprobs=tuple(fake_logprob(token, top) for token in ids))
            case _:
                return event

    async def _run(self, schedule: Schedule) -> None:
        while True:
            if not (schedule.active or schedule.queued):
                self._wake.clear()
                await self._wake.wait()
            await self.before_step()
            self._emit(self._step(schedule))

    def _step(self, schedule: Schedule) -> EventList:
        events: EventList = []
        for trim in schedule.admit(time.monotonic()):
            events += schedule.trimmed(trim.slot, trim.keep)
            self._produced[trim.slot] = 0
        step = schedule.plan()
        if step is None:
            return events
        tokens = {chunk.slot: self._draw(schedule, chunk.slot) for chunk in step.chunks if chunk.wants_token}
        return events + schedule.advance(step, tokens, time.monotonic())

    def _draw(self, schedule: Schedule, slot: int) -> int:
        request = schedule.request_in(slot)
        answer = self.answer(request)
        place = self._produced[slot]
        self._produced[slot] = place + 1
        if place < len(answer):
            return answer[place]
        return answer[place % len(answer)] if request.ignore_eos and answer else END_TOKEN

    async def _pulse(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            schedule = self._schedule
            if schedule is not None:
                totals = schedule.prompt_tokens_total, schedule.completion_tokens_total
                self._say(Heartbeat(schedule.active, schedule.queued, 0.0, *totals))


class _Bytes:
    """Every byte is a token, and one more ends the turn."""

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < END_TOKEN else b""

    def is_end(self, token: int) -> bool:
        return token == END_TOKEN


def prompt_ids(prompt: Prompt) -> Ids:
    """The ids of a prompt: its bytes."""
    match prompt:
        case ChatInput(messages=messages):
            text = "".join(f"{message.role}: {message.content}\n" for message in messages)
            return np.frombuffer(text.encode(), np.uint8).astype(np.int32)
        case TextInput(text=text):
            return np.frombuffer(text.encode(), np.uint8).astype(np.int32)
        case TokenInput(ids=ids):
            if any(not 0 <= token <= END_TOKEN for token in ids):
                raise InvalidRequest("A token id is outside this model's vocabulary (0 to 256).", param="prompt")
            return np.array(ids, np.int32)
