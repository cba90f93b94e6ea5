"""A household downloads once: C gets a model from A and B, who have it, while they answer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from localai.mesh.identity import load_identity
from localai.mesh.ids import short_id
from localai.node.testing.lan import Host, lan
from localai.node.testing.node_process import NodeProcess, running_node
from localai.node.testing.tokens import new_token_text

pytestmark = pytest.mark.e2e


@pytest.fixture
def hosts() -> Iterator[tuple[Host, ...]]:
    with lan(3) as found:
        yield found


def folder_with(folder: Path, *models: Path) -> Path:
    (folder / "models").mkdir(parents=True)
    for model in models:
        shutil.copy(model, folder / "models" / model.name)
    return folder


async def stream(node: NodeProcess, number: int) -> str | None:
    """How a long streamed answer ended."""
    async with openai.AsyncOpenAI(base_url=f"{node.url}/v1", api_key="x", max_retries=0, timeout=120) as client:
        chunks = await client.completions.create(
            model="tiny", prompt=f"{number}", max_tokens=900, stream=True, extra_body={"ignore_eos": True}
        )
        return [chunk.choices[0].finish_reason async for chunk in chunks][-1]


def test_a_missing_model_comes_from_two_members_while_they_answer(
    hosts: tuple[Host, ...], tmp_path: Path, tiny_model: Path, smollm2: Path
) -> None:
    digest = hashlib.sha256(smollm2.read_bytes()).hexdigest()
    environment = {"LOCALAI_P2P_TOKEN": new_token_text()}
    options = ("--p2p", "--threads", "1", "--context-size", "1024")
    with ExitStack() as things:
        a, b = (
            things.enter_context(
                running_node(folder_with(tmp_path / name, tiny_model, smollm2), options, environment, host=host)
            )
            for name, host in zip("ab", hosts, strict=False)
        )
        third = folder_with(tmp_path / "c", tiny_model)
        source = {"filename": smollm2.name, "sha256": digest, "uri": "https://10.98.0.200/not-there.gguf"}
        definition = {"name": "copied", "parameters": {"model": smollm2.name}, "download_files": [source]}
        (third / "models" / "copied.yaml").write_text(json.dumps(definition))
        for node in (a, b):
            node.wait_log("mesh_ready")

        async def answers() -> list[str | None]:
            return await asyncio.gather(*(stream(node, number) for node in (a, b) for number in range(4)))

        answering = asyncio.new_event_loop()
        try:
            work = answering.create_task(answers())
            answering.run_until_complete(asyncio.sleep(0.2))
            c = things.enter_context(running_node(third, options, environment, host=hosts[2]))
            ends = answering.run_until_complete(work)
        finally:
            answering.close()
        assert "file_copied_from_members" in c.log
        copied = third / "models" / smollm2.name
        assert hashlib.sha256(copied.read_bytes()).hexdigest() == digest
        assert ends == ["length"] * 8, "no stream was cut"
        with openai.OpenAI(base_url=f"{c.url}/v1", api_key="x", max_retries=0, timeout=60) as client:
            answer = client.completions.create(model="copied", prompt="One, two, three,", max_tokens=6, temperature=0)
            assert "four" in answer.choices[0].text
        assert not list((third / "models").glob("*.partial"))


def test_a_new_machine_gets_the_default_model_from_the_household(
    hosts: tuple[Host, ...], tmp_path: Path, smollm2: Path
) -> None:
    """No way to the package index: the file can only come from the first machine."""
    environment = {"LOCALAI_P2P_TOKEN": new_token_text(), "PIP_NO_INDEX": "1"}
    options = ("--p2p", "--threads", "1", "--context-size", "1024")
    with ExitStack() as things:
        first = folder_with(tmp_path / "first", smollm2)
        one = things.enter_context(running_node(first, options, environment, host=hosts[0]))
        one.wait_log("mesh_ready")
        (tmp_path / "second").mkdir()
        two = things.enter_context(running_node(tmp_path / "second", options, environment, host=hosts[1]))
        assert "file_copied_from_members" in two.log
        with openai.OpenAI(base_url=f"{two.url}/v1", api_key="x", max_retries=0, timeout=60) as client:
            assert client.models.list().data[-1].id == "smollm2-135m-instruct"
            answer = client.completions.create(model="smollm2-135m-instruct", prompt="One, two,", max_tokens=2)
            assert answer.choices[0].text


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    """Decoded JSON."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=20) as response:
        return json.load(response)


def wait_members(node: NodeProcess, model: str, count: int) -> None:
    """Wait until it can use so many members that have a model."""
    deadline = time.monotonic() + 30
    while True:
        peers = ask(f"{node.url}/api/p2p/peers")["peers"]
        if sum(peer["usable"] and model in peer["models"] for peer in peers) == count:
            return
        assert time.monotonic() < deadline, peers
        time.sleep(0.05)


def spoil(path: Path, step: int) -> None:
    """Change a byte in each ``step`` of a file, as a bad disk does: the file looks as old as before."""
    status = path.stat()
    with path.open("r+b") as file:
        for offset in range(0, status.st_size, step):
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_member_whose_file_went_bad_is_found_out(hosts: tuple[Host, ...], tmp_path: Path, tiny_model: Path) -> None:
    model = tmp_path / "large.gguf"
    model.write_bytes(tiny_model.read_bytes() + os.urandom(32 << 20))
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    environment = {"LOCALAI_P2P_TOKEN": new_token_text()}
    options = ("--p2p", "--threads", "1", "--context-size", "512", "--log-level", "debug")
    with ExitStack() as things:
        for name, host in zip("ab", hosts, strict=False):
            node = things.enter_context(
                running_node(folder_with(tmp_path / name, model), options, environment, host=host)
            )
            node.wait_log("file_hashed")
        spoil(tmp_path / "b" / "models" / model.name, step=1 << 20)
        third = folder_with(tmp_path / "c", tiny_model)
        c = things.enter_context(running_node(third, options, environment, host=hosts[2]))
        wait_members(c, "large", 2)
        files = [{"filename": "copied.gguf", "sha256": digest, "uri": "https://10.98.0.200/not-there.gguf"}]
        body = {"name": "copied", "config_file": {"parameters": {"model": "copied.gguf"}}, "files": files}
        job_url = f"{c.url}/models/jobs/{ask(f'{c.url}/models/apply', body)['uuid']}"
        deadline = time.monotonic() + 60
        while not (job := ask(job_url))["processed"]:
            assert time.monotonic() < deadline, job
            time.sleep(0.05)
        assert job["message"] == "completed"
        bad = short_id(load_identity(tmp_path / "b" / "data" / "identity.key").peer_id)
        assert bad in c.wait_log("chunk_was_corrupt", 5)
        assert c.log.count("chunk_was_corrupt") == 1, "who sent one is not asked again"
        assert "file_copied_from_members" in c.log
        copied = third / "models" / "copied.gguf"
        assert hashlib.sha256(copied.read_bytes()).hexdigest() == digest
        assert sorted(os.listdir(third / "models")) == ["copied.gguf", "copied.yaml", "tiny.gguf"]
        with openai.OpenAI(base_url=f"{c.url}/v1", api_key="x", max_retries=0, timeout=60) as client:
            assert client.completions.create(model="copied", prompt="x", max_tokens=3).choices
