"""A whole node, used by the official client as a user would."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from localai.node.testing.node_process import NodeProcess, running_node

pytestmark = pytest.mark.e2e


def models_folder(folder: Path, **models: Path) -> Path:
    target = folder / "models"
    target.mkdir()
    for name, file in models.items():
        (target / f"{name}.gguf").symlink_to(file)
    return target


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, smollm2: Path) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("node")
    models_folder(folder, tiny=tiny_model, smollm2=smollm2)
    with running_node(folder, ["--context-size", "2048", "--threads", "1"]) as running:
        yield running


@pytest.fixture
def client(node: NodeProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{node.url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
        yield client


RIVERS = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]


def test_chat_makes_sense(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="smollm2", messages=RIVERS, temperature=0, max_tokens=40)  # type: ignore[arg-type]  # plain dicts
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.model == "smollm2"


def test_a_streamed_chat_is_the_same_answer(client: openai.OpenAI) -> None:
    arguments = {"model": "smollm2", "messages": RIVERS, "temperature": 0, "max_tokens": 40}
    whole = client.chat.completions.create(**arguments)  # type: ignore[call-overload]  # plain dicts
    stream = client.chat.completions.create(**arguments, stream=True, stream_options={"include_usage": True})  # type: ignore[call-overload]  # plain dicts
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_completions_continue_a_text(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="smollm2", prompt="One, two, three, four,", temperature=0, max_tokens=6)
    assert "five" in answer.choices[0].text
    stream = client.completions.create(
        model="smollm2", prompt="One, two, three, four,", temperature=0, max_tokens=6, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in stream) == answer.choices[0].text


def test_stop_seed_and_choices(client: openai.OpenAI) -> None:
    plain = client.completions.create(model="tiny", prompt="abc", max_tokens=60, seed=5, temperature=1)
    again = client.completions.create(model="tiny", prompt="abc", max_tokens=60, seed=5, temperature=1)
    assert plain.choices[0].text == again.choices[0].text
    stop = plain.choices[0].text[10:13]
    cut = client.completions.create(model="tiny", prompt="abc", max_tokens=60, seed=5, temperature=1, stop=stop)
    assert cut.choices[0].text == plain.choices[0].text[: plain.choices[0].text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    several = client.completions.create(model="tiny", prompt="abc", max_tokens=5, n=3, extra_body={"ignore_eos": True})
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert several.usage is not None
    assert several.usage.completion_tokens == 15


def test_a_text_becomes_tokens_and_text_again(client: openai.OpenAI) -> None:
    for model in ("smollm2", "tiny"):
        for text in ("Hello, world! Ünïcödé 🦙", " two  spaces\n", "<|im_start|>", ""):
            tokens = client.post("/tokenize", body={"model": model, "content": text}, cast_to=dict[str, list[int]])
            assert bool(tokens["tokens"]) == bool(text)
            back = client.post("/detokenize", body={"model": model, **tokens}, cast_to=dict[str, str])
            assert back == {"content": text}
    with pytest.raises(openai.BadRequestError):
        client.post("/detokenize", body={"model": "tiny", "tokens": [10**6]}, cast_to=dict[str, str])


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["smollm2", "tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="gpt-9", messages=RIVERS)  # type: ignore[arg-type]  # plain dicts
    assert caught.value.status_code == 400
    assert caught.value.code == "model_not_found"


async def test_64_streams_at_once_each_end_once(node: NodeProcess) -> None:
    async with openai.AsyncOpenAI(base_url=f"{node.url}/v1", api_key="x", max_retries=0, timeout=120) as client:

        async def one(number: int) -> tuple[int, list[object]]:
            stream = await client.completions.create(
                model="tiny", prompt=f"stream {number}", max_tokens=50, stream=True, extra_body={"ignore_eos": True}
            )
            ends: list[object] = []
            pieces = 0
            async for chunk in stream:
                pieces += len(chunk.choices[0].text)
                if chunk.choices[0].finish_reason:
                    ends.append(chunk.choices[0].finish_reason)
            return pieces, ends

        results = await asyncio.gather(*(one(number) for number in range(64)))
    assert all(pieces > 0 and ends == ["length"] for pieces, ends in results)


async def test_a_client_that_leaves_frees_the_engine(node: NodeProcess) -> None:
    async with openai.AsyncOpenAI(base_url=f"{node.url}/v1", api_key="x", max_retries=0, timeout=60) as client:
        streams = [
            await client.completions.create(
                model="tiny", prompt="endless", stream=True, extra_body={"ignore_eos": True}, max_tokens=2000
            )
            for _ in range(4)
        ]
        for stream in streams:
            await anext(aiter(stream))
            await stream.close()
        began = time.monotonic()
        await client.completions.create(model="tiny", prompt="next", max_tokens=1)
        assert time.monotonic() - began < 5


def tokens_then_kill(node: NodeProcess, client: openai.OpenAI) -> openai.APIError:
    stream = client.completions.create(
        model="tiny", prompt="killed", stream=True, extra_body={"ignore_eos": True}, max_tokens=3900
    )
    next(iter(stream))
    for pid in node.workers():
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    return caught.value


def test_a_killed_worker_is_a_clear_error_and_the_next_request_is_served(tmp_path: Path, tiny_model: Path) -> None:
    models_folder(tmp_path, tiny=tiny_model)
    with (
        running_node(tmp_path, ["--threads", "1"]) as node,
        openai.OpenAI(base_url=f"{node.url}/v1", api_key="x", max_retries=0, timeout=60) as client,
    ):
        error = tokens_then_kill(node, client)
        assert "signal 9" in error.message
        answer = client.completions.create(model="tiny", prompt="again", max_tokens=5, extra_body={"ignore_eos": True})
        assert answer.choices[0].finish_reason == "length"
        assert node.workers()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_graceful_end(tmp_path: Path, tiny_model: Path, number: signal.Signals) -> None:
    models_folder(tmp_path, tiny=tiny_model)
    with running_node(tmp_path, ["--threads", "1"]) as node:
        with openai.OpenAI(base_url=f"{node.url}/v1", api_key="x", max_retries=0, timeout=60) as client:
            stream = client.completions.create(
                model="tiny", prompt="x", stream=True, max_tokens=300, extra_body={"ignore_eos": True}
            )
            first = next(iter(stream))
            workers = node.workers()
            node.send_signal(number)
            rest = list(stream)
        assert first.choices
        assert rest[-1].choices[0].finish_reason == "length", "a running answer is finished"
        assert node.wait(10) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_an_answer_that_takes_too_long_is_told_and_the_node_ends(tmp_path: Path, smollm2: Path) -> None:
    models_folder(tmp_path, smollm2=smollm2)
    with running_node(tmp_path, ["--threads", "1", "--context-size", "4096"]) as node:
        with openai.OpenAI(base_url=f"{node.url}/v1", api_key="x", max_retries=0, timeout=60) as client:
            stream = client.completions.create(
                model="smollm2", prompt="x", stream=True, max_tokens=4000, extra_body={"ignore_eos": True}
            )
            next(iter(stream))
            began = time.monotonic()
            node.send_signal(signal.SIGTERM)
            with pytest.raises(openai.APIError, match="shutting down"):
                list(stream)
        assert node.wait(10) == 0
        assert time.monotonic() - began < 10


def test_a_damaged_model_and_a_missing_file_say_what_to_do(tmp_path: Path, tiny_model: Path) -> None:
    models = models_folder(tmp_path, good=tiny_model)
    (models / "html.gguf").write_text("<html>not found</html>" * 100)
    shutil.copy(tiny_model, models / "cut.gguf")
    os.truncate(models / "cut.gguf", 200_000)
    (models / "gone.yaml").write_text("name: gone\nparameters: {model: gone-file.gguf}\n")
    with (
        running_node(tmp_path, ["--threads", "1"]) as node,
        openai.OpenAI(base_url=f"{node.url}/v1", api_key="x", max_retries=0, timeout=60) as client,
    ):
        for model, words in (("html", "not a GGUF file"), ("cut", "cut.gguf"), ("gone", "gone-file.gguf")):
            with pytest.raises(openai.APIStatusError) as caught:
                client.completions.create(model=model, prompt="x", max_tokens=1)
            assert caught.value.status_code == 500
            assert words in caught.value.message
            with pytest.raises(openai.APIStatusError) as caught:
                client.completions.create(model=model, prompt="x", max_tokens=1)
            assert caught.value.status_code == 503
            assert int(caught.value.response.headers["Retry-After"]) >= 1
        assert client.completions.create(model="good", prompt="x", max_tokens=1).choices
