"""Five machines on a test LAN: A has no models, B and C serve, D has another token, E another network id."""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest

from localai.mesh.identity import load_identity
from localai.mesh.ids import short_id
from localai.mesh.network_token import ALPHABET, new_network_token
from localai.node.testing.lan import Host, lan
from localai.node.testing.node_process import NodeProcess, running_node
from localai.node.testing.turns import turns

pytestmark = pytest.mark.e2e

QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
LOOKS = 5
LIMIT_S = 5.0
"""What the issue of this feature allows for recovery. Waits end earlier; this is only where they give up."""


def new_token() -> str:
    """A token of a swarm of its own."""
    return new_network_token(lambda length: "".join(secrets.choice(ALPHABET) for _ in range(length))).text.reveal()


@dataclass
class Machine:
    """A host of the LAN, its folder and what runs there."""

    host: Host
    folder: Path
    arguments: tuple[str, ...]
    token: str = field(repr=False)
    command: str = "run"

    @property
    def node_id(self) -> str:
        """What ``X-LocalAI-Node`` says of it."""
        return short_id(load_identity(self.folder / "data" / "identity.key").peer_id)

    def start(self, things: ExitStack) -> NodeProcess:
        """Start it, or start it again."""
        return things.enter_context(
            running_node(
                self.folder, self.arguments, {"LOCALAI_P2P_TOKEN": self.token}, command=self.command, host=self.host
            )
        )


def server(host: Host, folder: Path, token: str, models: dict[str, Path], *arguments: str) -> Machine:
    """A machine with models and one thread for each."""
    (folder / "models").mkdir(parents=True)
    for name, file in models.items():
        (folder / "models" / f"{name}.gguf").symlink_to(file)
        (folder / "models" / f"{name}.yaml").write_text(
            json.dumps({"name": name, "parameters": {"model": f"{name}.gguf"}, "context_size": 2048})
        )
    return Machine(host, folder, ("--p2p", "--threads", "1", *arguments), token)


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, ...]]:
    with lan(5) as found:
        yield found


@pytest.fixture(scope="module")
def token() -> str:
    return new_token()


@pytest.fixture
def things() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@dataclass
class Swarm:
    """A, B and C, running and joined. A test that kills one brings it back."""

    things: ExitStack = field(repr=False)
    machines: dict[str, Machine]
    nodes: dict[str, NodeProcess] = field(default_factory=dict)

    @property
    def entry(self) -> NodeProcess:
        """A: no models."""
        return self.nodes["a"]

    def start(self, name: str) -> None:
        """Start a node, or start it again."""
        self.nodes[name] = self.machines[name].start(self.things)

    def id_of(self, name: str) -> str:
        """What ``X-LocalAI-Node`` says of it."""
        return self.machines[name].node_id

    def name_of(self, node_id: str) -> str:
        """The other way round."""
        return next(name for name in "bc" if self.id_of(name) == node_id)

    def kill(self, name: str) -> None:
        """kill -9 of everything that runs on its machine, as a power cut."""
        node = self.nodes[name]
        for pid in (node.pid, *node.workers(), node.mesh_process()):
            os.kill(pid, signal.SIGKILL)

    def wait_for(self, names: str, timeout_s: float = 30.0) -> None:
        """Wait until exactly these can be used by the entry."""
        deadline = time.monotonic() + timeout_s
        expected = {self.id_of(name) for name in names}
        while (found := usable_nodes(self.entry)) != expected:
            assert time.monotonic() < deadline, f"{found} instead of {expected}"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def swarm(
    hosts: tuple[Host, ...], token: str, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, smollm2: Path
) -> Iterator[Swarm]:
    folder = tmp_path_factory.mktemp("swarm")
    models = {"smollm2": smollm2, "tiny": tiny_model}
    machines = {
        "a": Machine(hosts[0], folder / "a", (), token, "federated"),
        "b": server(hosts[1], folder / "b", token, models),
        "c": server(hosts[2], folder / "c", token, models),
    }
    machines["a"].folder.mkdir()
    with ExitStack() as things:
        swarm = Swarm(things, machines)
        for name in "abc":
            swarm.start(name)
        swarm.wait_for("bc")
        yield swarm


def get(url: str) -> Any:
    """Decoded JSON."""
    with urllib.request.urlopen(url, timeout=20) as response:
        return json.load(response)


def usable_nodes(entry: NodeProcess) -> set[str]:
    """Short ids of the members that the entry can send requests to."""
    return {peer["node"] for peer in get(f"{entry.url}/api/p2p/peers")["peers"] if peer["usable"]}


def client(node: NodeProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{node.url}/v1", api_key="unused", max_retries=0, timeout=60)


def node_of(response: Any) -> str:
    return str(response.headers["X-LocalAI-Node"])


def test_an_answer_comes_from_another_machine(swarm: Swarm) -> None:
    with client(swarm.entry) as ask:
        assert [model.id for model in ask.models.list()] == ["smollm2", "tiny"]
        whole = ask.chat.completions.with_raw_response.create(
            model="smollm2",
            messages=QUESTION,  # type: ignore[arg-type]  # plain dicts
            temperature=0,
            max_tokens=40,
        )
        assert "Paris" in (whole.parse().choices[0].message.content or "")
        assert node_of(whole) in {swarm.id_of("b"), swarm.id_of("c")}
        assert whole.headers["X-LocalAI-Route"].startswith("peer;")
        stream: Any = ask.chat.completions.create(
            model="smollm2",
            messages=QUESTION,  # type: ignore[arg-type]  # plain dicts
            temperature=0,
            max_tokens=40,
            stream=True,
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert text == whole.parse().choices[0].message.content
        with pytest.raises(openai.APIStatusError) as caught:
            ask.completions.create(model="gpt-9", prompt="x")
        assert (caught.value.status_code, caught.value.code) == (400, "model_not_found")
    with client(swarm.nodes["b"]) as ask:
        local = ask.completions.with_raw_response.create(model="tiny", prompt="x", max_tokens=3)
        assert local.headers["X-LocalAI-Route"].startswith(("local;", "peer;"))


async def test_64_requests_are_spread_evenly(swarm: Swarm) -> None:
    """In flight on B and C never differs by more than 2, and what they completed by no more than 6.

    Their workers take turns on the processor, so that both have the same speed. Samples count until the last request
    was sent: routing has no say in who is done first after that. A sample is :data:`LOOKS` looks, 20 ms apart: several
    requests can end in one step of the engine, before the next ones are there.
    """
    url = f"{swarm.entry.url}/api/p2p/peers"
    done = asyncio.Event()
    samples: list[tuple[int, ...]] = []
    completed: Counter[str] = Counter()
    waiting = set(range(64))
    lengths = [12 + number % 13 for number in range(64)]  # of one length, whole batches would end in one step
    random.Random(1).shuffle(lengths)

    async def sample() -> None:
        while not done.is_set():
            body = await asyncio.to_thread(get, url)
            samples.append(tuple(peer["in_flight"] for peer in body["peers"]))
            await asyncio.sleep(0.02)

    async with openai.AsyncOpenAI(base_url=f"{swarm.entry.url}/v1", api_key="x", max_retries=0, timeout=120) as ask:
        loading = [ask.completions.create(model="smollm2", prompt="x", max_tokens=2) for _ in range(16)]
        await asyncio.gather(*loading)
        workers = [swarm.nodes[name].workers() for name in "bc"]
        assert all(workers), "both have loaded the model"
        limit = asyncio.Semaphore(16)

        async def one(number: int) -> None:
            async with limit:
                waiting.remove(number)
                if not waiting:
                    done.set()
                answer = await ask.completions.with_raw_response.create(
                    model="smollm2",
                    prompt=f"Request {number}:",
                    max_tokens=lengths[number],
                    extra_body={"ignore_eos": True},
                )
                assert answer.parse().choices[0].finish_reason == "length"
                completed[node_of(answer)] += 1

        sampling = asyncio.create_task(sample())
        with turns(*workers):
            await asyncio.gather(*(one(number) for number in range(64)))
        await sampling
    assert sum(completed.values()) == 64
    assert len(completed) == 2
    assert max(completed.values()) - min(completed.values()) <= 6, completed
    assert max(sum(each) for each in samples) >= 8, "the samples saw the work"
    differences = [max(each) - min(each) for each in samples]
    lasting = [min(differences[first : first + LOOKS]) for first in range(len(differences) - LOOKS + 1)]
    assert max(lasting) <= 2, samples


def test_a_peer_killed_before_its_first_token_is_not_noticed(swarm: Swarm) -> None:
    """Every request in flight when B dies is answered by C; the engine of B is stopped so that none has begun."""
    with client(swarm.nodes["b"]) as ask:
        ask.completions.create(model="tiny", prompt="x", max_tokens=1)
    for pid in swarm.nodes["b"].workers():
        os.kill(pid, signal.SIGSTOP)

    async def ask_all() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{swarm.entry.url}/v1", api_key="x", max_retries=0, timeout=60) as ask:

            async def one(number: int) -> str:
                answer = await ask.completions.with_raw_response.create(
                    model="tiny", prompt=f"Request {number}", max_tokens=8, extra_body={"ignore_eos": True}
                )
                assert answer.parse().choices[0].finish_reason == "length"
                return node_of(answer)

            asking = [asyncio.create_task(one(number)) for number in range(8)]
            await asyncio.to_thread(wait_in_flight, swarm.entry, swarm.id_of("b"))
            swarm.kill("b")
            return await asyncio.gather(*asking)

    assert set(asyncio.run(ask_all())) == {swarm.id_of("c")}
    swarm.start("b")
    swarm.wait_for("bc")


def wait_in_flight(entry: NodeProcess, node: str) -> None:
    """Wait until the entry has sent something to this node."""
    deadline = time.monotonic() + 20
    while not any(peer["in_flight"] for peer in get(f"{entry.url}/api/p2p/peers")["peers"] if peer["node"] == node):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_peer_killed_in_the_middle_is_an_error_event(swarm: Swarm) -> None:
    with client(swarm.entry) as ask:
        stream = ask.completions.with_raw_response.create(
            model="tiny", prompt="x", max_tokens=1900, stream=True, extra_body={"ignore_eos": True}
        )
        chunks = iter(stream.parse())
        next(chunks)
        answering = swarm.name_of(node_of(stream))
        swarm.kill(answering)
        began = time.monotonic()
        seen: list[Any] = []
        with pytest.raises(openai.APIError) as caught:
            seen.extend(chunks)
        assert not any(chunk.choices[0].finish_reason for chunk in seen), "a cut answer must not look complete"
        assert time.monotonic() - began < LIMIT_S
        assert caught.value.code == "peer_lost"
        again = ask.completions.create(model="tiny", prompt="x", max_tokens=3)
        assert again.choices[0].finish_reason
    swarm.start(answering)
    swarm.wait_for("bc")


def test_a_frozen_peer_is_not_used_any_more(swarm: Swarm) -> None:
    node = swarm.nodes["b"]
    frozen = [node.pid, *node.workers(), node.mesh_process()]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        swarm.wait_for("c", timeout_s=15)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    swarm.wait_for("bc")


def test_strangers_never_see_or_serve_anything(
    swarm: Swarm, hosts: tuple[Host, ...], token: str, tmp_path: Path, tiny_model: Path, things: ExitStack
) -> None:
    """D knows the address of B, so it does not even need to find it."""
    address = f"/ip4/{hosts[1].address}/tcp/{listening_port(swarm.machines['b'])}"
    peer = load_identity(swarm.machines["b"].folder / "data" / "identity.key").peer_id
    given = ("--p2p-peers", f"{address}/p2p/{peer}")
    d = server(hosts[3], tmp_path / "d", new_token(), {"secret-d": tiny_model}, *given)
    e = server(hosts[4], tmp_path / "e", token, {"secret-e": tiny_model}, "--p2p-network-id", "other", *given)
    strangers = [d.start(things), e.start(things)]
    deadline = time.monotonic() + 30
    while refused(swarm.nodes["b"]) + sum(map(refused, strangers)) < 2:
        assert time.monotonic() < deadline, "nobody was refused"
        time.sleep(0.1)
    for stranger, name in zip(strangers, ("secret-d", "secret-e"), strict=True):
        assert [model["id"] for model in get(f"{stranger.url}/v1/models")["data"]] == [name]
        assert get(f"{stranger.url}/api/p2p/peers")["peers"] == []
    for node in swarm.nodes.values():
        assert [model["id"] for model in get(f"{node.url}/v1/models")["data"]] == ["smollm2", "tiny"]
        assert len(get(f"{node.url}/api/p2p/peers")["peers"]) == 2


def refused(node: NodeProcess) -> int:
    return int(get(f"{node.url}/api/p2p/peers")["counts"].get("strangers_refused", 0))


def listening_port(machine: Machine) -> str:
    deadline = time.monotonic() + 30
    book = machine.folder / "data" / "swarm.json"
    while not book.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return str(json.loads(book.read_text())["listen"][0]).rsplit("/", 1)[1]


def test_a_peer_that_comes_back_is_used_again(swarm: Swarm) -> None:
    listening_port(swarm.machines["b"])  # it has written down where it listens
    swarm.kill("b")
    swarm.wait_for("c")
    began = time.monotonic()
    swarm.start("b")
    swarm.wait_for("bc")
    assert time.monotonic() - began < 2 * LIMIT_S  # the figure itself is in docs/evidence.md; CI machines are busy

    async def ask_all() -> set[str]:
        """More at once than the node that stayed can do in the time that the other one needs to load."""
        async with openai.AsyncOpenAI(base_url=f"{swarm.entry.url}/v1", api_key="x", max_retries=0, timeout=60) as ask:

            async def one(number: int) -> str:
                answer = await ask.completions.with_raw_response.create(
                    model="smollm2", prompt=f"{number}", max_tokens=10, extra_body={"ignore_eos": True}
                )
                return node_of(answer)

            return set(await asyncio.gather(*(one(number) for number in range(16))))

    assert asyncio.run(ask_all()) == {swarm.id_of("b"), swarm.id_of("c")}


def test_the_mesh_process_of_the_entry_is_killed(swarm: Swarm) -> None:
    before = swarm.entry.mesh_process()
    os.kill(before, signal.SIGKILL)
    began = time.monotonic()
    swarm.wait_for("")
    with client(swarm.entry) as ask, pytest.raises(openai.APIStatusError) as caught:
        ask.completions.create(model="tiny", prompt="x")
    assert caught.value.status_code == 503, "HTTP answers throughout, and says what is missing"
    assert caught.value.code == "no_nodes"
    swarm.wait_for("bc")
    assert time.monotonic() - began < 2 * LIMIT_S  # see above
    assert swarm.entry.mesh_process() != before
    with client(swarm.entry) as ask:
        assert ask.completions.create(model="tiny", prompt="x", max_tokens=2).choices
