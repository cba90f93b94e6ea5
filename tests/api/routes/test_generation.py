"""Chat and text completions over HTTP, with bare requests and with the official client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import openai
import pydantic
import pytest

from localai.api.routes.generation import CHAT_PATHS, COMPLETION_PATHS, EDIT_PATHS
from localai.node.answer_rules import AnswerRules
from localai.node.catalog import Catalog
from localai.node.features import Feature
from localai.node.inference import ChatInput, GenerateRequest, Grammar, JsonSchema, Sampling
from localai.node.model_config import ModelConfig
from localai.node.prompt_templates import PromptTemplates
from localai.node.request_defaults import RequestDefaults
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.frames import Ask

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("path", CHAT_PATHS)
async def test_chat_on_every_path(serve: Any, path: str) -> None:
    async with serve() as server:
        for variant in (path, path + "/"):
            body = {"messages": HELLO} if "{model}" in path else {"model": "m", "messages": HELLO}
            status, answer = await server.post(variant.replace("{model}", "m"), body)
            assert status == 200
            assert answer["choices"][0]["message"]["content"] == "hello"
            assert answer["id"].startswith("chatcmpl-")
            assert answer["model"] == "m"


@pytest.mark.parametrize("path", COMPLETION_PATHS)
async def test_completions_on_every_path(serve: Any, path: str) -> None:
    async with serve() as server:
        status, answer = await server.post(path.replace("{model}", "m"), {"prompt": "abc"})
        assert status == 200
        assert answer["choices"][0]["text"] == "abc"
        assert answer["id"].startswith("cmpl-")


async def test_the_model_is_named_in_body_path_or_query_or_is_the_first(serve: Any) -> None:
    async with serve() as server:
        body = {"prompt": "abc"}
        for path, given, expected in (
            ("/v1/completions", "org/other", "org/other"),
            ("/v1/completions?model=org/other", "", "org/other"),
            ("/v1/completions?model=org/other", "m", "m"),
            ("/v1/completions", "", "m"),
        ):
            _, answer = await server.post(path, {**body, "model": given})
            assert answer["model"] == expected


async def test_the_first_model_is_the_first_of_its_kind(serve: Any) -> None:
    models = (
        ModelConfig("a", "a.gguf", embeddings=True),
        ModelConfig("b", "b.gguf", usecases=frozenset({"completion"})),
        ModelConfig("c", "c.gguf"),
    )
    async with serve(catalog=Catalog(models)) as server:
        _, answer = await server.post("/v1/chat/completions", {"messages": HELLO})
        assert answer["model"] == "c"
        _, answer = await server.post("/v1/completions", {"prompt": "abc"})
        assert answer["model"] == "b"
    async with serve(catalog=Catalog(models[:1])) as server:
        _, answer = await server.post("/v1/completions", {"prompt": "abc"})
        assert answer["model"] == "a"


async def test_a_definition_fills_in_and_the_request_goes_before_it(serve: Any) -> None:
    defaults = RequestDefaults(Sampling(temperature=0.25), max_tokens=2, choices=2, echo=True)
    config = ModelConfig("m", "m.gguf", defaults=defaults, answer=AnswerRules(cut=("e",), prefix="> "))
    alias = ModelConfig("n", "", alias="m")
    async with serve(catalog=Catalog((config,), aliases=(alias,))) as server:
        status, answer = await server.post("/v1/chat/completions", {"model": "n", "messages": HELLO})
        assert (status, answer["model"]) == (200, "n")
        assert [choice["message"]["content"] for choice in answer["choices"]] == ["> h", "> h"]
        _, answer = await server.post(
            "/v1/completions", {"model": "m", "prompt": "hello", "echo": False, "n": 1, "max_tokens": 0}
        )
        assert [choice["text"] for choice in answer["choices"]] == ["> hllo"]
        asked = [frame.request for frame in server.workers[0].sent if isinstance(frame, Ask)]
        assert [each.sampling.temperature for each in asked if isinstance(each, GenerateRequest)] == [0.25, 0.25]


async def test_a_disabled_model_is_forbidden(serve: Any) -> None:
    config = ModelConfig("off", "off.gguf", disabled=True)
    async with serve(catalog=Catalog((ModelConfig("m", "m.gguf"),), disabled=(config,))) as server:
        status, body = await server.post("/v1/chat/completions", {"model": "off", "messages": HELLO})
        assert (status, body["error"]["code"]) == (403, "model_disabled")


async def test_without_any_model_the_error_says_what_to_do(serve: Any) -> None:
    async with serve(catalog=Catalog()) as server:
        status, body = await server.post("/v1/chat/completions", {"messages": HELLO})
        assert (status, body["error"]["code"]) == (400, "model_not_found")
        assert "models folder" in body["error"]["message"]


async def test_an_unknown_model_is_400_as_documented(serve: Any) -> None:
    async with serve() as server:
        for stream in (False, True):
            status, body = await server.post(
                "/v1/chat/completions", {"model": "gpt-9", "messages": HELLO, "stream": stream}
            )
            assert status == 400
            assert (body["error"]["code"], body["error"]["param"]) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{bad", 400, "invalid_json"),
        (b'{"messages": 1}', 400, "invalid_type"),
        (b'{"messages": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, "invalid_type"),
        (b'{"tools": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, "invalid_type"),
        (b'{"grammar_json_functions": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, "invalid_json"),
        (b'{"x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b"", 400, "invalid_request"),
        (b'{"messages": [{"role": "user"}], "tools": [1]}', 400, "invalid_type"),
        (b'{"messages": [{"role": "user"}], "metadata": {"a": 1}}', 400, "invalid_type"),
        (b'{"messages": [{"role": "user"}], "grammar_json_functions": {"a": "\xff"}}', 400, "invalid_json"),
        (b'{"messages": [{"role": "user"}], "n_keep": 5}', 501, "unsupported_field"),
        (b'{"messages": [{"role": "user"}], "n": 99}', 400, "invalid_request"),
    ],
)
async def test_bad_bodies_are_clear_errors(serve: Any, body: bytes, status: int, code: str) -> None:
    async with serve() as server, server.http.post(server.url + "/v1/chat/completions", data=body) as response:
        assert response.status == status
        error = (await response.json())["error"]
        assert error["code"] == code
        assert error["message"].endswith(".")


@asynccontextmanager
async def client(server: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="k", max_retries=0, timeout=20) as made:
        yield made


async def test_the_official_client_chats_and_completes(serve: Any) -> None:
    async with serve() as server, client(server) as ai:
        answer = await ai.chat.completions.create(model="m", messages=HELLO, n=2)
        assert [choice.message.content for choice in answer.choices] == ["hello", "hello"]
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 10
        stream = await ai.chat.completions.create(model="m", messages=HELLO, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "hello"
        text = await ai.completions.create(model="m", prompt="abc", max_tokens=2)
        assert (text.choices[0].text, text.choices[0].finish_reason) == ("ab", "length")


async def test_errors_become_the_clients_exceptions(serve: Any) -> None:
    async with serve() as server, client(server) as ai:
        with pytest.raises(openai.BadRequestError) as caught:
            await ai.chat.completions.create(model="none", messages=HELLO)
        assert caught.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            await ai.models.retrieve("none")
        with pytest.raises(openai.InternalServerError):
            await ai.chat.completions.create(model="m", messages=HELLO, extra_body={"n_keep": 5})


@pytest.mark.parametrize(
    "fields", [{"max_tokens": 2**70}, {"seed": 2**70}, {"seed": -(2**70)}, {"model": None}, {"stream_options": {}}]
)
async def test_odd_values_are_served_and_the_next_request_too(serve: Any, fields: dict[str, Any]) -> None:
    async with serve() as server:
        for more in (fields, {}):
            status, body = await server.post("/v1/chat/completions", {"messages": HELLO, **more})
            assert status == 200
            assert body["choices"][0]["message"]["content"] == "hello"


async def test_a_prompt_that_no_worker_can_take_is_too_large(serve: Any) -> None:
    async with serve() as server:
        data = BytesIO(json.dumps({"prompt": "x" * 2_000_000, "stream": True}).encode())
        async with server.http.post(server.url + "/v1/completions", data=data) as response:
            assert response.status == 413


@pytest.mark.parametrize("path", EDIT_PATHS)
async def test_edits_on_every_path(serve: Any, path: str) -> None:
    async with serve() as server:
        body = {"instruction": "Correct it.", "input": ["wat", "hi"], "n": 2}
        status, answer = await server.post(path.replace("{model}", "m"), body)
        assert (status, answer["object"], answer["model"]) == (200, "edit", "m")
        texts = [f"Correct it.\n\n{text}" for text in ("wat", "wat", "hi", "hi")]
        assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == list(enumerate(texts))
        assert answer["usage"]["completion_tokens"] == sum(map(len, texts))


async def test_the_edit_template_of_a_definition(serve: Any) -> None:
    templates = PromptTemplates(edit="{{.Instruction}}|{{.Input}}", completion="never")
    async with serve(catalog=Catalog((ModelConfig("m", "m.gguf", templates=templates),))) as server:
        _, answer = await server.post("/v1/edits", {"instruction": "Correct it.", "input": "wat"})
        assert answer["choices"][0]["text"] == "Correct it.|wat"
        _, error = await server.post("/v1/edits", {"input": "wat"})
        assert error["error"]["param"] == "instruction"


def asked_of(server: Any) -> list[GenerateRequest]:
    sent = [frame.request for frame in server.workers[0].sent if isinstance(frame, Ask)]
    return [request for request in sent if isinstance(request, GenerateRequest)]


TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}},
]
CALL = b'<think>Sums.</think>Let me see.<tool_call>{"name": "add", "arguments": {"a": 2, "b": 3}}</tool_call>'


def agent(request: GenerateRequest) -> bytes:
    """Calls the tool, then says what it gave."""
    assert isinstance(request.prompt, ChatInput)
    last = request.prompt.messages[-1]
    return b"<think>Done.</think>It is " + last.content.encode() + b"." if last.role == "tool" else CALL


def tagged() -> FakeWorker:
    return FakeWorker(answer=agent, parser_id="tagged")


async def test_a_tool_loop_with_the_official_client(serve: Any) -> None:
    async with serve(tagged) as server, client(server) as ai:
        turns: list[Any] = [{"role": "user", "content": "2+3?"}]
        first = (await ai.chat.completions.create(model="m", messages=turns, tools=TOOLS)).choices[0]
        assert (first.finish_reason, first.message.content) == ("tool_calls", "Let me see.")
        extra = first.message.model_extra or {}
        assert extra["reasoning"] == extra["reasoning_content"] == "Sums."
        [call] = first.message.tool_calls or []
        assert call.type == "function"
        assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"a": 2, "b": 3})
        turns += [first.message, {"role": "tool", "tool_call_id": call.id, "content": "5"}]
        second = (await ai.chat.completions.create(model="m", messages=turns, tools=TOOLS)).choices[0]
        assert (second.finish_reason, second.message.content) == ("stop", "It is 5.")
        prompt = asked_of(server)[1].prompt
        assert isinstance(prompt, ChatInput)
        assert prompt.messages[1].tool_calls[0].id == prompt.messages[2].tool_call_id == call.id
        assert prompt.messages[1].reasoning == "Sums."


async def test_a_streamed_call_with_the_official_client(serve: Any) -> None:
    async with serve(tagged) as server, client(server) as ai:
        helper = ai.chat.completions.stream(
            model="m", messages=HELLO, tools=TOOLS, n=2, stream_options={"include_usage": True}
        )
        async with helper as stream:
            final = await stream.get_final_completion()
        for index, choice in enumerate(final.choices):
            assert (choice.index, choice.finish_reason) == (index, "tool_calls")
            assert choice.message.content == "Let me see."
            [call] = choice.message.tool_calls or []
            assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"a": 2, "b": 3})
        ids = {call.id for choice in final.choices for call in choice.message.tool_calls or []}
        assert len(ids) == 2
        assert final.usage is not None
        assert final.usage.completion_tokens == 2 * len(CALL)


async def test_the_older_functions(serve: Any) -> None:
    async with serve(tagged) as server, client(server) as ai:
        functions: Any = [tool["function"] for tool in TOOLS]
        answer = await ai.chat.completions.create(model="m", messages=HELLO, functions=functions)
        assert answer.choices[0].finish_reason == "function_call"
        called = answer.choices[0].message.function_call
        assert called is not None
        assert (called.name, json.loads(called.arguments)) == ("add", {"a": 2, "b": 3})
        stream = await ai.chat.completions.create(model="m", messages=HELLO, functions=functions, stream=True)
        chunks = [chunk.choices[0] async for chunk in stream]
        pieces = [chunk.delta.function_call for chunk in chunks if chunk.delta.function_call]
        assert "".join(piece.arguments or "" for piece in pieces) == called.arguments
        assert chunks[-1].finish_reason == "function_call"


async def test_structured_output_with_the_official_client(serve: Any) -> None:
    class Sum(pydantic.BaseModel):
        a: int
        b: int

    def say(_request: GenerateRequest) -> bytes:
        return b'{"a": 2, "b": 3}'

    async with serve(lambda: FakeWorker(answer=say)) as server, client(server) as ai:
        parsed = await ai.chat.completions.parse(model="m", messages=HELLO, response_format=Sum)
        assert parsed.choices[0].message.parsed == Sum(a=2, b=3)
        constraint = asked_of(server)[0].constraint
        assert isinstance(constraint, JsonSchema)
        assert json.loads(constraint.schema)["required"] == ["a", "b"]
        format_: Any = {"type": "json_object"}
        await ai.chat.completions.create(model="m", messages=HELLO, response_format=format_)
        await ai.completions.create(model="m", prompt="x", extra_body={"response_format": format_})
        await ai.chat.completions.create(model="m", messages=HELLO, extra_body={"grammar": "root ::= [a-z]"})
        found = [request.constraint for request in asked_of(server)[1:]]
        assert found == [JsonSchema(), JsonSchema(), Grammar("root ::= [a-z]")]


async def test_probabilities_with_the_official_client(serve: Any) -> None:
    async with serve() as server, client(server) as ai:
        whole = await ai.chat.completions.create(model="m", messages=HELLO, logprobs=True, top_logprobs=2)
        said = whole.choices[0].logprobs
        assert said is not None
        assert said.content is not None
        assert [token.token for token in said.content] == list("hello")
        assert [top.token for top in said.content[0].top_logprobs] == ["h", "i"]
        stream = await ai.chat.completions.create(model="m", messages=HELLO, logprobs=True, top_logprobs=2, stream=True)
        pieces = [c.choices[0].logprobs.content or [] async for c in stream if c.choices[0].logprobs]
        assert [token for piece in pieces for token in piece] == said.content
        text = (await ai.completions.create(model="m", prompt="héy", logprobs=1)).choices[0].logprobs
        assert text is not None
        assert text.tokens == ["h", r"bytes:\xc3", r"bytes:\xa9", "y"]
        assert text.text_offset == [0, 1, 1, 2]
        best = await ai.completions.create(model="m", prompt="abc", best_of=3, n=2)
        assert [choice.text for choice in best.choices] == ["abc", "abc"]
        assert best.usage is not None
        assert best.usage.completion_tokens == 9


async def test_several_prompts_and_usage_in_a_stream(serve: Any) -> None:
    async with serve() as server, client(server) as ai:
        stream = await ai.completions.create(
            model="m", prompt=["ab", "cd"], n=2, echo=True, stream=True, stream_options={"include_usage": True}
        )
        texts = ["", "", "", ""]
        usage = None
        async for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                texts[choice.index] += choice.text
        assert texts == ["abab", "abab", "cdcd", "cdcd"]
        assert usage is not None
        assert usage.completion_tokens == 8


async def test_times_come_with_a_header(serve: Any) -> None:
    async with serve() as server:
        for path, body in (
            ("/v1/chat/completions", {"messages": HELLO}),
            ("/v1/completions", {"prompt": "x"}),
            ("/v1/edits", {"instruction": "x"}),
        ):
            _, answer = await server.post(path, body, headers={"Extra-Usage": "1"})
            assert answer["usage"]["timing_token_generation"] >= 0
            _, answer = await server.post(path, body)
            assert "timing_token_generation" not in answer["usage"]


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("chat/completions", {}, 400, "messages"),
        ("chat/completions", {"messages": HELLO, "model": "none"}, 400, "model"),
        ("chat/completions", {"messages": HELLO, "temperature": 3}, 400, "temperature"),
        ("chat/completions", {"messages": HELLO, "tool_choice": "required"}, 400, "tool_choice"),
        ("chat/completions", {"messages": HELLO, "response_format": {"type": "x"}}, 400, "response_format"),
        ("chat/completions", {"messages": HELLO, "rope_freq_base": 1.5}, 501, "rope_freq_base"),
        ("completions", {}, 400, "prompt"),
        ("completions", {"prompt": "a", "model": "none"}, 400, "model"),
        ("completions", {"prompt": "a", "suffix": "b"}, 501, "suffix"),
        ("edits", {"input": "a"}, 400, "instruction"),
        ("edits", {"instruction": "a", "model": "none"}, 400, "model"),
    ],
)
async def test_errors_have_their_status_before_streams_too(
    serve: Any, path: str, body: dict[str, Any], status: int, param: str
) -> None:
    async with serve() as server:
        for prefix in ("/v1/", "/"):
            for stream in (False, True):
                found, answer = await server.post(prefix + path, {**body, "stream": stream})
                kind = "server_error" if status == 501 else "invalid_request_error"
                assert (found, answer["error"]["type"], answer["error"]["param"]) == (status, kind, param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": TOOLS}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:,x"}]}]}, "messages"),
    ],
)
async def test_what_the_backend_cannot_do_is_501(serve: Any, fields: dict[str, Any], param: str) -> None:
    def plain() -> FakeWorker:
        return FakeWorker(features=frozenset({Feature.GENERATE}))

    async with serve(plain) as server:
        for stream in (False, True):
            body = {"messages": HELLO, **fields, "stream": stream}
            status, answer = await server.post("/v1/chat/completions", body)
            assert (status, answer["error"]["code"], answer["error"]["param"]) == (501, "unsupported_feature", param)


async def test_a_failure_inside_a_stream_is_the_clients_exception(serve: Any) -> None:
    async with serve() as server, client(server) as ai:
        stream = await ai.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x" * 400}], stream=True
        )
        with pytest.raises(openai.APIError) as caught:
            [server.workers[0].die() async for chunk in stream if chunk.choices[0].delta.content]
        assert caught.value.code == "worker_lost"
        assert caught.value.type == "server_error"
