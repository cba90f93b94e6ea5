"""The Responses API over HTTP, with bare requests and with the official client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest
from aiohttp import web

from localai.api.routes.responses import BACKGROUND, PATHS, STORE
from localai.mesh.errors import Unavailable
from localai.mesh.secrets import Secret
from localai.node.answer_rules import AnswerRules
from localai.node.catalog import Catalog
from localai.node.features import Feature
from localai.node.fetch_rules import parse_networks
from localai.node.inference import ChatInput, ChatMessage, GenerateRequest, JsonSchema
from localai.node.model_config import ModelConfig
from localai.node.settings import ProtectionSettings
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.frames import Ask

Open = Callable[..., Any]
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "Says how it is.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}
THINK = b"<think>hm</think>It is late."
CALL = b'<tool_call>{"name": "weather", "arguments": {"city": "Ulm"}}</tool_call>'


@pytest.fixture
def opened(serve: Any, tmp_path: Path) -> Open:
    """The server with a database of its own."""
    return partial(serve, database_url=Secret(f"sqlite:///{tmp_path}/state.db"))


@asynccontextmanager
async def client(server: Any, key: str = "k") -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0, timeout=20) as made:
        yield made


def says(answer: bytes) -> Callable[[], FakeWorker]:
    """Workers that think and call."""
    return lambda: FakeWorker(answer=lambda _request: answer, parser_id="tagged")


def asked(server: Any) -> list[GenerateRequest]:
    frames = [frame for worker in server.workers for frame in worker.sent if isinstance(frame, Ask)]
    return [frame.request for frame in frames if isinstance(frame.request, GenerateRequest)]


def messages(request: GenerateRequest) -> list[tuple[str, str]]:
    assert isinstance(request.prompt, ChatInput)
    return [(message.role, message.content) for message in request.prompt.messages]


async def events(server: Any, path: str, **options: Any) -> list[Any]:
    """Decoded payloads of a stream."""
    method = "POST" if "json" in options else "GET"
    async with server.http.request(method, server.url + path, **options) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        text = await response.text()
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":") and line)
        if not lines:
            continue
        payload = lines["data"] if lines["data"] == "[DONE]" else json.loads(lines["data"])
        assert payload == "[DONE]" or lines["event"] == payload["type"]
        found.append(payload)
    return found


@pytest.mark.parametrize("path", PATHS)
async def test_every_path(opened: Open, path: str) -> None:
    async with opened() as server:
        for variant in (path, path + "/"):
            status, made = await server.post(variant, {"model": "m", "input": "hello"})
            assert status == 200
            assert made["output"][0]["content"][0]["text"] == "hello"
            status, again = await server.get(f"{path}/{made['id']}")
            assert (status, again) == (200, made)


async def test_the_official_client_creates_and_streams(opened: Open) -> None:
    async with opened() as server, client(server) as ai:
        made = await ai.responses.create(model="m", input="hello", instructions="Be nice.", metadata={"a": "b"})
        assert (made.output_text, made.status, made.error) == ("hello", "completed", None)
        assert made.usage is not None
        assert made.usage.output_tokens == 5
        assert made.usage.output_tokens_details.reasoning_tokens == 0
        assert (made.instructions, made.metadata) == ("Be nice.", {"a": "b"})
        stream = await ai.responses.create(model="m", input="hello", stream=True)
        seen = [event async for event in stream]
        assert [event.sequence_number for event in seen] == list(range(len(seen)))
        assert "".join(event.delta for event in seen if event.type == "response.output_text.delta") == "hello"
        assert seen[-1].type == "response.completed"
        assert seen[-1].response.output_text == "hello"
        assert (await ai.responses.retrieve(seen[-1].response.id)) == seen[-1].response
        async with ai.responses.stream(model="m", input="hello") as helper:
            final = await helper.get_final_response()
        assert final.output_text == "hello"
        assert [messages(request)[0] for request in asked(server)][:1] == [("system", "Be nice.")]


async def test_thinking_is_an_item_of_its_own(opened: Open) -> None:
    async with opened(says(THINK)) as server, client(server) as ai:
        made = await ai.responses.create(model="m", input="hello", reasoning={"effort": "low"})
        thought, said = made.output
        assert thought.type == "reasoning"
        assert thought.content is not None
        assert thought.content[0].text == "hm"
        assert (said.type, made.output_text) == ("message", "It is late.")
        assert made.usage is not None
        assert 0 < made.usage.output_tokens_details.reasoning_tokens < made.usage.output_tokens
        seen = await events(server, "/v1/responses", json={"model": "m", "input": "hello", "stream": True})
        ends = [each["type"] for each in seen if each != "[DONE]" and not each["type"].endswith("delta")]
        assert ends == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.reasoning_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
        assert seen[-1] == "[DONE]"


async def test_a_tool_loop(opened: Open) -> None:
    def answer(request: GenerateRequest) -> bytes:
        assert isinstance(request.prompt, ChatInput)
        return b"Sunny." if request.prompt.messages[-1].role == "tool" else CALL

    async with opened(lambda: FakeWorker(answer=answer, parser_id="tagged")) as server, client(server) as ai:
        first = await ai.responses.create(model="m", input="How is Ulm?", tools=[WEATHER])
        (call,) = first.output
        assert call.type == "function_call"
        assert json.loads(call.arguments) == {"city": "Ulm"}
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sun"}
        second = await ai.responses.create(model="m", previous_response_id=first.id, input=[result], tools=[WEATHER])
        assert second.output_text == "Sunny."
        prompt = asked(server)[-1].prompt
        assert isinstance(prompt, ChatInput)
        assert [message.role for message in prompt.messages] == ["user", "assistant", "tool"]
        assert prompt.messages[1].tool_calls[0].name == "weather"
        assert prompt.messages[2] == ChatMessage("tool", "sun", tool_call_id=call.call_id)
        stateless = await ai.responses.create(
            model="m",
            input=[{"role": "user", "content": "How is Ulm?"}, call.model_dump(), result],  # type: ignore[list-item]
            tools=[WEATHER],
            store=False,
        )
        assert stateless.output_text == "Sunny."
        assert asked(server)[-1].prompt == prompt


async def test_structured_output_becomes_a_constraint(opened: Open) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    answer = b'{"a": 1}'
    async with opened(says(answer)) as server, client(server) as ai:
        made = await ai.responses.create(
            model="m",
            input="x",
            text={"format": {"type": "json_schema", "name": "s", "schema": schema, "strict": True}},
        )
        assert json.loads(made.output_text) == {"a": 1}
        assert made.text is not None
        assert made.text.format is not None
        assert made.text.format.type == "json_schema"
        constraint = asked(server)[0].constraint
        assert isinstance(constraint, JsonSchema)
        assert json.loads(constraint.schema) == schema


class Weather(pydantic.BaseModel):
    city: str
    degrees: int


async def test_the_official_client_parses_structured_output(opened: Open) -> None:
    async with opened(says(b'{"city": "Ulm", "degrees": 7}')) as server, client(server) as ai:
        parsed = await ai.responses.parse(model="m", input="x", text_format=Weather)
        assert parsed.output_parsed == Weather(city="Ulm", degrees=7)


async def test_the_token_limit_makes_it_incomplete(opened: Open) -> None:
    async with opened() as server, client(server) as ai:
        made = await ai.responses.create(model="m", input="hello", max_output_tokens=2)
        assert made.status == "incomplete"
        assert made.incomplete_details is not None
        assert made.incomplete_details.reason == "max_output_tokens"
        assert made.output_text == "he"
        body = {"model": "m", "input": "hello", "max_output_tokens": 2, "stream": True}
        assert (await events(server, "/v1/responses", json=body))[-2]["type"] == "response.incomplete"


async def test_log_probabilities(opened: Open) -> None:
    async with opened() as server, client(server) as ai:
        made = await ai.responses.create(model="m", input="hi", top_logprobs=2)
        (message,) = made.output
        assert message.type == "message"
        assert message.content[0].type == "output_text"
        logprobs = message.content[0].logprobs
        assert logprobs is not None
        assert [(each.token, len(each.top_logprobs)) for each in logprobs] == [("h", 2), ("i", 2)]


async def test_a_chain_is_followed_to_its_beginning(opened: Open) -> None:
    async with opened() as server, client(server) as ai:
        last: str | None = None
        for text in ("one", "two", "three"):
            made = await ai.responses.create(
                model="m", input=text, previous_response_id=last, instructions=f"about {text}"
            )
            last = made.id
            assert made.previous_response_id == (None if text == "one" else made.previous_response_id)
        assert messages(asked(server)[-1]) == [
            ("system", "about three"),
            ("user", "one"),
            ("assistant", "one"),
            ("user", "two"),
            ("assistant", "two"),
            ("user", "three"),
        ]
        listed = await ai.responses.input_items.list(made.id)
        assert [item.type for item in listed.data] == ["message"]
        reference: Any = {"type": "item_reference", "id": made.output[0].id}
        again = await ai.responses.create(model="m", input=[reference, {"role": "user", "content": "x"}])
        assert messages(asked(server)[-1]) == [("assistant", "three"), ("user", "x")]
        await ai.responses.delete(made.id)
        for fields in ({"previous_response_id": made.id}, {"input": [reference]}):
            status, body = await server.post("/v1/responses", {"model": "m", "input": "x", **fields})
            assert (status, body["error"]["type"]) == (404, "not_found")
        with pytest.raises(openai.NotFoundError):
            await ai.responses.retrieve(made.id)
        assert (await ai.responses.retrieve(again.id)).output_text == "x"


async def test_a_chain_survives_a_restart(opened: Open) -> None:
    async with opened() as server:
        _, first = await server.post("/v1/responses", {"model": "m", "input": "one"})
    async with opened() as server:
        _, second = await server.post("/v1/responses", {"input": "two", "previous_response_id": first["id"]})
        assert messages(asked(server)[0]) == [("user", "one"), ("assistant", "one"), ("user", "two")]
        assert (await server.get(f"/v1/responses/{first['id']}"))[1] == first
        status, _ = await server.get(f"/v1/responses/{second['id']}")
        assert status == 200


async def test_responses_of_others_are_not_there(opened: Open) -> None:
    keys = (Secret("one"), Secret("two"))
    async with opened(api_keys=keys) as server, client(server, "one") as mine, client(server, "two") as others:
        made = await mine.responses.create(model="m", input="x")
        background = await mine.responses.create(model="m", input="x", background=True)
        for response_id in (made.id, background.id):
            for call in (others.responses.retrieve, others.responses.cancel, others.responses.delete):
                with pytest.raises(openai.NotFoundError):
                    await call(response_id)
        with pytest.raises(openai.NotFoundError) as caught:
            await others.responses.create(model="m", input="y", previous_response_id=made.id)
        assert caught.value.param == "previous_response_id"
        assert (await mine.responses.retrieve(made.id)).id == made.id


async def test_what_is_not_stored_cannot_be_found(opened: Open) -> None:
    async with opened() as server, client(server) as ai:
        made = await ai.responses.create(model="m", input="x", store=False)
        with pytest.raises(openai.NotFoundError, match="response not found"):
            await ai.responses.retrieve(made.id)


async def test_responses_expire(opened: Open) -> None:
    async with opened(responses_ttl_s=0.5) as server:  # whole seconds: over before it has begun
        _, made = await server.post("/v1/responses", {"model": "m", "input": "x"})
        status, _ = await server.get(f"/v1/responses/{made['id']}")
        assert status == 404


class Gate:
    """Holds workers after a number of steps until it is opened."""

    def __init__(self, steps: int = 0) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self._steps = steps

    async def wait(self) -> None:
        if self._steps:
            self._steps -= 1
            await asyncio.sleep(0)
            return
        self.reached.set()
        await self.open.wait()

    def worker(self) -> FakeWorker:
        return FakeWorker(before_step=self.wait)


async def finished(ai: openai.AsyncOpenAI, response_id: str) -> Any:
    """The response once it has ended."""
    return await no_longer(ai, response_id, "queued", "in_progress")


async def no_longer(ai: openai.AsyncOpenAI, response_id: str, *statuses: str) -> Any:
    """The response once it has another status than these."""
    found = await ai.responses.retrieve(response_id)
    while found.status in statuses:
        found = await ai.responses.retrieve(response_id)
    return found


async def test_a_background_response_survives_its_client(opened: Open) -> None:
    gate = Gate(2)
    async with opened(gate.worker) as server:
        async with client(server) as ai:
            made = await ai.responses.create(model="m", input="hello", background=True)
            assert (made.status, made.output) == ("queued", [])
        await gate.reached.wait()
        async with client(server) as ai:
            assert (await no_longer(ai, made.id, "queued")).status == "in_progress"
            with pytest.raises(openai.BadRequestError, match="not finished"):
                await ai.responses.create(model="m", input="x", previous_response_id=made.id)
            gate.open.set()
            found = await finished(ai, made.id)
            assert (found.status, found.output_text) == ("completed", "hello")
            assert (await ai.responses.cancel(made.id)).status == "completed"
            with pytest.raises(openai.BadRequestError, match="not created with stream=true"):
                await ai.responses.retrieve(made.id, stream=True)


async def test_a_background_response_is_cancelled(opened: Open) -> None:
    gate = Gate()
    async with opened(gate.worker) as server, client(server) as ai:
        stream = await ai.responses.create(model="m", input="hello", background=True, stream=True)
        first = await anext(aiter(stream))
        assert first.type == "response.created"
        await gate.reached.wait()
        cancelled = await ai.responses.cancel(first.response.id)
        assert cancelled.status == "cancelled"
        await server.workers[0].wait_cancelled()
        gate.open.set()
        assert [str(event.type) async for event in stream][-1] == "response.cancelled"
        assert (await ai.responses.cancel(first.response.id)) == cancelled
        assert (await ai.responses.retrieve(first.response.id)) == cancelled


async def test_a_background_response_is_deleted(opened: Open) -> None:
    gate = Gate()
    async with opened(gate.worker) as server:
        _, made = await server.post("/v1/responses", {"model": "m", "input": "x", "background": True})
        await gate.reached.wait()
        async with server.http.delete(f"{server.url}/v1/responses/{made['id']}") as response:
            assert await response.json() == {"id": made["id"], "object": "response", "deleted": True}
        assert (await server.get(f"/v1/responses/{made['id']}"))[0] == 404


async def test_events_are_replayed_and_followed(opened: Open) -> None:
    gate = Gate()
    body = {"model": "m", "input": "hello", "background": True, "stream": True}
    async with opened(gate.worker) as server:
        following = asyncio.create_task(events(server, "/v1/responses", json=body))
        await gate.reached.wait()
        await server.app[STORE].flush()
        (made,) = await server.app[STORE].unfinished()
        path = f"/v1/responses/{made.response.id}"
        late = asyncio.create_task(events(server, f"{path}?stream=true&starting_after=1"))
        gate.open.set()
        whole = await following
        assert [each["type"] for each in whole[:3]] == [
            "response.created",
            "response.queued",
            "response.in_progress",
        ]
        assert [each["sequence_number"] for each in whole[:-1]] == list(range(len(whole) - 1))
        assert whole[-2]["type"] == "response.completed"
        assert await late == whole[2:]
    async with opened() as server:
        for query, expected in (
            ("?stream=true", whole),
            ("?stream=true&starting_after=-1", whole),
            ("?stream=true&starting_after=0", whole[1:]),
            ("/events?starting_after=3", whole[4:]),
            ("/events?starting_after=999", ["[DONE]"]),
        ):
            assert await events(server, path + query) == expected
        assert (await server.get(path))[1] == whole[-2]["response"]
        async with client(server) as ai:
            resumed = await ai.responses.retrieve(made.response.id, stream=True, starting_after=3)
            assert [event.sequence_number async for event in resumed] == [
                each["sequence_number"] for each in whole[4:-1]
            ]


async def test_an_unfinished_response_is_begun_anew_once(opened: Open) -> None:
    gate = Gate()
    body = {"model": "m", "input": "hello", "background": True, "stream": True}
    async with opened(gate.worker) as server:
        following = asyncio.create_task(events(server, "/v1/responses", json=body))
        await gate.reached.wait()
        await server.app[STORE].flush()
        (made,) = await server.app[STORE].unfinished()
        await server.dispatch.aclose(0.0)
        assert (await following)[-2]["message"].startswith("This node is shutting down.")
    path = f"/v1/responses/{made.response.id}"
    gate = Gate()
    async with opened(gate.worker) as server:
        await gate.reached.wait()
        assert (await server.get(path))[1]["status"] == "queued"
        status, answer = await server.get(f"{path}?stream=true&starting_after=1")
        assert (status, answer["error"]["type"]) == (409, "invalid_request_error")
        gate.open.set()
        seen = await events(server, f"{path}/events")
        assert [each["sequence_number"] for each in seen[:-1]] == [1_000_000 + n for n in range(len(seen) - 1)]
        assert seen[-2]["response"]["output"][0]["content"][0]["text"] == "hello"
    async with opened() as server:
        assert (await server.get(path))[1] == seen[-2]["response"]


async def test_the_second_time_it_fails(opened: Open) -> None:
    async with opened(Gate().worker) as server:
        _, made = await server.post("/v1/responses", {"model": "m", "input": "x", "background": True})
    gate = Gate()
    async with opened(gate.worker):
        await gate.reached.wait()
    async with opened() as server, client(server) as ai:
        found = await finished(ai, made["id"])
    assert found.status == "failed"
    assert found.error is not None
    assert "ended 2 times" in found.error.message


async def test_a_failure_in_the_background_is_told(opened: Open) -> None:
    error = Unavailable("No memory.", code="no_memory")
    async with opened(lambda: FakeWorker(load_error=error)) as server, client(server) as ai:
        body = {"model": "m", "input": "x", "background": True, "stream": True}
        *_, told, failed, _done = await events(server, "/v1/responses", json=body)
        assert (told["type"], told["message"]) == ("error", "No memory.")
        assert told["error"]["type"] == "server_error"
        assert failed["type"] == "response.failed"
        assert failed["response"]["error"] == {"code": "server_error", "message": "No memory."}
        assert (await ai.responses.retrieve(failed["response"]["id"])).status == "failed"


async def test_a_failure_before_the_first_text_has_a_status(opened: Open) -> None:
    error = Unavailable("No memory.", code="no_memory")
    async with opened(lambda: FakeWorker(load_error=error)) as server:
        for stream in (False, True):
            status, body = await server.post("/v1/responses", {"model": "m", "input": "x", "stream": stream})
            assert (status, body["error"]["type"]) == (503, "server_error")


async def test_a_failure_inside_a_stream_is_an_event(opened: Open) -> None:
    worker = FakeWorker()
    steps = 0

    async def die_soon() -> None:
        nonlocal steps
        steps += 1
        if steps == 6:
            worker.die()

    worker.before_step = die_soon
    async with opened(lambda: worker) as server:
        seen = await events(server, "/v1/responses", json={"model": "m", "input": "hello", "stream": True})
        *_, told, failed, _done = seen
        assert (told["type"], told["code"], told["error"]["type"]) == ("error", "worker_lost", "server_error")
        assert failed["type"] == "response.failed"
        assert failed["response"]["output"][0]["status"] == "incomplete"
        _, found = await server.get(f"/v1/responses/{failed['response']['id']}")
        assert found == failed["response"]


async def test_too_many_in_the_background_are_refused(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localai.api.responses_background.MAX_RUNNING", 1)
    async with opened(Gate().worker) as server:
        body = {"model": "m", "input": "x", "background": True}
        assert (await server.post("/v1/responses", body))[0] == 200
        status, answer = await server.post("/v1/responses", body)
        assert (status, answer["error"]["type"]) == (429, "too_many_requests")


async def test_a_node_without_a_working_database_answers_on(serve: Any, tmp_path: Path) -> None:
    url = Secret(f"sqlite:///{tmp_path}/missing/folder/state.db")
    async with serve(database_url=url) as server:
        _, made = await server.post("/v1/responses", {"model": "m", "input": "one"})
        body = {"model": "m", "input": "two", "previous_response_id": made["id"]}
        status, _ = await server.post("/v1/responses", body)
        assert status == 200
        assert messages(asked(server)[-1])[0] == ("user", "one")


async def test_rules_of_the_definition(opened: Open) -> None:
    config = ModelConfig("m", "m.gguf", answer=AnswerRules(cut=("e",), prefix="> "))
    async with opened(catalog=Catalog((config,))) as server, client(server) as ai:
        assert (await ai.responses.create(model="m", input="hello")).output_text == "> hllo"
        made = await ai.responses.create(model="m", input="hello", background=True)
        assert (await finished(ai, made.id)).output_text == "> hllo"
        seen = await events(server, "/v1/responses", json={"input": "hello", "stream": True})
        assert seen[-2]["response"]["output"][0]["content"][0]["text"] == "> hello"


BAD: list[tuple[dict[str, Any], int, str, str | None, str]] = [
    ({"input": 7}, 400, "invalid_request", "input", "wrong type"),
    ({"input": ""}, 400, "invalid_request", "input", "failed to parse input: "),
    ({"input": [{}]}, 400, "invalid_request", "input[0].type", "failed to parse input: "),
    ({"input": [{"role": "user"}]}, 400, "invalid_request", "input[0].content", "failed to parse input: "),
    ({"store": False, "background": True}, 400, "invalid_request_error", "background", "background=true requires"),
    (
        {"previous_response_id": "resp_x"},
        404,
        "not_found",
        "previous_response_id",
        "previous response not found: resp_x",
    ),
    ({"input": [{"id": "msg_1"}]}, 404, "not_found", "input[0].id", "no stored item"),
    ({"model": "gpt-9"}, 400, "invalid_request", "model", "does not exist"),
    ({"model": "gpt-9", "background": True}, 400, "invalid_request", "model", "gpt-9"),
    ({"conversation": "c"}, 501, "server_error", "conversation", "not supported"),
    ({"tools": [{"type": "web_search"}]}, 501, "server_error", "tools[0].type", "functions only"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://127.0.0.1/y"}]}]},
        400,
        "invalid_request",
        "input[0].content[0].image_url",
        "--allow-media-from",
    ),
    ({"n": 99}, 400, "invalid_request", "n", "between"),
]


@pytest.mark.parametrize(("fields", "status", "kind", "param", "message"), BAD)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors_of_creating(
    opened: Open, fields: dict[str, Any], status: int, kind: str, param: str | None, message: str, stream: bool
) -> None:
    async with opened() as server:
        found, body = await server.post("/v1/responses", {"model": "m", "input": "x", "stream": stream, **fields})
        error = body["error"]
        assert (found, error["type"], error["param"]) == (status, kind, param)
        assert message in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "param", "message"),
    [
        ("GET", "/v1/responses", 400, "id", "response ID is required"),
        ("GET", "/v1/responses/", 400, "id", "response ID is required"),
        ("GET", "/v1/responses/resp_x", 404, "id", "response not found: resp_x"),
        ("GET", "/v1/responses/resp_x%00/events", 404, "id", "response not found"),
        ("GET", "/responses/resp_x?stream=true&starting_after=y", 400, "starting_after", "must be an integer"),
        ("GET", "/v1/responses/resp_x/input_items", 404, "id", "response not found: resp_x"),
        ("POST", "/v1/responses/resp_x/cancel", 404, "id", "response not found: resp_x"),
        ("DELETE", "/v1/responses/resp_x", 404, "id", "response not found: resp_x"),
    ],
)
async def test_errors_of_coming_back(
    opened: Open, method: str, path: str, status: int, param: str, message: str
) -> None:
    async with opened() as server, server.http.request(method, server.url + path) as response:
        error = (await response.json())["error"]
        assert (response.status, error["param"]) == (status, param)
        assert message in error["message"]
        assert error["type"] == ("not_found" if status == 404 else "invalid_request")


async def test_a_backend_that_cannot_do_tools_says_so(opened: Open) -> None:
    features = frozenset({Feature.GENERATE})
    async with opened(lambda: FakeWorker(features=features)) as server:
        status, body = await server.post("/v1/responses", {"model": "m", "input": "x", "tools": [WEATHER]})
        assert (status, body["error"]["param"]) == (501, "tools")


@pytest.mark.parametrize("background", [False, True])
async def test_features_that_nobody_has_are_refused_at_once(opened: Open, background: bool) -> None:
    async with opened(features=frozenset({Feature.GENERATE})) as server:
        picture = {"type": "input_image", "image_url": "http://127.0.0.1/never/fetched"}
        for fields, param in (
            ({"tools": [WEATHER]}, "tools"),
            ({"input": [{"role": "user", "content": [picture]}]}, "messages"),
        ):
            body = {"model": "m", "input": "x", "background": background, **fields}
            status, answer = await server.post("/v1/responses", body)
            assert (status, answer["error"]["param"]) == (501, param)
        assert not await server.app[STORE].unfinished()


@asynccontextmanager
async def site(asked_for: list[str]) -> AsyncIterator[str]:
    """A place with pictures; ``asked_for`` gets their paths."""

    async def answer(http: web.Request) -> web.Response:
        asked_for.append(http.path)
        return web.Response(body=http.path.encode(), content_type="image/png")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_pictures_at_addresses_are_fetched(opened: Open) -> None:
    fetched: list[str] = []
    protection = ProtectionSettings(media_networks=parse_networks(("127.0.0.1",)))
    async with opened(protection=protection) as server, site(fetched) as url:

        def body(*paths: str, **fields: Any) -> dict[str, Any]:
            content = [{"type": "input_image", "image_url": url + path} for path in paths]
            return {"model": "m", "input": [{"role": "user", "content": content}], **fields}

        status, made = await server.post("/v1/responses", body("/a", "/b", "/a"))
        assert (status, fetched) == (200, ["/a", "/b"])
        status, made = await server.post("/v1/responses", body("/c", previous_response_id=made["id"], background=True))
        assert status == 200
        async with client(server) as ai:
            await finished(ai, made["id"])
        prompt = asked(server)[-1].prompt
        assert isinstance(prompt, ChatInput)
        pictures = [[media.data for media in message.media] for message in prompt.messages]
        assert pictures == [[b"/a", b"/b", b"/a"], [], [b"/c"]]
        fetched.clear()
        for wrong in ({"model": "gpt-9"}, {"n": 99}):
            assert (await server.post("/v1/responses", body("/d", **wrong)))[0] == 400
        status, answer = await server.post("/v1/responses", body(*map("/{}".format, range(99))))
        assert (status, answer["error"]["param"], fetched) == (400, "input", [])


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_a_node_that_is_starting_ends_what_is_left_over(opened: Open, is_deleted: bool) -> None:
    gate = Gate()
    async with opened(gate.worker) as server:
        _, made = await server.post("/v1/responses", {"model": "m", "input": "x", "background": True})
        await gate.reached.wait()
    path = f"/v1/responses/{made['id']}"
    async with opened(gate.worker, catalog=None) as server:
        if is_deleted:
            async with server.http.delete(server.url + path) as response:
                assert response.status == 200
        else:
            status, cancelled = await server.post(f"{path}/cancel", {})
            assert (status, cancelled["status"]) == (200, "cancelled")
        server.dispatch.open(Catalog((ModelConfig("m", "m.gguf"),)))
        await server.app[BACKGROUND].taken_up.wait()
        status, found = await server.get(path)
        assert (status, found) == (404, found) if is_deleted else (200, cancelled)
        assert not server.workers


async def test_a_node_that_is_starting_takes_nothing_into_the_background(opened: Open) -> None:
    async with opened(catalog=None) as server:
        status, body = await server.post("/v1/responses", {"model": "m", "input": "x", "background": True})
        assert (status, body["error"]["code"]) == (503, "unavailable")
        assert server.app[BACKGROUND] is not None
