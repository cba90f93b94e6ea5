"""The front door, over fake workers: retries, phases, the log line; alone and in a swarm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import msgspec
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from localai.mesh.errors import Category, InvalidRequest, ModelLoadFailed, Unavailable, Unsupported
from localai.mesh.ids import short_id
from localai.mesh.testing.fake_link import FakeSwarm
from localai.node.answer_report import AnswerReport, Outcome
from localai.node.catalog import Catalog
from localai.node.dispatch import Dispatch, Route, RoutingRules
from localai.node.features import Feature
from localai.node.inference import (
    ChatInput,
    ChatMessage,
    Event,
    Failed,
    Finished,
    GenerateRequest,
    RequestId,
    Sampling,
    Started,
    Tokens,
)
from localai.node.local_models import Resources
from localai.node.model_config import ModelConfig, Problem
from localai.node.peers.record import ModelRecord
from localai.node.request_defaults import RequestDefaults
from localai.node.residency import ResidencyRules
from localai.node.supervisor import ModelSupervisor
from localai.node.testing.fake_node import FakeNode, fake_node
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.connection import WorkerConnection
from localai.node.workers.frames import Load
from localai.node.workers.lifecycle import LifecycleConfig, State

CATALOG = Catalog((ModelConfig("m", "m.gguf"), ModelConfig("other", "o.gguf")))
Make = Callable[[], FakeWorker]


def ask(name: str, model: str = "m", text: str = "hello") -> GenerateRequest:
    prompt = ChatInput((ChatMessage("user", text),))
    return GenerateRequest(RequestId(name), model, prompt, Sampling(temperature=0))


@asynccontextmanager
async def node(
    make: Make = FakeWorker, catalog: Catalog | None = CATALOG, context_size: int = 512
) -> AsyncIterator[Dispatch]:
    def supervise(config: ModelConfig) -> ModelSupervisor:
        async def spawn() -> WorkerConnection:
            return make()

        load = Load(config.model_file, context_size, 2, 1)
        return ModelSupervisor(config.name, load, spawn, LifecycleConfig(backoff_s=(0.0,)))

    dispatch = Dispatch(supervise, catalog)
    try:
        async with asyncio.timeout(20):
            yield dispatch
    finally:
        await dispatch.aclose(0.0)


async def collect(dispatch: Dispatch, request: GenerateRequest) -> list[Event]:
    return [event async for batch in dispatch.answer_batches(request) for event in batch]


def text(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Tokens))


async def test_an_answer_and_its_log_line() -> None:
    async with node() as dispatch:
        with capture_logs() as logs:
            events = await collect(dispatch, ask("a"))
        assert text(events) == b"hello"
        (line,) = [entry for entry in logs if entry["event"] == "request_finished"]
        assert (line["model"], line["prompt_tokens"], line["completion_tokens"]) == ("m", 12, 5)
        assert 0 < line["ttft_ms"] <= line["total_ms"]


async def test_every_answer_is_reported_at_its_end() -> None:
    async with node() as dispatch:
        reports: list[AnswerReport] = []
        dispatch.on_answer = reports.append
        await collect(dispatch, ask("a"))
        await collect(dispatch, ask("b", "nothing"))
        async with aclosing(dispatch.answer_batches(ask("c"))) as batches:
            await anext(batches)
            assert dispatch.in_flight == 1
        assert dispatch.in_flight == 0
        finished, failed, abandoned = reports
        assert [report.outcome for report in reports] == [Outcome.FINISHED, Outcome.FAILED, Outcome.ABANDONED]
        assert (finished.model, finished.usage.completion_tokens) == ("m", 5)
        assert finished.first_token_s is not None
        assert finished.token_gap_s is not None
        assert 0 < finished.first_token_s <= finished.total_s
        assert (failed.model, failed.first_token_s, failed.usage.prompt_tokens) == ("nothing", None, 0)
        assert abandoned.token_gap_s is None


async def test_load_and_unload_only_while_the_node_is_open() -> None:
    async with node(catalog=None) as dispatch:
        for act in (dispatch.load, dispatch.unload):
            with pytest.raises(Unavailable, match="still installing"):
                await act("m")
        dispatch.open(CATALOG)
        await dispatch.load("m")
        await dispatch.unload("m")
        await dispatch.aclose(0.0)
        with pytest.raises(Unavailable, match="shutting down"):
            await dispatch.load("m")


async def test_residency_can_change() -> None:
    async with node() as dispatch:
        assert dispatch.residency == ResidencyRules()
        dispatch.change_residency(ResidencyRules(max_active=1), 2.0)
        assert dispatch.residency.max_active == 1


async def test_models_are_listed_with_their_workers() -> None:
    async with node() as dispatch:
        assert [status.worker for status in dispatch.models()] == [None, None]
        await collect(dispatch, ask("a", "other"))
        first, second = dispatch.models()
        assert first.worker is None
        assert second.worker is not None
        assert second.worker.state is State.READY


async def test_an_unknown_model_is_one_failed_event() -> None:
    async with node() as dispatch:
        (failed,) = await collect(dispatch, ask("a", "nothing"))
        assert isinstance(failed, Failed)
        assert (failed.code, failed.param) == ("model_not_found", "model")


class Fragile:
    """Makes workers of which the first ``deaths`` die when they have produced ``after`` tokens."""

    def __init__(self, deaths: int, after: int) -> None:
        self.deaths = deaths
        self.after = after
        self.made: list[FakeWorker] = []

    def __call__(self) -> FakeWorker:
        if len(self.made) < self.deaths:
            steps = iter(range(self.after + 1))

            async def step() -> None:
                await asyncio.sleep(0)
                if next(steps, None) == self.after:
                    worker.die()
                    await asyncio.Event().wait()

            worker = FakeWorker(before_step=step)
        else:
            worker = FakeWorker()
        self.made.append(worker)
        return worker


async def test_a_worker_that_dies_before_the_first_token_is_not_noticed() -> None:
    fragile = Fragile(deaths=1, after=0)
    async with node(fragile) as dispatch:
        events = await collect(dispatch, ask("a"))
        assert text(events) == b"hello"
        assert sum(isinstance(event, Started) for event in events) == 1
        assert len(fragile.made) == 2


async def test_after_the_first_token_the_client_is_told() -> None:
    fragile = Fragile(deaths=1, after=2)
    async with node(fragile) as dispatch:
        events = await collect(dispatch, ask("a"))
        assert text(events) == b"he"
        last = events[-1]
        assert isinstance(last, Failed)
        assert (last.category, last.code) == (Category.UNAVAILABLE, "worker_lost")


async def test_only_so_many_tries() -> None:
    fragile = Fragile(deaths=2, after=0)
    async with node(fragile) as dispatch:
        (*_, last) = await collect(dispatch, ask("a"))
        assert isinstance(last, Failed)
        assert last.code == "worker_lost"


async def test_a_second_start_is_announced_once() -> None:
    class DiesAfterStarted(FakeWorker):
        """Ends as soon as it has begun, before any token."""

        def _emit(self, events: list[tuple[RequestId, Event]]) -> None:
            super()._emit([item for item in events if not isinstance(item[1], (Tokens, Finished))])
            if any(isinstance(event, Started) for _, event in events):
                self.die()

    made: list[FakeWorker] = []

    def make() -> FakeWorker:
        made.append(FakeWorker() if made else DiesAfterStarted())
        return made[-1]

    async with node(make) as dispatch:
        events = await collect(dispatch, ask("a"))
        assert text(events) == b"hello"
        assert sum(isinstance(event, Started) for event in events) == 1


async def test_a_retry_that_only_starts_at_first_goes_on() -> None:
    """Two long prompts share a step: the second try of one of them begins with nothing but a Started."""
    made: list[FakeWorker] = []

    def make() -> FakeWorker:
        steps = iter(range(1))

        async def step() -> None:
            await asyncio.sleep(0)
            if worker is made[0] and next(steps, None) is None:
                worker.die()
                await asyncio.Event().wait()

        worker = FakeWorker(before_step=step, answer=lambda _: b"hi")
        made.append(worker)
        return worker

    async with node(make, context_size=2048) as dispatch:
        answers = await asyncio.gather(*(collect(dispatch, ask(name, text="x" * 700)) for name in "ab"))
        assert [text(events) for events in answers] == [b"hi", b"hi"]
        assert all(isinstance(events[-1], Finished) for events in answers)
        assert len(made) == 2


async def test_a_client_that_leaves_is_logged_and_cancelled() -> None:
    made: list[FakeWorker] = []

    def make() -> FakeWorker:
        made.append(FakeWorker())
        return made[-1]

    async with node(make) as dispatch:
        with capture_logs() as logs:
            async with aclosing(dispatch.answer_batches(ask("a", text="x" * 300))) as batches:
                async for batch in batches:
                    if text(batch):
                        break
        assert made[0].cancelled == [RequestId("a")]
        assert [entry["event"] for entry in logs if entry["event"].startswith("request_")] == ["request_abandoned"]


async def test_a_node_that_is_still_starting_says_so_and_then_opens() -> None:
    async with node(catalog=None) as dispatch:
        assert str(dispatch.phase) == "starting"
        (failed,) = await collect(dispatch, ask("a"))
        assert isinstance(failed, Failed)
        assert failed.retry_after_s == 5.0
        dispatch.open(CATALOG)
        assert str(dispatch.phase) == "ready"
        assert text(await collect(dispatch, ask("b"))) == b"hello"


async def test_closing_lets_running_answers_finish_and_refuses_new_ones() -> None:
    go = asyncio.Event()
    stepping = asyncio.Event()

    async def hold() -> None:
        stepping.set()
        await go.wait()

    async with node(lambda: FakeWorker(before_step=hold)) as dispatch:
        running = asyncio.create_task(collect(dispatch, ask("a")))
        await stepping.wait()
        closing = asyncio.create_task(dispatch.aclose(10.0))
        await asyncio.sleep(0)
        assert str(dispatch.phase) == "closing"
        (refused,) = await collect(dispatch, ask("b"))
        assert isinstance(refused, Failed)
        assert "shutting down" in refused.message
        go.set()
        assert text(await running) == b"hello"
        await closing


async def test_closing_fails_what_takes_too_long() -> None:
    stepping = asyncio.Event()

    async def hold() -> None:
        stepping.set()
        await asyncio.Event().wait()

    async with node(lambda: FakeWorker(before_step=hold)) as dispatch:
        running = asyncio.create_task(collect(dispatch, ask("a")))
        await stepping.wait()
        await dispatch.aclose(0.01)
        (*_, last) = await running
        assert isinstance(last, Failed)
        assert "shutting down" in last.message


# In a swarm


class Swarm(AsyncExitStack):
    """Whole nodes that know each other."""

    def __init__(self) -> None:
        super().__init__()
        self.swarm = FakeSwarm()
        self._timeout = asyncio.timeout(20)

    async def __aenter__(self) -> Swarm:
        await self.enter_async_context(self._timeout)
        return self

    async def join(
        self,
        seed: int,
        *models: str | ModelConfig,
        make: Callable[[], WorkerConnection] = FakeWorker,
        rules: RoutingRules | None = None,
    ) -> FakeNode:
        return await self.enter_async_context(fake_node(self.swarm, seed, models, make, rules=rules))


class Held:
    """Makes workers that wait for ``go`` before each step, and says when one does."""

    def __init__(self, text: bytes = b"hello") -> None:
        self.text = text
        self.go = asyncio.Event()
        self.stepping = asyncio.Event()

    def __call__(self) -> FakeWorker:
        return FakeWorker(before_step=self._step, answer=lambda _: self.text)

    async def _step(self) -> None:
        self.stepping.set()
        await self.go.wait()


def saying(answer: bytes) -> Make:
    """Workers that say this, whatever they are asked."""
    return lambda: FakeWorker(answer=lambda _: answer)


def failing() -> FakeWorker:
    return FakeWorker(load_error=ModelLoadFailed("The file is broken."))


async def routed(node: FakeNode, request: GenerateRequest) -> tuple[list[Event], list[Route]]:
    """An answer, and who was asked for it."""
    routes: list[Route] = []
    batches = node.dispatch.answer_batches(request, routes.append)
    return [event async for batch in batches for event in batch], routes


def check_stream(events: list[Event]) -> None:
    """What every client may rely on."""
    assert sum(isinstance(event, Started) for event in events) <= 1
    assert [event for event in events if isinstance(event, (Finished, Failed))] == events[-1:]


async def test_a_model_that_only_a_peer_has() -> None:
    async with Swarm() as swarm:
        entry, far = await swarm.join(1, "mine"), await swarm.join(2, "theirs", make=saying(b"far"))
        await entry.wait_models("theirs")
        assert entry.dispatch.model_names() == ["mine", "theirs"]
        assert entry.dispatch.find_model("theirs") == "theirs"
        assert entry.dispatch.find_model("nothing") is None
        events, (route,) = await routed(entry, ask("a", "theirs"))
        check_stream(events)
        assert text(events) == b"far"
        assert (route.node, route.is_local, route.candidates, route.attempt) == (short_id(far.peer_id), False, 1, 1)
        assert entry.workers == []


async def test_a_model_at_both_goes_where_it_is_done_first() -> None:
    """Loaded here, and not there; then all slots are busy here, and it is loaded there."""
    held = Held(b"here")
    async with Swarm() as swarm:
        entry, far = await swarm.join(1, "m", make=held), await swarm.join(2, "m", make=saying(b"far"))
        await entry.wait_models("m")
        held.go.set()
        assert text(await collect(entry.dispatch, msgspec.structs.replace(ask("load"), local_only=True))) == b"here"
        await collect(far.dispatch, msgspec.structs.replace(ask("load"), local_only=True))
        await entry.wait_peers(lambda peers: any(each.load.loaded for each in peers.candidates("m")))
        held.go.clear()
        running = [
            asyncio.create_task(collect(entry.dispatch, msgspec.structs.replace(ask(name), local_only=True)))
            for name in ("b", "c")
        ]
        held.stepping.clear()
        await held.stepping.wait()
        events, (route,) = await routed(entry, ask("d"))
        assert (text(events), route.is_local, route.candidates) == (b"far", False, 2)
        held.go.set()
        await asyncio.gather(*running)


async def test_requests_spread_over_equal_nodes() -> None:
    gates = [Held(), Held()]
    async with Swarm() as swarm:
        entry = await swarm.join(1)
        nodes = [await swarm.join(seed, "m", make=gate) for seed, gate in enumerate(gates, 2)]
        await entry.wait_peers(lambda peers: len(peers.candidates("m")) == 2)
        asking = [asyncio.create_task(collect(entry.dispatch, ask(str(number)))) for number in range(16)]
        for gate in gates:
            await gate.stepping.wait()
        assert [each.in_flight for each in entry.peers.candidates("m")] == [8, 8]
        for gate in gates:
            gate.go.set()
        assert [text(events) for events in await asyncio.gather(*asking)] == [b"hello"] * 16
        assert all(len(node.workers) == 1 for node in nodes)


def request_lines(logs: list[EventDict]) -> list[EventDict]:
    """The lines that requests end with at the node where they came in."""
    return [line for line in logs if line["event"] in ("request_finished", "request_failed") and "peer" not in line]


async def test_a_peer_that_dies_before_the_first_token_is_not_noticed() -> None:
    held = Held()
    async with Swarm() as swarm:
        entry, dying = await swarm.join(1), await swarm.join(2, "m", make=held)
        await entry.wait_models("m")
        asking = asyncio.create_task(routed(entry, ask("a")))
        await held.stepping.wait()
        other = await swarm.join(3, "m", make=saying(b"from the other"))
        await entry.wait_peers(lambda peers: len(peers.candidates("m")) == 2)
        with capture_logs() as logs:
            dying.link.die()
            events, routes = await asking
        check_stream(events)
        assert text(events) == b"from the other"
        assert isinstance(events[-1], Finished)
        assert [(route.node, route.attempt) for route in routes] == [
            (short_id(dying.peer_id), 1),
            (short_id(other.peer_id), 2),
        ]
        (moved,) = [line for line in logs if line["event"] == "request_moves_on"]
        assert moved["code"] == "peer_lost"
        line = next(line for line in logs if line["event"] == "request_finished" and line["node"] != "here")
        assert (line["node"], line["candidates"], line["attempt"]) == (short_id(other.peer_id), 1, 2)


async def test_a_peer_that_dies_after_the_first_token_is_told_and_nobody_else_is_asked() -> None:
    gate, second = asyncio.Event(), asyncio.Event()

    def make() -> FakeWorker:
        steps = iter(range(2))

        async def step() -> None:
            await asyncio.sleep(0)
            if next(steps, None) is None:
                second.set()
                await gate.wait()

        return FakeWorker(before_step=step)

    async with Swarm() as swarm:
        entry, dying = await swarm.join(1), await swarm.join(2, "m", make=make)
        await entry.wait_models("m")
        asking = asyncio.create_task(routed(entry, ask("a")))
        await second.wait()
        other = await swarm.join(3, "m")
        await entry.wait_peers(lambda peers: len(peers.candidates("m")) == 2)
        dying.link.die()
        events, routes = await asking
        check_stream(events)
        assert b"hello".startswith(text(events))
        assert text(events)
        failed = events[-1]
        assert isinstance(failed, Failed)
        assert (failed.category, failed.code) == (Category.UNAVAILABLE, "peer_lost")
        assert len(routes) == 1
        assert other.workers == []


async def test_a_worker_that_fails_here_is_replaced_by_a_peer() -> None:
    async with Swarm() as swarm:
        entry, far = await swarm.join(1, "m", make=failing), await swarm.join(2, "m", make=saying(b"far"))
        await entry.wait_models("m")
        for number in range(3):
            events, routes = await routed(entry, ask(str(number)))
            check_stream(events)
            assert text(events) == b"far"
            assert routes[-1].node == short_id(far.peer_id)
        assert routes[0].node == short_id(far.peer_id)  # by now it is known that the model is broken here


async def test_a_backend_that_is_missing_here_may_be_there() -> None:
    def supervise(config: ModelConfig) -> ModelSupervisor:
        raise Unsupported(f"No backend for {config.name}.")

    async with Swarm() as swarm:
        entry = await swarm.join(1)
        await swarm.join(2, "m", make=saying(b"far"))
        await entry.wait_models("m")
        without = Dispatch(supervise, CATALOG)
        without.connect(entry.peers)
        assert text(await collect(without, ask("a"))) == b"far"


async def test_when_everybody_fails_the_last_reason_is_told_once() -> None:
    async with Swarm() as swarm:
        entry = await swarm.join(1, "m", make=failing)
        for seed in (2, 3):
            await swarm.join(seed, "m", make=failing)
        await entry.wait_peers(lambda peers: len(peers.candidates("m")) == 2)
        with capture_logs() as logs:
            events, routes = await routed(entry, ask("a"))
        check_stream(events)
        failed = events[-1]
        assert isinstance(failed, Failed)
        assert failed.message == "The file is broken."
        assert len({route.node for route in routes}) == len(routes) == 3
        own = [line for line in request_lines(logs) if line["attempt"] == 3]
        assert [line["event"] for line in own] == ["request_failed"]


async def test_a_client_that_leaves_is_heard_of_at_the_peer() -> None:
    async with Swarm() as swarm:
        entry, far = await swarm.join(1), await swarm.join(2, "m")
        await entry.wait_models("m")
        async with aclosing(entry.dispatch.answer_batches(ask("a", text="x" * 300))) as batches:
            async for batch in batches:
                if text(batch):
                    break
        await far.workers[0].wait_cancelled()


async def test_private_requests_and_those_of_peers_stay_where_they_are() -> None:
    async with Swarm() as swarm:
        entry, far = await swarm.join(1), await swarm.join(2, "m")
        await entry.wait_models("m")
        (failed,) = await collect(entry.dispatch, msgspec.structs.replace(ask("a"), local_only=True))
        assert isinstance(failed, Failed)
        assert failed.code == "model_not_found"
        assert "swarm" not in failed.message
        await far.wait_peers(lambda peers: peers.session(entry.peer_id) is not None)
        session = far.peers.session(entry.peer_id)
        assert session is not None
        (failed,) = [event async for batch in session.answer_batches(ask("b")) for event in batch]
        assert isinstance(failed, Failed)
        assert failed.code == "model_not_found"
        assert far.workers == []


async def test_equal_ids_of_two_peers_are_not_mixed() -> None:
    """Every session counts its requests from 1, and clients may give theirs any id."""
    async with Swarm() as swarm:
        entries = [await swarm.join(seed) for seed in (1, 2)]
        await swarm.join(3, "m")
        for entry in entries:
            await entry.wait_models("m")
        texts = [f"question {number}" for number in range(8)]
        answers = await asyncio.gather(
            *(collect(entries[number % 2].dispatch, ask("same", text=text)) for number, text in enumerate(texts))
        )
        assert [text(events).decode() for events in answers] == texts


async def test_a_private_model_is_nobody_elses_business() -> None:
    async with Swarm() as swarm:
        secret = ModelConfig("secret", "s.gguf", is_private=True)
        owner = await swarm.join(1, secret, "m", make=saying(b"mine"))
        other = await swarm.join(2, "secret", make=saying(b"another"))
        await owner.wait_models("secret")
        await other.wait_models("m")
        for number in range(4):
            events, routes = await routed(owner, ask(str(number), "secret"))
            assert (text(events), routes[0].is_local, routes[0].candidates) == (b"mine", True, 1)
        assert text(await collect(other.dispatch, ask("o", "secret"))) == b"another"
        assert [model.name for model in owner.dispatch.record().models] == ["m"]


SECRET = ModelConfig("secret", "s.gguf", is_private=True)


async def test_a_member_that_guesses_the_name_of_a_private_model_gets_no_answer() -> None:
    async with Swarm() as swarm:
        owner = await swarm.join(1, ModelConfig("a secret", "a.gguf", is_private=True), SECRET, "m")
        asker = await swarm.join(2)
        await asker.wait_models("m")
        session = asker.peers.session(owner.peer_id)
        assert session is not None
        for name in ("secret", "s.gguf", "", "nothing"):
            async with aclosing(session.answer_batches(ask("a", name))) as batches:
                (failed,) = [event async for batch in batches for event in batch]
            assert isinstance(failed, Failed)
            assert (failed.code, failed.param) == ("model_not_found", "model")
        assert owner.workers == []


async def test_what_a_model_of_others_means_by_nothing() -> None:
    async with Swarm() as swarm:
        defaults = RequestDefaults(Sampling(temperature=0.1), max_tokens=7)
        await swarm.join(1, ModelConfig("far", "f.gguf", defaults=defaults), "plain")
        entry = await swarm.join(2, ModelConfig("near", "n.gguf", slots=3))
        await entry.wait_models("far", "plain")
        await entry.wait_peers(lambda peers: any(status.record is not None for status in peers.statuses()))
        assert entry.dispatch.definition("far").defaults == defaults
        assert entry.dispatch.definition("plain") == ModelConfig("plain", "plain")
        assert entry.dispatch.definition("near").slots == 3
        assert entry.dispatch.definition("nowhere") == ModelConfig("nowhere", "nowhere")
    async with node() as dispatch:
        assert dispatch.definition("nowhere") == ModelConfig("nowhere", "nowhere")


async def test_one_member_may_be_the_only_one_to_answer() -> None:
    async with Swarm() as swarm:
        far = await swarm.join(2, "m", make=saying(b"far"))
        await swarm.join(3, "m", make=saying(b"wrong"))
        for seed, target in ((1, far.peer_id), (4, short_id(far.peer_id))):
            entry = await swarm.join(seed, "m", make=saying(b"here"), rules=RoutingRules(target=target))
            await entry.wait_peers(lambda peers: len(peers.candidates("m")) >= 2)
            for number in range(4):
                events, routes = await routed(entry, ask(str(number)))
                assert (text(events), len(routes), routes[0].candidates) == (b"far", 1, 1)
            private = msgspec.structs.replace(ask("private"), local_only=True)
            assert text(await collect(entry.dispatch, private)) == b"here"
        swarm.swarm.cut(entry.link, far.link)
        await entry.wait_peers(lambda peers: peers.session(far.peer_id) is None)
        (failed,) = await collect(entry.dispatch, ask("gone"))
        assert isinstance(failed, Failed)
        assert (failed.category, failed.code) == (Category.NOT_FOUND, "node_not_found")
        assert failed.message.startswith("Node not found")


async def test_a_node_with_a_target_does_not_answer_itself_before_it_has_joined() -> None:
    async with node() as dispatch:
        targeted = Dispatch(dispatch._local._supervise, CATALOG, RoutingRules(target="somebody"))
        (failed,) = await collect(targeted, ask("a"))
        assert isinstance(failed, Failed)
        assert failed.code == "node_not_found"


async def test_at_random_takes_everybody_in_turn() -> None:
    async with Swarm() as swarm:
        entry = await swarm.join(1, rules=RoutingRules(at_random=True))
        quick, slow = await swarm.join(2, "m"), await swarm.join(3, "m")
        await entry.wait_peers(lambda peers: len(peers.candidates("m")) == 2)
        seen: set[str] = set()
        while len(seen) < 2:  # each draw is even, so this ends
            _, (route,) = await routed(entry, ask("a"))
            seen.add(route.node)
        assert seen == {short_id(quick.peer_id), short_id(slow.peer_id)}


async def test_an_entry_node_has_what_the_swarm_has() -> None:
    async with Swarm() as swarm:
        entry = await swarm.join(1, rules=RoutingRules(serves=False))
        assert entry.dispatch.model_names() == []
        assert entry.dispatch.default_model() == ""
        (failed,) = await collect(entry.dispatch, ask("a"))
        assert isinstance(failed, Failed)
        assert (failed.category, failed.code, failed.retry_after_s) == (Category.UNAVAILABLE, "no_nodes", 2.0)
        await swarm.join(2, "b", "a", make=saying(b"far"))
        await entry.wait_models("a", "b")
        assert entry.dispatch.default_model() == "a"
        assert text(await collect(entry.dispatch, ask("default", model=""))) == b"far"


async def test_our_first_model_is_the_default_and_its_file_a_name_for_it() -> None:
    held = Held(b"here")
    held.go.set()
    async with Swarm() as swarm:
        entry = await swarm.join(1, "z", make=held)
        await swarm.join(2, "a")
        await entry.wait_models("a")
        assert entry.dispatch.default_model() == "z"
        assert entry.dispatch.find_model("z.gguf") == "z"
        for name in ("", "z", "z.gguf"):
            assert text(await collect(entry.dispatch, ask("a", name))) == b"here"


async def test_a_model_that_nobody_has() -> None:
    async with Swarm() as swarm:
        entry = await swarm.join(1, "mine")
        await swarm.join(2, "theirs")
        await entry.wait_models("theirs")
        (failed,) = await collect(entry.dispatch, ask("a", "nothing"))
        assert isinstance(failed, Failed)
        assert (failed.code, failed.param) == ("model_not_found", "model")
        assert "here or in the swarm" in failed.message


async def test_a_definition_that_is_broken_here_is_told_unless_a_peer_has_the_model() -> None:
    broken = Catalog(problems=(Problem("m.yaml", "it has no file.", "m"),))
    async with Swarm() as swarm:
        entry = await swarm.join(1)
        entry.dispatch.open(broken)
        await swarm.join(2, "other")
        await entry.wait_models("other")
        (failed,) = await collect(entry.dispatch, ask("a"))
        assert isinstance(failed, Failed)
        assert failed.code == "invalid_definition"
        await swarm.join(3, "m", make=saying(b"far"))
        await entry.wait_models("m", "other")
        assert text(await collect(entry.dispatch, ask("b"))) == b"far"


async def test_a_peer_that_is_known_but_gone_is_asked_for_nothing() -> None:
    async with Swarm() as swarm:
        entry, far = await swarm.join(1, "mine"), await swarm.join(2, "m")
        await entry.wait_models("m")
        far.link.die()
        (failed,) = await collect(entry.dispatch, ask("a"))
        assert isinstance(failed, Failed)
        assert failed.code in ("peer_lost", "model_not_found")


async def test_a_node_that_is_starting_lets_peers_answer_already() -> None:
    async with Swarm() as swarm:
        entry = await swarm.join(1)
        await swarm.join(2, "m", make=saying(b"far"))
        await entry.wait_models("m")
        starting = Dispatch(entry.dispatch._local._supervise)
        starting.connect(entry.peers)
        assert text(await collect(starting, ask("a"))) == b"far"
        (failed,) = await collect(starting, ask("b", "unknown"))
        assert isinstance(failed, Failed)
        assert failed.retry_after_s == 5.0
        assert starting.replicas() == ()
        assert starting.record().models == ()


async def test_what_a_node_says_of_itself() -> None:
    async with Swarm() as swarm:
        one, other = await swarm.join(1, "m", "n"), await swarm.join(2)
        await other.wait_models("m", "n")
        record = one.dispatch.record()
        assert record.models == (ModelRecord("m", "llama-cpp"), ModelRecord("n", "llama-cpp"))
        assert (record.program, record.serves, record.draining) == ("fake 1", True, False)
        await collect(one.dispatch, ask("a"))
        facts = one.dispatch.record().models[0].facts
        assert facts is not None
        assert facts.slots == 2
        one.dispatch.open(Catalog())
        await other.wait_models()


async def test_the_log_line_of_an_answer_that_stayed_here() -> None:
    async with Swarm() as swarm:
        entry = await swarm.join(1, "m")
        with capture_logs() as logs:
            await collect(entry.dispatch, ask("a"))
        (line,) = request_lines(logs)
        assert (line["node"], line["candidates"], line["attempt"]) == ("here", 1, 1)
        assert line["expected_s"] >= 0


@pytest.mark.parametrize("end", ["finishes", "fails"])
async def test_a_node_that_closes_lets_the_answers_of_peers_end(end: str) -> None:
    held = Held()
    async with Swarm() as swarm:
        entry, closing = await swarm.join(1), await swarm.join(2, "m", make=held)
        await entry.wait_models("m")
        asking = asyncio.create_task(collect(entry.dispatch, ask("a")))
        await held.stepping.wait()
        closed = asyncio.create_task(closing.dispatch.aclose(20.0 if end == "finishes" else 0.01))
        await entry.wait_models()
        if end == "finishes":
            held.go.set()
        events = await asking
        check_stream(events)
        if end == "finishes":
            assert text(events) == b"hello"
        else:
            assert isinstance(events[-1], Failed)
            assert events[-1].category is Category.UNAVAILABLE
        (failed,) = await collect(closing.dispatch, ask("late"))
        assert isinstance(failed, Failed)
        assert "shutting down" in failed.message
        await closed


async def test_a_change_of_models_is_told() -> None:
    seen: list[Catalog] = []
    async with node(catalog=None) as dispatch:
        dispatch.on_catalog = seen.append
        dispatch.open(CATALOG)
        dispatch.open(Catalog())
        assert seen == [CATALOG, Catalog()]
        assert dispatch.model_names() == []


async def test_whether_a_request_could_be_answered_is_known_beforehand() -> None:
    def supervise(config: ModelConfig) -> ModelSupervisor:
        raise AssertionError("nothing is loaded")

    no_media = Resources(features_of=lambda _: frozenset({Feature.GENERATE}))
    alone = Dispatch(supervise, CATALOG, resources=no_media)
    for name in ("m", ""):
        alone.check_answerable(name)
        alone.check_answerable(name, {Feature.GENERATE}, local_only=True)
        with pytest.raises(Unsupported):
            alone.check_answerable(name, {Feature.MEDIA})
    with pytest.raises(InvalidRequest) as caught:
        alone.check_answerable("nothing", {Feature.MEDIA})
    assert caught.value.code == "model_not_found"
    with pytest.raises(Unavailable):
        Dispatch(supervise).check_answerable("m")


async def test_members_are_expected_to_do_everything() -> None:
    async with Swarm() as swarm:
        entry = await swarm.join(1)
        await swarm.join(2, "m")
        await entry.wait_models("m")
        entry.dispatch.check_answerable("m", {Feature.MEDIA})
        with pytest.raises(InvalidRequest):
            entry.dispatch.check_answerable("m", {Feature.MEDIA}, local_only=True)
        with pytest.raises(InvalidRequest):
            entry.dispatch.check_answerable("nothing")
