"""Chat with tools of real MCP servers: a program, and one over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import openai
import pytest

from localai.api.dialects.mcp_chat import MCP_CHAT_PATHS
from localai.node.catalog import Catalog
from localai.node.inference import ChatInput, GenerateRequest
from localai.node.mcp.servers import McpServer, ProgramServer, RemoteServer
from localai.node.model_config import ModelConfig
from localai.node.testing.fake_worker import FakeWorker
from localai.node.testing.mcp_server import program_server, remote_server
from localai.node.workers.frames import Ask

pytestmark = pytest.mark.e2e

QUESTION: list[Any] = [{"role": "user", "content": "What is 19 and 23?"}]
ADD = '<tool_call>{"name": "add", "arguments": {"a": 19, "b": 23}}</tool_call>'
WEATHER = '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
OWN_TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
PATH = MCP_CHAT_PATHS[0]


def scripted(*answers: str) -> Callable[[], FakeWorker]:
    """A worker that gives one answer for each turn of the model; ``{tool}`` stands for the last result."""

    def answer(request: GenerateRequest) -> bytes:
        assert isinstance(request.prompt, ChatInput)
        messages = request.prompt.messages
        turn = sum(message.role == "assistant" for message in messages)
        return answers[min(turn, len(answers) - 1)].replace("{tool}", messages[-1].content).encode()

    return lambda: FakeWorker(answer, parser_id="tagged")


def catalog(*servers: McpServer, rounds: int | None = None) -> Catalog:
    return Catalog((ModelConfig("m", "m.gguf", mcp_servers=servers, tool_rounds=rounds),))


def asked(server: Any) -> list[ChatInput]:
    """The conversations that the model was asked about."""
    frames = [frame for worker in server.workers for frame in worker.sent if isinstance(frame, Ask)]
    return [frame.request.prompt for frame in frames if isinstance(frame.request, GenerateRequest)]  # type: ignore[misc]


@pytest.fixture(scope="module")
def remote() -> Iterator[RemoteServer]:
    with remote_server() as server:
        yield server


async def test_a_program_s_tool_is_called_and_the_model_is_asked_again(serve: Any) -> None:
    make = scripted(f"Let me see.{ADD}", "It is {tool}.")
    async with serve(make, catalog=catalog(program_server())) as server:
        status, answer = await server.post(PATH, {"model": "m", "messages": QUESTION})
        assert status == 200
        choice = answer["choices"][0]
        assert choice["message"]["content"] == "Let me see.\n\nIt is 42."
        assert not choice["message"].get("tool_calls")
        assert choice["finish_reason"] == "stop"
        first, second = asked(server)
        assert "add" in [tool.name for tool in first.tools]
        assert [message.role for message in second.messages] == ["user", "assistant", "tool"]
        assert second.messages[1].content == "Let me see."
        assert second.messages[2].tool_call_id == second.messages[1].tool_calls[0].id
        assert answer["usage"]["completion_tokens"] > len("It is 42.")


@pytest.mark.parametrize("path", MCP_CHAT_PATHS)
async def test_every_path_and_a_remote_server(serve: Any, remote: RemoteServer, path: str) -> None:
    async with serve(scripted(ADD, "{tool}!"), catalog=catalog(remote)) as server:
        for variant in (path, f"{path}/"):
            status, answer = await server.post(variant, {"model": "m", "messages": QUESTION})
            assert status == 200
            assert answer["choices"][0]["message"]["content"] == "42!"


async def events_of(server: Any, path: str, body: Any) -> list[Any]:
    async with server.http.post(server.url + path, json={**body, "stream": True}) as response:
        assert response.status == 200
        text = await response.text()
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def content_of(events: Sequence[Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])


async def test_a_stream_shows_results_between_the_texts(serve: Any, remote: RemoteServer) -> None:
    make = scripted(f"Let me see.{ADD}", "It is {tool}.")
    async with serve(make, catalog=catalog(remote)) as server:
        body = {"model": "m", "messages": QUESTION, "stream_options": {"include_usage": True}}
        events = await events_of(server, PATH, body)
        _, whole = await server.post(PATH, body)
        place = next(place for place, event in enumerate(events) if event.get("type") == "mcp_tool_result")
        assert (events[place]["name"], events[place]["result"]) == ("add", "42")
        assert events[place]["id"] == events[0]["id"]
        assert content_of(events[:place]) == "Let me see."
        assert content_of(events) == whole["choices"][0]["message"]["content"] == "Let me see.\n\nIt is 42."
        assert [c["finish_reason"] for event in events for c in event["choices"] if c["finish_reason"]] == ["stop"]
        assert events[-1]["usage"]["total_tokens"] == whole["usage"]["total_tokens"]


async def test_the_official_client_passes_over_the_results(serve: Any, remote: RemoteServer) -> None:
    async with (
        serve(scripted(ADD, "It is {tool}."), catalog=catalog(remote)) as server,
        openai.AsyncOpenAI(base_url=f"{server.url}/mcp/v1", api_key="none", max_retries=0) as client,
    ):
        stream = await client.chat.completions.create(model="m", messages=QUESTION, stream=True)
        chunks = [chunk async for chunk in stream]
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        assert text == "It is 42."
        answer = await client.chat.completions.create(model="m", messages=QUESTION)
        assert answer.choices[0].message.content == "It is 42."


async def test_metadata_chooses_servers_in_ordinary_chat(serve: Any, remote: RemoteServer) -> None:
    broken = ProgramServer("broken", "/nowhere/at/all")
    async with serve(scripted(ADD, "{tool}"), catalog=catalog(broken, remote)) as server:
        body = {"model": "m", "messages": QUESTION}
        chosen = {**body, "metadata": {"mcp_servers": " there , there"}}
        status, answer = await server.post("/v1/chat/completions", chosen)
        assert (status, answer["choices"][0]["message"]["content"]) == (200, "42")
        status, answer = await server.post("/v1/chat/completions", body)
        assert (status, answer["choices"][0]["message"]["content"]) == (200, ADD)  # no tools, so it is text
        status, answer = await server.post(PATH, body)  # all servers: the broken one does not matter
        assert (status, answer["choices"][0]["message"]["content"]) == (200, "42")


@pytest.mark.parametrize(
    ("path", "metadata", "status", "code", "param"),
    [
        (PATH, {}, 500, "no_working_mcp_servers", None),
        (PATH, {"mcp_servers": "other"}, 400, "unknown_mcp_server", "metadata.mcp_servers"),
        ("/v1/chat/completions", {"mcp_servers": "other"}, 400, "unknown_mcp_server", "metadata.mcp_servers"),
        (PATH, {"mcp_prompt": "x"}, 501, "unsupported_field", "metadata.mcp_prompt"),
        (PATH, {"mcp_resources": "x"}, 501, "unsupported_field", "metadata.mcp_resources"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors(
    serve: Any, path: str, metadata: Any, status: int, code: str, param: str | None, stream: bool
) -> None:
    async with serve(scripted(ADD), catalog=catalog(ProgramServer("broken", "/nowhere/at/all"))) as server:
        body = {"model": "m", "messages": QUESTION, "metadata": metadata, "stream": stream}
        got, answer = await server.post(path, body)
        error = answer["error"]
        assert (got, error["code"], error["param"]) == (status, code, param)


async def test_a_model_without_servers_says_what_localai_says(serve: Any) -> None:
    async with serve() as server:
        status, answer = await server.post(PATH, {"model": "m", "messages": QUESTION})
        assert status == 500
        assert answer["error"]["message"].startswith("no MCP servers configured")
        assert answer["error"]["type"] == "server_error"


async def test_the_owner_can_switch_it_off(serve: Any, remote: RemoteServer) -> None:
    async with serve(catalog=catalog(remote), mcp=False) as server:
        status, answer = await server.post(PATH, {"model": "m", "messages": QUESTION})
        assert (status, answer["error"]["code"]) == (403, "mcp_disabled")
        status, answer = await server.get("/v1/mcp/servers/m")
        assert (status, answer["error"]["code"]) == (403, "mcp_disabled")


async def test_several_answers_cannot_have_tools(serve: Any, remote: RemoteServer) -> None:
    async with serve(catalog=catalog(remote)) as server:
        status, answer = await server.post(PATH, {"model": "m", "messages": QUESTION, "n": 2})
        assert (status, answer["error"]["param"]) == (501, "n")


async def test_a_failing_tool_is_told_to_the_model(serve: Any, remote: RemoteServer) -> None:
    call = '<tool_call>{"name": "fail", "arguments": {}}</tool_call>'
    async with serve(scripted(call, "It said: {tool}"), catalog=catalog(remote)) as server:
        status, answer = await server.post(PATH, {"model": "m", "messages": QUESTION})
        assert status == 200
        assert answer["choices"][0]["message"]["content"].startswith("It said: Error: ")


async def test_a_call_of_the_client_s_own_tool_ends_the_answer(serve: Any, remote: RemoteServer) -> None:
    async with serve(scripted(ADD, WEATHER), catalog=catalog(remote)) as server:
        body = {"model": "m", "messages": QUESTION, "tools": [OWN_TOOL]}
        status, answer = await server.post(PATH, body)
        assert status == 200
        calls = answer["choices"][0]["message"]["tool_calls"]
        assert [call["function"]["name"] for call in calls] == ["weather"]
        assert answer["choices"][0]["finish_reason"] == "tool_calls"


async def test_rounds_are_limited(serve: Any, remote: RemoteServer) -> None:
    async with serve(scripted(ADD), catalog=catalog(remote, rounds=2)) as server:
        status, answer = await server.post(PATH, {"model": "m", "messages": QUESTION})
        assert (status, answer["error"]["code"]) == (500, "mcp_iteration_limit")
        assert answer["error"]["message"].startswith("MCP iteration limit reached")
        assert [prompt.tool_choice for prompt in asked(server)] == ["auto", "auto", "none"]
        events = await events_of(server, PATH, {"model": "m", "messages": QUESTION})  # results have begun the stream
        assert [event.get("type") for event in events[:2]] == ["mcp_tool_result"] * 2
        assert events[-1]["error"]["code"] == "mcp_iteration_limit"


async def test_a_request_that_stays_here_stays_here_in_every_round(serve: Any, remote: RemoteServer) -> None:
    async with serve(scripted(ADD, "done"), catalog=catalog(remote)) as server:
        headers = {"X-LocalAI-Local-Only": "true"}
        await server.post(PATH, {"model": "m", "messages": QUESTION}, headers=headers)
        frames = [frame for frame in server.workers[0].sent if isinstance(frame, Ask)]
        assert [frame.request.local_only for frame in frames] == [True, True]


async def test_a_model_that_is_not_there_is_the_clients_mistake_and_one_without_servers_is_not(serve: Any) -> None:
    async with serve() as server:
        status, answer = await server.post(PATH, {"model": "nobody", "messages": QUESTION})
        assert (status, answer["error"]["code"]) == (400, "model_not_found")
        async with server.http.post(server.url + PATH, json={"model": "m", "messages": QUESTION}) as response:
            assert (response.status, response.headers["x-should-retry"]) == (500, "false")
            assert (await response.json())["error"]["code"] == "no_mcp_servers"
