"""HTTP servers to compare, as programs of children: ``python -m api_servers bare | ours``.

Both answer ``POST /v1/chat/completions`` with ``max_tokens`` times the same token, one every ``STEP_S`` when streamed.
Prints the port, then serves until killed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from localai.api.app import answer_headers, make_app
from localai.api.connection_rules import ConnectionLimits
from localai.api.server import GuardedRunner
from localai.mesh.logs import configure_logs
from localai.node.catalog import Catalog
from localai.node.dispatch import Dispatch
from localai.node.inference import Event, Finished, GenerateRequest, RequestId, Started, Tokens, Usage
from localai.node.model_config import ModelConfig
from localai.node.option_values import Address
from localai.node.settings import Settings
from localai.node.supervisor import ModelSupervisor
from localai.node.workers.connection import WorkerConnection, WorkerEnd
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
    ModelFacts,
    ToWorker,
    from_worker_codec,
    to_worker_codec,
)

STEP_S = 0.01
"""A fast engine's time for a token."""
_WORD = " word"


class ScriptedWorker:
    """Implements ``WorkerConnection``: every request gets its tokens, all at once or one a step, without computing."""

    def __init__(self) -> None:
        self._frames: asyncio.Queue[bytes] = asyncio.Queue()
        self._left: dict[RequestId, int] = {}
        self._encode = from_worker_codec().encode
        self._decode = from_worker_codec().decode
        self._to_worker = to_worker_codec()
        self._say(Hello(FRAMES_VERSION, "scripted", 0))
        self._stepping = asyncio.create_task(self._step())

    def send(self, frame: ToWorker) -> None:
        """See ``WorkerConnection.send``."""
        match self._to_worker.decode(self._to_worker.encode(frame)[4:]):
            case Load():
                self._say(Loaded(ModelFacts(1 << 20, 64, 1 << 20, 256, "scripted", True)))
            case Ask(request=GenerateRequest(id=request_id, max_tokens=count)):
                self._left[request_id] = count or 1
                events: list[tuple[RequestId, Event]] = [(request_id, Started("0" * 64, 3))]
                if count == 1:
                    events += self._next(request_id)
                self._say(Events(tuple(events)))
            case Cancel(request_id=request_id):
                self._left.pop(request_id, None)

    async def receive(self) -> list[FromWorker] | WorkerEnd:
        """See ``WorkerConnection.receive``."""
        return [self._decode((await self._frames.get())[4:])]

    def terminate(self) -> None:
        """Nothing to end."""

    def kill(self) -> None:
        """Nothing to end."""

    def _say(self, frame: FromWorker) -> None:
        self._frames.put_nowait(self._encode(frame))

    def _next(self, request_id: RequestId) -> list[tuple[RequestId, Event]]:
        events: list[tuple[RequestId, Event]] = [(request_id, Tokens(0, (1,), _WORD.encode()))]
        self._left[request_id] -= 1
        if not self._left[request_id]:
            del self._left[request_id]
            events.append((request_id, Finished(("length",), Usage(3, 1))))
        return events

    async def _step(self) -> None:
        beaten = 0.0
        while True:
            await asyncio.sleep(STEP_S)
            if time.monotonic() - beaten >= HEARTBEAT_S:
                beaten = time.monotonic()
                self._say(Heartbeat(len(self._left), 0))
            events = [event for request_id in list(self._left) for event in self._next(request_id)]
            if events:
                self._say(Events(tuple(events)))


async def serve_ours() -> int:
    """This program's HTTP server, dispatch and supervisor over a scripted worker; get the port."""

    def supervise(config: ModelConfig) -> ModelSupervisor:
        async def spawn() -> WorkerConnection:
            return ScriptedWorker()

        return ModelSupervisor(config.name, Load("m", 0, 64, 1), spawn)

    settings = Settings(Address("127.0.0.1", 0), Path("models"), Path("data"))
    app = make_app(Dispatch(supervise, Catalog((ModelConfig("m", "m.gguf"),))), settings)
    runner = GuardedRunner(
        app,
        ConnectionLimits(),
        headers=answer_headers(settings),
        max_body_bytes=0,
        opaque=False,
        shutdown_timeout_s=0.1,
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return int(runner.addresses[0][1])


async def serve_bare() -> int:
    """The least that aiohttp can do: parse the body, look the model up, answer; get the port."""
    models = {"m": "m.gguf"}
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    message = {"role": "assistant", "content": _WORD}
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
        "usage": usage,
    }
    delta: dict[str, Any] = {"index": 0, "delta": {"content": _WORD}, "finish_reason": None}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [delta]}
    ready = b"data: " + json.dumps(chunk).encode() + b"\n\n"

    async def chat(request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        if body["model"] not in models:
            return web.json_response({"error": "no such model"}, status=404)
        if not body.get("stream"):
            return web.json_response(answer)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(body["max_tokens"]):
            await asyncio.sleep(STEP_S)
            await response.write(ready)
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return int(runner.addresses[0][1])


async def _main(kind: str) -> None:
    print(await (serve_ours() if kind == "ours" else serve_bare()), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    configure_logs("info", "json")  # as a node does: its line for each request is part of the cost
    uvloop.run(_main(sys.argv[1]))
