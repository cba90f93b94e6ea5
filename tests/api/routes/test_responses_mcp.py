"""The Responses API with tools of a real MCP server: whole, streamed, in the background, and continued."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest

from localai.api.routes.responses import BACKGROUND, STORE
from localai.mesh.secrets import Secret
from localai.node.catalog import Catalog
from localai.node.inference import ChatInput, GenerateRequest
from localai.node.mcp.servers import McpServer, ProgramServer, RemoteServer
from localai.node.model_config import ModelConfig
from localai.node.testing.fake_worker import FakeWorker
from localai.node.testing.mcp_server import program_server, remote_server
from localai.node.workers.frames import Ask

pytestmark = pytest.mark.e2e

PATH = "/v1/responses"
QUESTION: Any = {"model": "m", "input": "What is 19 and 23?"}
ADD = '<tool_call>{"name": "add", "arguments": {"a": 19, "b": 23}}</tool_call>'
FAIL = '<tool_call>{"name": "fail", "arguments": {}}</tool_call>'
HANG = '<tool_call>{"name": "hang", "arguments": {}}</tool_call>'
WEATHER = '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
OWN_TOOL: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
BROKEN = ProgramServer("broken", "/nowhere/at/all")
KINDS = ["message", "function_call", "function_call_output", "message"]


def scripted(*answers: str, reached: asyncio.Event | None = None) -> Callable[[], FakeWorker]:
    """A worker that gives one answer for each turn of the model; ``{tool}`` stands for the last result.

    ``reached`` is set when it works.
    """

    async def tell() -> None:
        if reached is not None:
            reached.set()

    def answer(request: GenerateRequest) -> bytes:
        assert isinstance(request.prompt, ChatInput)
        messages = request.prompt.messages
        turn = sum(message.role == "assistant" for message in messages)
        return answers[min(turn, len(answers) - 1)].replace("{tool}", messages[-1].content).encode()

    return lambda: FakeWorker(answer, parser_id="tagged", before_step=tell)


def catalog(*servers: McpServer, rounds: int | None = None) -> Catalog:
    return Catalog((ModelConfig("m", "m.gguf", mcp_servers=servers, tool_rounds=rounds),))


def requests(server: Any) -> list[GenerateRequest]:
    frames = [frame for worker in server.workers for frame in worker.sent if isinstance(frame, Ask)]
    return [frame.request for frame in frames if isinstance(frame.request, GenerateRequest)]


def asked(server: Any) -> list[ChatInput]:
    """The conversations that the model was asked about."""
    return [request.prompt for request in requests(server) if isinstance(request.prompt, ChatInput)]


@asynccontextmanager
async def client(server: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="k", max_retries=0, timeout=20) as made:
        yield made


async def events(server: Any, path: str, **options: Any) -> list[Any]:
    """Decoded payloads of a stream."""
    method = "POST" if "json" in options else "GET"
    async with server.http.request(method, server.url + path, **options) as response:
        assert response.status == 200
        lines = [line.removeprefix("data: ") for line in (await response.text()).splitlines() if line[:5] == "data:"]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def shown(response: Any) -> list[Any]:
    """The output without what differs between two responses."""
    output = [
        {name: value for name, value in item.items() if name not in ("id", "call_id")} for item in response["output"]
    ]
    calls = [item["call_id"] for item in response["output"] if "call_id" in item]
    assert calls[::2] == calls[1::2]
    return output


@pytest.fixture(scope="module")
def remote() -> Iterator[RemoteServer]:
    with remote_server() as server:
        yield server


@pytest.fixture
def opened(serve: Any, tmp_path: Path) -> Callable[..., Any]:
    """The server with a database of its own."""
    return partial(serve, database_url=Secret(f"sqlite:///{tmp_path}/state.db"))


async def test_a_program_s_tool_is_called_whole_streamed_and_in_the_background(opened: Any) -> None:
    make = scripted(f"Let me see.{ADD}", "It is {tool}.")
    async with opened(make, catalog=catalog(program_server())) as server:
        status, whole = await server.post(PATH, QUESTION)
        assert status == 200
        assert [item["type"] for item in whole["output"]] == KINDS
        before, call, output, after = whole["output"]
        assert before["content"][0]["text"] == "Let me see."
        assert (call["name"], json.loads(call["arguments"]), call["status"]) == ("add", {"a": 19, "b": 23}, "completed")
        assert (output["call_id"], output["output"]) == (call["call_id"], "42")
        assert after["content"][0]["text"] == "It is 42."
        assert (whole["tools"], whole["tool_choice"], whole["status"]) == ([], "auto", "completed")
        first, second = asked(server)
        assert "add" in [tool.name for tool in first.tools]
        assert [message.role for message in second.messages] == ["user", "assistant", "tool"]

        streamed = await events(server, PATH, json={**QUESTION, "stream": True})
        assert [event["sequence_number"] for event in streamed] == list(range(len(streamed)))
        assert shown(streamed[-1]["response"]) == shown(whole)
        assert streamed[-1]["response"]["usage"]["total_tokens"] == whole["usage"]["total_tokens"]
        for kind in ("added", "done"):
            items = [event["item"] for event in streamed if event["type"] == f"response.output_item.{kind}"]
            assert [item["type"] for item in items] == KINDS
        assert items == streamed[-1]["response"]["output"]

        kept = await events(server, PATH, json={**QUESTION, "stream": True, "background": True})
        assert shown(kept[-1]["response"]) == shown(whole)
        for response in (whole, streamed[-1]["response"], kept[-1]["response"]):
            assert (await server.get(f"{PATH}/{response['id']}"))[1] == response


async def test_a_chain_carries_calls_and_results(opened: Any, remote: RemoteServer) -> None:
    async with opened(scripted(f"Hm.{ADD}", "It is {tool}.", "Yes."), catalog=catalog(remote)) as server:
        _, first = await server.post(PATH, QUESTION)
        before = asked(server)[-1].messages
        _, second = await server.post(PATH, {"model": "m", "input": "Sure?", "previous_response_id": first["id"]})
        assert [item["type"] for item in second["output"]] == ["message"]
        user, called, told, said, again = asked(server)[-1].messages
        assert (user, called) == before[:2]
        assert (told.role, told.content, told.tool_call_id) == ("tool", "42", called.tool_calls[0].id)
        assert (said.content, again.content) == ("It is 42.", "Sure?")
        reference = {"type": "item_reference", "id": first["output"][2]["id"]}
        status, _ = await server.post(PATH, {"model": "m", "input": [*first["output"][:2], reference]})
        assert status == 200
        assert [message.role for message in asked(server)[-1].messages] == ["assistant", "tool"]


async def test_the_official_client(opened: Any, remote: RemoteServer) -> None:
    make = scripted(f"Let me see.{ADD}", "It is {tool}.")
    async with opened(make, catalog=catalog(remote)) as server, client(server) as ai:
        made = await ai.responses.create(**QUESTION)
        assert [item.type for item in made.output] == KINDS
        assert made.output_text == "Let me see.It is 42."
        async with ai.responses.stream(**QUESTION) as stream:
            final = await stream.get_final_response()
        assert [item.type for item in final.output] == KINDS
        assert final.output_text == made.output_text


async def test_which_servers_are_used(opened: Any, remote: RemoteServer) -> None:
    async with opened(scripted(ADD, "{tool}"), catalog=catalog(BROKEN, remote)) as server:
        for more, uses_tools in (
            ({}, True),  # the broken one does not matter
            ({"metadata": {"mcp_servers": " there , there"}}, True),
            ({"metadata": {"mcp_servers": "there"}, "tools": [OWN_TOOL]}, True),
            ({"tools": [OWN_TOOL]}, False),
            ({"tool_choice": "none"}, False),
        ):
            status, answer = await server.post(PATH, {**QUESTION, **more})
            assert status == 200
            assert any(tool.name == "add" for tool in asked(server)[-1].tools) == uses_tools
            assert any(item["type"] == "function_call_output" for item in answer["output"]) == uses_tools


@pytest.mark.parametrize(
    ("metadata", "status", "code", "param"),
    [
        ({}, 500, "no_working_mcp_servers", None),
        ({"mcp_servers": "other"}, 400, "unknown_mcp_server", "metadata.mcp_servers"),
        ({"mcp_prompt": "x"}, 501, "unsupported_field", "metadata.mcp_prompt"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors(opened: Any, metadata: Any, status: int, code: str, param: str | None, stream: bool) -> None:
    async with opened(scripted(ADD), catalog=catalog(BROKEN)) as server:
        got, answer = await server.post(PATH, {**QUESTION, "metadata": metadata, "stream": stream})
        error = answer["error"]
        assert (got, error["code"], error["param"]) == (status, code, param)


async def test_errors_in_the_background(opened: Any) -> None:
    async with opened(scripted(ADD), catalog=catalog(BROKEN)) as server:
        body = {**QUESTION, "background": True, "stream": True}
        status, answer = await server.post(PATH, {**body, "metadata": {"mcp_servers": "other"}})
        assert (status, answer["error"]["code"]) == (400, "unknown_mcp_server")
        *_, error, failed = await events(server, PATH, json=body)
        assert error["code"] == "no_working_mcp_servers"
        assert failed["response"]["error"]["message"].startswith("no working MCP servers found")


async def test_a_model_without_servers_cannot_be_asked_for_them(opened: Any) -> None:
    async with opened() as server:
        for more in ({}, {"background": True}):
            status, answer = await server.post(PATH, {**QUESTION, **more, "metadata": {"mcp_servers": "a"}})
            assert (status, answer["error"]["code"]) == (500, "no_mcp_servers")


async def test_switched_off_is_no_tools_unless_they_are_asked_for(opened: Any, remote: RemoteServer) -> None:
    async with opened(scripted("Hello."), catalog=catalog(remote), mcp=False) as server:
        status, answer = await server.post(PATH, QUESTION)
        assert (status, answer["tool_choice"]) == (200, "none")
        assert asked(server)[-1].tools == ()
        for more in ({}, {"background": True}):
            status, answer = await server.post(PATH, {**QUESTION, **more, "metadata": {"mcp_servers": "there"}})
            assert (status, answer["error"]["code"]) == (403, "mcp_disabled")


async def test_a_failing_tool_is_told_as_the_model_was_told(opened: Any, remote: RemoteServer) -> None:
    async with opened(scripted(FAIL, "Sorry."), catalog=catalog(remote)) as server:
        _, answer = await server.post(PATH, QUESTION)
        (told,) = [item["output"] for item in answer["output"] if item["type"] == "function_call_output"]
        assert told.startswith("Error: ")
        assert told == asked(server)[-1].messages[-1].content


async def test_a_call_of_the_client_s_own_tool_has_no_result(opened: Any, remote: RemoteServer) -> None:
    async with opened(scripted(ADD, WEATHER), catalog=catalog(remote)) as server:
        body = {**QUESTION, "tools": [OWN_TOOL], "metadata": {"mcp_servers": "there"}}
        _, answer = await server.post(PATH, body)
        kinds = [(item["type"], item.get("name")) for item in answer["output"]]
        assert kinds == [("function_call", "add"), ("function_call_output", None), ("function_call", "weather")]


async def test_rounds_are_limited(opened: Any, remote: RemoteServer) -> None:
    async with opened(scripted(ADD), catalog=catalog(remote, rounds=1)) as server:
        status, answer = await server.post(PATH, QUESTION)
        assert (status, answer["error"]["code"]) == (500, "mcp_iteration_limit")
        for more in ({}, {"background": True}):  # results have begun the stream
            *_, error, failed = await events(server, PATH, json={**QUESTION, "stream": True, **more})
            assert error["code"] == "mcp_iteration_limit"
            kinds = [item["type"] for item in failed["response"]["output"]]
            assert kinds == ["function_call", "function_call_output"]


@pytest.mark.parametrize("background", [False, True])
async def test_a_request_that_stays_here_stays_here_in_every_round(
    opened: Any, remote: RemoteServer, background: bool
) -> None:
    async with opened(scripted(ADD, "done"), catalog=catalog(remote)) as server:
        headers = {"X-LocalAI-Local-Only": "true"}
        await events(server, PATH, json={**QUESTION, "stream": True, "background": background}, headers=headers)
        assert [request.local_only for request in requests(server)] == [True, True]


async def test_a_response_whose_tool_never_answers_is_cancelled(opened: Any, remote: RemoteServer) -> None:
    reached = asyncio.Event()
    async with opened(scripted(f"Wait.{HANG}", reached=reached), catalog=catalog(remote)) as server:
        body = {**QUESTION, "background": True, "stream": True}
        following = asyncio.create_task(events(server, PATH, json=body))
        made = await begun(server, reached, "response.output_text.delta")
        status, answer = await server.post(f"{PATH}/{made.response.id}/cancel", {})
        assert (status, answer["status"]) == (200, "cancelled")
        assert [item["status"] for item in answer["output"]] == ["incomplete"]
        assert (await following)[-1]["type"] == "response.cancelled"


async def test_a_response_that_is_begun_anew_has_its_tools_again(opened: Any, remote: RemoteServer) -> None:
    body = {**QUESTION, "background": True, "stream": True, "metadata": {"mcp_servers": "there"}}
    reached = asyncio.Event()
    async with opened(scripted(f"Wait.{HANG}", reached=reached), catalog=catalog(BROKEN, remote)) as server:
        following = asyncio.create_task(events(server, PATH, json=body))
        made = await begun(server, reached, "response.output_text.delta")
        await server.app[STORE].flush()
        await server.app[BACKGROUND].aclose()
        assert (await following)[-1]["message"].startswith("This node is shutting down.")
    reached = asyncio.Event()
    make = scripted(ADD, "It is {tool}.", reached=reached)
    async with opened(make, catalog=catalog(BROKEN, remote)) as server:
        found = await begun(server, reached, "response.completed")
        assert found.response.id == made.response.id
        assert found.response.output[-1].content[0].text == "It is 42."


async def begun(server: Any, reached: asyncio.Event, kind: str) -> Any:
    """The one background response, when it has an event of a kind."""
    await reached.wait()
    ((made, _task),) = server.app[BACKGROUND]._running.values()
    async for batch in made.follow(None):
        if any(event.event == kind for event in batch):
            break
    return made
