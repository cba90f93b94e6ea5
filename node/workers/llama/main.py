"""Main of a llama.cpp worker: ``python -m localai.node.workers.llama.main FD`` (shell).

Four threads: the main one owns the engine; *inbox* reads frames; *prompts* renders and tokenizes; *pulse* sends the
heartbeat. One that fails ends the process, since a worker that lives but is deaf would never be replaced. End of input
means exit, at once: there is nothing to save, and unloading a model is ending its process.
"""

from __future__ import annotations

import ctypes
import functools
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import datetime
from typing import NoReturn, assert_never

from localai.mesh.errors import InvalidRequest, LocalAIError, Unsupported, WireError
from localai.mesh.wire import FrameDecoder
from localai.node.features import BACKEND_FEATURES, check_features
from localai.node.inference import (
    MAX_EVENT_IDS,
    ChatInput,
    Detokenized,
    DetokenizeRequest,
    Event,
    Finished,
    GenerateRequest,
    Prompt,
    Request,
    RequestId,
    TextInput,
    TokenInput,
    Tokenized,
    TokenizeRequest,
    Usage,
    failed_from_error,
)
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
    ToWorker,
    from_worker_codec,
    to_worker_codec,
)
from localai.node.workers.llama.chat_template import ChatTemplate
from localai.node.workers.llama.engine import Engine
from localai.node.workers.llama.model import LlamaModel
from localai.node.workers.llama.prompt_queue import PromptQueue
from localai.node.workers.llama.schedule import EventList, Ids

BACKEND = "llama-cpp"
_READ_BYTES = 1 << 16
_PR_SET_PDEATHSIG = 1
PROMPT_TIMEOUT_S = 60.0
"""Longest time for one prompt. A megabyte takes a third of a second; a template from outside may loop for ever."""
_PROGRESS_STEP_PER_MILLE = 50


class Pipe:
    """Our end of the socketpair. Sending is safe from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(True)
        self._decoder = FrameDecoder()
        self._to_worker = to_worker_codec()
        self._from_worker = from_worker_codec()
        self._lock = threading.Lock()

    def send(self, frame: FromWorker) -> None:
        """Send one frame; the process exits when nobody is there to read it."""
        data = self._from_worker.encode(frame)
        try:
            with self._lock:
                self._socket.sendall(data)
        except OSError:
            os._exit(0)

    def receive(self) -> list[ToWorker]:
        """Wait for frames; the process exits at the end of input."""
        try:
            data = self._socket.recv(_READ_BYTES)
        except OSError:
            data = b""
        if not data:
            os._exit(0)
        try:
            return [self._to_worker.decode(payload) for payload in self._decoder.feed(data)]
        except WireError as error:
            stop(f"{error.message} {error.detail}")


class PromptBuilder:
    """From what the client sent to token ids, with the model's template and vocabulary."""

    def __init__(self, model: LlamaModel) -> None:
        self._model = model
        self._template: ChatTemplate | None = None

    def build(self, prompt: Prompt) -> tuple[Ids, str]:
        """The prompt's ids, and the id of the template that made them.

        Raises:
            InvalidRequest: the prompt does not suit this model.
        """
        match prompt:
            case TextInput(text=text):
                return self._tokens(text), ""
            case TokenInput(ids=ids):
                return self._model.check_ids(ids), ""
            case ChatInput(messages=messages):
                template = self._chat_template()
                text = template.render(messages)
                return self._tokens(text), template.id
            case _:
                assert_never(prompt)

    def answer(self, request: Request) -> list[Event]:
        """The events of a request that needs nothing but the vocabulary.

        Raises:
            LocalAIError: it does not suit this model, or needs more.
        """
        match request:
            case TokenizeRequest(text=text, prompt=prompt):
                found = self._model.tokenize(text, add_special=False) if prompt is None else self.build(prompt)[0]
                ids = found.tolist()
                parts = [tuple(ids[start : start + MAX_EVENT_IDS]) for start in range(0, len(ids), MAX_EVENT_IDS)]
                return [*map(Tokenized, parts or [()]), Finished((), Usage(len(ids), 0))]
            case DetokenizeRequest(ids=given):
                data = b"".join(map(self._model.piece, self._model.check_ids(given).tolist()))
                return [Detokenized(data), Finished((), Usage(len(given), 0))]
            case _:
                raise Unsupported("This backend does not do that. Use a model of another one.")

    def _tokens(self, text: str) -> Ids:
        """Ids with what the model wants at the beginning, once: templates often begin with it themselves."""
        bos = self._model.bos
        return self._model.tokenize(text, add_special=not (bos and text.startswith(bos)))

    def _chat_template(self) -> ChatTemplate:
        if self._template is None:
            source = self._model.chat_template
            if source is None:
                raise InvalidRequest(
                    "This model has no chat template, so it cannot chat. Use /v1/completions.", code="no_chat_template"
                )
            self._template = ChatTemplate(source, self._model.bos, self._model.eos, _strftime_now)
        return self._template


class Worker:
    """Threads and what they share."""

    def __init__(self, pipe: Pipe, engine: Engine, prompts: PromptBuilder) -> None:
        self._pipe = pipe
        self._engine = engine
        self._prompts = prompts
        self._unbuilt = PromptQueue()
        self._inbox: queue.SimpleQueue[tuple[GenerateRequest, Ids, str] | RequestId] = queue.SimpleQueue()
        self._step_began = 0.0

    def run(self) -> None:
        """Serve until the process exits."""
        threading.Thread(target=self._read, name="inbox", daemon=True).start()
        threading.Thread(target=self._build, name="prompts", daemon=True).start()
        threading.Thread(target=self._pulse, name="pulse", daemon=True).start()
        while True:
            self._take_all()
            self._step_began = time.monotonic()
            events = self._engine.step()
            self._step_began = 0.0
            self._emit(events)

    def _take_all(self) -> None:
        """Everything in the inbox; waits for something when there is nothing to compute."""
        while not self._engine.busy or not self._inbox.empty():
            item = self._inbox.get()
            if isinstance(item, str):
                self._engine.cancel(item)
            else:
                self._emit(self._engine.submit(*item))

    def _emit(self, events: EventList) -> None:
        if events:
            self._pipe.send(Events(tuple(events)))

    def _read(self) -> None:
        while True:
            for frame in self._pipe.receive():
                match frame:
                    case Ask(request=request):
                        self._unbuilt.put(request)
                    case Cancel(request_id=request_id):
                        if not self._unbuilt.cancel(request_id):
                            self._inbox.put(request_id)
                    case Load():
                        stop("A second Load: one process serves one model.")
                    case _:
                        assert_never(frame)

    def _build(self) -> None:
        while True:
            request = self._unbuilt.take()
            try:
                check_features(request, BACKEND_FEATURES[BACKEND], BACKEND)
                hand_on = self._begin(request)
            except LocalAIError as error:
                events: EventList = [(request.id, failed_from_error(error))]
                hand_on = functools.partial(self._emit, events)
            self._unbuilt.built(hand_on)

    def _begin(self, request: Request) -> Callable[[], None]:
        """What is left to do for a request when its prompt is built: a generation is computed, others are done.

        Raises:
            LocalAIError: it does not suit this model.
        """
        if isinstance(request, GenerateRequest):
            return functools.partial(self._inbox.put, (request, *self._prompts.build(request.prompt)))
        return functools.partial(self._emit, [(request.id, event) for event in self._prompts.answer(request)])

    def _pulse(self) -> None:
        while True:
            time.sleep(HEARTBEAT_S)
            if self._unbuilt.building_s() > PROMPT_TIMEOUT_S:
                stop("A prompt could not be built in time: the chat template does not end.")
            began = self._step_began
            schedule = self._engine.schedule
            self._pipe.send(
                Heartbeat(
                    active=schedule.active,
                    queued=schedule.queued,
                    step_running_s=time.monotonic() - began if began else 0.0,
                    prompt_tokens_total=schedule.prompt_tokens_total,
                    completion_tokens_total=schedule.completion_tokens_total,
                )
            )


def stop(reason: str) -> NoReturn:
    """End the process from any thread, with its last words."""
    print(reason, file=sys.stderr, flush=True)
    os._exit(2)


def main(descriptor: int) -> None:
    """Say hello, load, serve."""
    _die_with_parent()
    threading.excepthook = _end_with_thread
    pipe = Pipe(descriptor)
    pipe.send(Hello(FRAMES_VERSION, BACKEND, os.getpid()))
    load = _first_frame(pipe)
    loading = threading.Event()
    threading.Thread(target=_pulse_while_loading, args=(pipe, loading), name="load-pulse", daemon=True).start()
    try:
        model = LlamaModel(load, _ProgressReport(pipe))
    except LocalAIError as error:
        print(f"{error.message} {error.detail}", file=sys.stderr)
        pipe.send(LoadFailed(failed_from_error(error)))
        sys.exit(1)
    finally:
        loading.set()
    pipe.send(Loaded(model.facts))
    Worker(pipe, Engine(model), PromptBuilder(model)).run()


def _end_with_thread(failure: threading.ExceptHookArgs) -> None:
    """A thread has failed: so has the process."""
    traceback.print_exception(failure.exc_type, failure.exc_value, failure.exc_traceback)
    stop(f"The thread {failure.thread.name if failure.thread else ''} failed.")


def _first_frame(pipe: Pipe) -> Load:
    while True:
        for frame in pipe.receive():
            if isinstance(frame, Load):
                return frame
            stop("The first frame must be Load.")


class _ProgressReport:
    """Sends progress in steps that are worth a frame."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._last = 0

    def __call__(self, fraction: float) -> None:
        per_mille = min(1000, int(fraction * 1000))
        if per_mille >= self._last + _PROGRESS_STEP_PER_MILLE:
            self._last = per_mille
            self._pipe.send(LoadProgress(per_mille))


def _pulse_while_loading(pipe: Pipe, loaded: threading.Event) -> None:
    while not loaded.wait(HEARTBEAT_S):
        pipe.send(Heartbeat(active=0, queued=0))


def _strftime_now(layout: str) -> str:
    return datetime.now().astimezone().strftime(layout)


def _die_with_parent() -> None:
    """Ask Linux to end us with our parent, in case it dies without closing the pipe."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
