"""The conformance suite of workers: what every implementation of ``WorkerConnection`` promises.

``await check_worker(connect, load)`` raises AssertionError at the first broken promise. It runs against the fake, the
llama.cpp worker, and whatever else claims to be a worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from localai.mesh.errors import Category
from localai.node.inference import (
    ChatInput,
    ChatMessage,
    Detokenized,
    DetokenizeRequest,
    Embedded,
    EmbedRequest,
    Event,
    Failed,
    Finished,
    GenerateRequest,
    Request,
    RequestId,
    RerankRequest,
    Sampling,
    Scored,
    Started,
    TextInput,
    TokenInput,
    Tokenized,
    TokenizeRequest,
    Tokens,
    is_terminal,
)
from localai.node.workers.connection import WorkerConnection, WorkerEnd
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

TIMEOUT_S = 60.0
GREEDY = Sampling(temperature=0.0)


@dataclass(slots=True)
class Client:
    """Speaks the worker's protocol and sorts what comes back."""

    worker: WorkerConnection
    loaded: Loaded | None = None
    progress: list[int] = field(default_factory=list)
    heartbeats: list[Heartbeat] = field(default_factory=list)
    events: dict[RequestId, list[Event]] = field(default_factory=dict)
    end: WorkerEnd | None = None
    broken: AssertionError | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Read until the worker ends or breaks a promise."""
        while self.end is None and self.broken is None:
            received = await self.worker.receive()
            if isinstance(received, WorkerEnd):
                self.end = received
            else:
                self._take_all(received)
            self._changed.set()

    def _take_all(self, frames: Sequence[FromWorker]) -> None:
        try:
            for frame in frames:
                self._take(frame)
        except AssertionError as error:
            self.broken = error

    def _take(self, frame: FromWorker) -> None:
        match frame:
            case LoadProgress(per_mille=per_mille):
                self.progress.append(per_mille)
            case Loaded():
                self.loaded = frame
            case Heartbeat():
                self.heartbeats.append(frame)
            case Events(events=events):
                for request_id, event in events:
                    seen = self.events.setdefault(request_id, [])
                    assert not (seen and is_terminal(seen[-1])), f"{request_id}: {event} after the terminal event"
                    seen.append(event)
            case LoadFailed(error=error):
                raise AssertionError(f"load failed: {error}")
            case _:
                raise AssertionError(f"unexpected frame {frame}")

    async def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition on what has been received."""
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():
                if self.broken is not None:
                    raise self.broken
                assert self.end is None, f"the worker ended while waiting for {what}: {self.end}"
                self._changed.clear()
                await self._changed.wait()

    async def wait_end(self) -> None:
        """Wait for the end of the worker."""
        async with asyncio.timeout(TIMEOUT_S):
            while self.end is None:
                self._changed.clear()
                await self._changed.wait()

    async def answer(self, request: Request) -> list[Event]:
        """Send a request; get all its events."""
        self.worker.send(Ask(request))
        return await self.finish(request.id)

    async def finish(self, request_id: RequestId) -> list[Event]:
        """All events of a request that was sent."""

        def ended() -> bool:
            return is_terminal((self.events.get(request_id) or [Started("", 0)])[-1])

        await self.wait(ended, f"the end of {request_id}")
        return self.events[request_id]


def chat(name: str, text: str = "Tell me about rivers.", **changes: object) -> GenerateRequest:
    """A small greedy request that always runs to its token limit."""
    prompt = ChatInput((ChatMessage("user", text),))
    request = GenerateRequest(RequestId(name), "model", prompt, GREEDY, max_tokens=12, ignore_eos=True)
    return msgspec.structs.replace(request, **changes)


async def check_worker(connect: Callable[[], Awaitable[WorkerConnection]], load: Load) -> None:
    """Run every check on one worker. ``load`` should give it at least two slots and a context of 256 or more."""
    async with asyncio.timeout(TIMEOUT_S):
        worker = await connect()
        first = await worker.receive()
        assert not isinstance(first, WorkerEnd), first
        hello, *_ = first
        assert isinstance(hello, Hello), f"the first frame is {hello}"
        assert hello.version == FRAMES_VERSION
    client = Client(worker)
    reader = asyncio.create_task(client.run())
    worker.send(load)
    await client.wait(lambda: client.loaded is not None, "Loaded")
    try:
        for check in (
            _loads_with_progress,
            _answers_in_order,
            _greedy_repeats,
            _seeds_repeat,
            _choices_are_independent,
            _stop_strings_end,
            _token_prompts_continue,
            _refuses_bad_prompts,
            _serves_more_than_its_slots,
            _tokenizes,
            _answers_or_refuses_everything_else,
            _cancels,
            _beats,
        ):
            await check(client)
        await _ends_when_asked(client)
    finally:
        worker.kill()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


def _text(events: list[Event], choice: int = 0) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Tokens) and event.choice == choice)


def _ids(events: list[Event], choice: int = 0) -> list[int]:
    return [i for event in events if isinstance(event, Tokens) and event.choice == choice for i in event.ids]


def _finished(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished), events[-1]
    return events[-1]


async def _loads_with_progress(client: Client) -> None:
    assert client.loaded is not None
    facts = client.loaded.facts
    assert facts.slots >= 2
    assert facts.context_size >= 256
    assert facts.vocabulary_size > 0
    assert client.progress == sorted(client.progress)
    assert all(0 <= per_mille <= 1000 for per_mille in client.progress)


async def _answers_in_order(client: Client) -> None:
    events = await client.answer(chat("order"))
    kinds = [type(event) for event in events]
    assert kinds.count(Started) == 1
    assert kinds.index(Started) < kinds.index(Tokens)
    started = events[kinds.index(Started)]
    assert isinstance(started, Started)
    assert len(bytes.fromhex(started.prompt_digest)) == 32
    finished = _finished(events)
    assert finished.reasons == ("length",)
    assert finished.usage.completion_tokens == len(_ids(events)) == 12
    assert finished.usage.prompt_tokens == started.prompt_tokens > 0


async def _greedy_repeats(client: Client) -> None:
    first, second = await client.answer(chat("greedy-1")), await client.answer(chat("greedy-2"))
    assert _ids(first) == _ids(second)
    assert _finished(second).usage.cached_tokens <= _finished(second).usage.prompt_tokens


async def _seeds_repeat(client: Client) -> None:
    sampling = Sampling(temperature=1.0, seed=7)
    first = await client.answer(chat("seed-1", sampling=sampling))
    second = await client.answer(chat("seed-2", sampling=sampling))
    assert _ids(first) == _ids(second)


async def _choices_are_independent(client: Client) -> None:
    events = await client.answer(chat("choices", choices=3))
    finished = _finished(events)
    assert finished.reasons == ("length",) * 3
    assert [len(_ids(events, choice)) for choice in range(3)] == [12, 12, 12]
    assert finished.usage.completion_tokens == 36


async def _stop_strings_end(client: Client) -> None:
    whole = _text(await client.answer(chat("stop-1", max_tokens=40))).decode("utf-8", "ignore")
    stop = whole[len(whole) // 2 :][:3]
    events = await client.answer(chat("stop-2", max_tokens=40, stop=(stop,)))
    assert _finished(events).reasons == ("stop_string",)
    assert stop.encode() in _text(events)
    assert len(_text(events)) <= whole.encode().index(stop.encode()) + len(stop.encode()) + 64


async def _token_prompts_continue(client: Client) -> None:
    learnt = _ids(await client.answer(chat("ids-1")))
    events = await client.answer(chat("ids-2", prompt=TokenInput(tuple(learnt))))
    assert _finished(events).usage.prompt_tokens == len(learnt)


async def _refuses_bad_prompts(client: Client) -> None:
    assert client.loaded is not None
    too_long = tuple([1] * client.loaded.facts.context_size)
    for name, ids, code in (
        ("empty", (), "invalid_request"),
        ("outside", (2_000_000_000,), "invalid_request"),
        ("negative", (-1,), "invalid_request"),
        ("too-long", too_long, "context_length_exceeded"),
    ):
        last = (await client.answer(chat(name, prompt=TokenInput(ids))))[-1]
        assert isinstance(last, Failed), (name, last)
        assert last.category is Category.INVALID_REQUEST, (name, last)
        assert last.code == code, (name, last)


async def _serves_more_than_its_slots(client: Client) -> None:
    assert client.loaded is not None
    names = [f"many-{i}" for i in range(client.loaded.facts.slots * 2 + 1)]
    for name in names:
        client.worker.send(Ask(chat(name, text=f"This is {name}.")))
    for name in names:
        events = await client.finish(RequestId(name))
        assert len(_ids(events)) == 12


async def _tokenizes(client: Client) -> None:
    for number, text in enumerate(("Rivers flow to the sea.", "Grüße, 世界 🙂", "x" * 5000)):
        *parts, finished = await client.answer(TokenizeRequest(RequestId(f"tokenize{number}"), "model", text))
        ids = tuple(token for part in parts if isinstance(part, Tokenized) for token in part.ids)
        assert ids
        assert isinstance(finished, Finished)
        assert finished.usage.prompt_tokens == len(ids)
        back, _ = await client.answer(DetokenizeRequest(RequestId(f"detokenize{number}"), "model", ids))
        assert isinstance(back, Detokenized)
        assert back.data.decode().strip() == text
    *parts, _ = await client.answer(TokenizeRequest(RequestId("tokenize-nothing"), "model", ""))
    assert parts == [Tokenized(())]
    asked = chat("counted", max_tokens=1)
    *parts, _ = await client.answer(TokenizeRequest(RequestId("count"), "model", "", prompt=asked.prompt))
    counted = sum(len(part.ids) for part in parts if isinstance(part, Tokenized))
    assert counted == _finished(await client.answer(asked)).usage.prompt_tokens
    (failed,) = await client.answer(DetokenizeRequest(RequestId("detokenize-wrong"), "model", (2**30,)))
    assert isinstance(failed, Failed)
    assert failed.category is Category.INVALID_REQUEST


async def _answers_or_refuses_everything_else(client: Client) -> None:
    inputs = (TextInput("a river"), TextInput("a mountain"))
    *vectors, end = await client.answer(EmbedRequest(RequestId("embed"), "model", inputs))
    if not _is_refusal(end):
        assert [event.index for event in vectors if isinstance(event, Embedded)] == [0, 1]
        assert isinstance(end, Finished)
    *scored, end = await client.answer(RerankRequest(RequestId("rerank"), "model", "water?", ("a river", "a stone")))
    if not _is_refusal(end):
        assert [len(event.scores) for event in scored if isinstance(event, Scored)] == [2]
    events = await client.answer(chat("logprobs", logprobs=2, max_tokens=3))
    if not _is_refusal(events[-1]):
        found = [each for event in events if isinstance(event, Tokens) for each in event.logprobs]
        assert [each.id for each in found] == _ids(events)
        assert all(each.logprob <= 0 and len(each.top) == 2 for each in found)


def _is_refusal(event: Event) -> bool:
    return isinstance(event, Failed) and event.category is Category.UNSUPPORTED


async def _cancels(client: Client) -> None:
    endless = chat("cancelled", max_tokens=None)
    client.worker.send(Ask(endless))
    await client.wait(lambda: bool(_ids(client.events.get(endless.id, []))), "a first token")
    client.worker.send(Cancel(endless.id))
    client.worker.send(Cancel(RequestId("never-seen")))
    await client.answer(chat("after-cancel"))
    beats = len(client.heartbeats)
    await client.wait(lambda: len(client.heartbeats) > beats, "a heartbeat")
    assert client.heartbeats[-1].active == 0, client.heartbeats[-1]
    assert not is_terminal(client.events[endless.id][-1])


async def _beats(client: Client) -> None:
    totals = [beat.completion_tokens_total for beat in client.heartbeats]
    assert totals
    assert totals == sorted(totals)


async def _ends_when_asked(client: Client) -> None:
    client.worker.terminate()
    await client.wait_end()
    assert client.end is not None
    assert client.end.exit_code in (0, None), client.end
    assert await client.worker.receive() == client.end
