"""Responses in the background over a fake worker. More in ``routes/test_responses.py``, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from localai.api import responses_background
from localai.api.dialects.responses_record import StoredResponse, begun
from localai.api.errors import CRASHED, OPAQUE_LATER
from localai.api.responses_background import BackgroundResponse, BackgroundResponses
from localai.api.responses_store import ResponseStore
from localai.api.routes.mcp_answering import mcp_sessions
from localai.api.schemas.responses_objects import Response
from localai.api.state import DATABASE
from localai.mesh.errors import Conflict, LocalAIError, RateLimited, Unavailable
from localai.mesh.secrets import Secret
from localai.node.answer_rules import NO_RULES
from localai.node.catalog import Catalog
from localai.node.inference import ChatInput, ChatMessage, GenerateRequest, RequestId
from localai.node.model_config import ModelConfig
from localai.node.output_parser import TextDelta
from localai.node.testing.fake_worker import FakeWorker

ID = f"resp_{1:032x}"
CATALOG = Catalog((ModelConfig("m", "m.gguf"),))


def record(*, number: int = 1, owner: str = "me", streamed: bool = True, text: str = "hi") -> StoredResponse:
    response = Response(id=f"resp_{number:032x}", created_at=1, status="queued", model="m", background=True)
    return StoredResponse(response=response, owner=owner, streamed=streamed, request=request(text))


def request(text: str = "hi") -> GenerateRequest:
    return GenerateRequest(RequestId(ID), "m", ChatInput((ChatMessage("user", text),)))


@asynccontextmanager
async def background(server: Any, **options: Any) -> AsyncIterator[BackgroundResponses]:
    store, sessions = ResponseStore(server.app[DATABASE]), partial(mcp_sessions, server.app)
    made = BackgroundResponses(server.dispatch, store, sessions, **options)
    try:
        yield made
    finally:
        await made.aclose()


async def seen(made: BackgroundResponse, after: int | None = None) -> list[str]:
    return [event.event async for events in made.follow(after) for event in events]


@pytest.fixture
def database(tmp_path: Path) -> dict[str, Any]:
    return {"database_url": Secret(f"sqlite:///{tmp_path}/state.db")}


async def test_a_response_is_made_and_kept(serve: Any, database: dict[str, Any]) -> None:
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    async with serve(lambda: FakeWorker(before_step=wait), **database) as server, background(server) as responses:
        made = await responses.begin(record(), request())
        assert responses.find(ID, "me") is made
        assert responses.find(ID, "you") is None
        gate.set()
        types = await seen(made)
        assert types[:3] == ["response.created", "response.queued", "response.in_progress"]
        assert types[-1] == "response.completed"
        assert await seen(made, made.log.last - 1) == ["response.completed"]
        assert responses.find(ID, "me") is None
        assert made.record.request is None
        assert made.record.response.status == "completed"


async def test_events_are_only_remembered_when_somebody_may_ask_for_them(serve: Any, database: dict[str, Any]) -> None:
    async with serve(**database) as server, background(server) as responses:
        made = await responses.begin(record(streamed=False), request())
        assert await seen(made) == []
        assert made.response.status == "completed"


async def test_a_follower_who_is_too_slow_is_told() -> None:
    made = BackgroundResponse(record(), NO_RULES, lambda: 9)
    made.log._max_events = 3
    following = aiter(made.follow(None))
    assert len(await anext(following)) == 2
    for text in "abcd":
        made.feed(TextDelta(0, text))
    with pytest.raises(Conflict, match="starting_after=1 is older"):
        await anext(following)


async def test_a_mistake_of_ours_fails_the_response(
    serve: Any, database: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_arguments: Any) -> AsyncIterator[Any]:
        raise ZeroDivisionError
        yield  # makes it a generator

    monkeypatch.setattr(responses_background, "answer_events", broken)
    async with serve(**database) as server, background(server) as responses:
        with capture_logs() as logs:
            made = await responses.begin(record(), request())
            assert (await seen(made))[-1] == "response.failed"
        assert made.response.error is not None
        assert made.response.error.message == CRASHED
        assert "background_response_crashed" in [log["event"] for log in logs]


async def test_opaque_errors(serve: Any, database: dict[str, Any]) -> None:
    def worker() -> FakeWorker:
        return FakeWorker(load_error=Unavailable("The secret."))

    async with serve(worker, **database) as server, background(server, opaque=True) as responses:
        made = await responses.begin(record(), request())
        await seen(made)
        assert made.response.error is not None
        assert made.response.error.message == OPAQUE_LATER


async def test_a_database_that_is_broken_stops_nothing(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"no database at all, and long enough to look at" * 10)
    url = Secret(f"sqlite:///{tmp_path}/state.db")
    with capture_logs() as logs:
        async with serve(database_url=url) as server, background(server) as responses:
            made = await responses.begin(record(), request())
            assert (await seen(made))[-1] == "response.completed"
    assert "responses_not_taken_up" in [log["event"] for log in logs]


@pytest.mark.parametrize(
    ("owners", "last", "is_refused"),
    [(("me", "you"), "me", False), (("me", "me"), "me", True), (("me", "me"), "you", False), (("", ""), "", False)],
)
async def test_one_key_does_not_take_all_places(
    serve: Any,
    database: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    owners: tuple[str, ...],
    last: str,
    is_refused: bool,
) -> None:
    monkeypatch.setattr(responses_background, "MAX_PER_OWNER", 2)

    async def wait() -> None:
        await asyncio.Event().wait()

    async with serve(lambda: FakeWorker(before_step=wait), **database) as server, background(server) as responses:
        for number, owner in enumerate(owners):
            await responses.begin(record(number=number, owner=owner), request())
        with pytest.raises(RateLimited, match="of this key") if is_refused else nullcontext():
            await responses.begin(record(number=9, owner=last), request())


async def left_over(server: Any, *, streamed: bool = True) -> None:
    """A response that another node had begun, in the database."""
    store = ResponseStore(server.app[DATABASE])
    store.put(begun(msgspec.structs.replace(record(streamed=streamed), request=request())))
    assert await store.flush()


async def test_what_is_left_over_is_taken_up_once_the_database_can_be_read(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses_background, "_RETRY_S", 0.001)
    path = tmp_path / "state.db"
    url = Secret(f"sqlite:///{path}")
    async with serve(database_url=url) as server:
        await left_over(server)
    whole = path.read_bytes()
    path.write_bytes(b"no database at all, and long enough to look at" * 10)
    tried = asyncio.Event()

    async with serve(catalog=None, database_url=url) as server, background(server) as responses:
        unfinished = responses._store.unfinished

        async def looked() -> list[StoredResponse]:
            try:
                return await unfinished()
            except LocalAIError:
                path.write_bytes(whole)  # it is there again
                tried.set()
                raise

        responses._store.unfinished = looked  # type: ignore[method-assign]
        server.dispatch.open(CATALOG)
        await tried.wait()
        await responses.taken_up.wait()
        made = responses.find(ID, "me")
        assert made is not None
        assert (await seen(made))[-1] == "response.completed"


async def test_what_waits_to_be_taken_up_can_be_cancelled(serve: Any, database: dict[str, Any]) -> None:
    async with serve(**database) as server:
        await left_over(server)
    async with serve(catalog=None, **database) as server, background(server) as responses:
        assert await responses.cancel(ID, "you") is None
        cancelled = await responses.cancel(ID, "me")
        assert cancelled is not None
        assert (cancelled.status, cancelled.output) == ("cancelled", [])
        assert await responses.cancel(ID, "me") == cancelled
        log = await responses._store.events(ID)
        assert log is not None
        assert [event.event for event in log.after(None)][-1] == "response.cancelled"
        server.dispatch.open(CATALOG)
        await responses.taken_up.wait()
        assert not responses._settled
        assert responses.find(ID, "me") is None
        assert await responses.cancel(ID, "me") == cancelled
        assert not server.workers


async def test_what_is_cancelled_while_it_is_looked_for_is_not_taken_up(serve: Any, database: dict[str, Any]) -> None:
    async with serve(catalog=None, **database) as server, background(server) as responses:
        record_left = begun(msgspec.structs.replace(record(), request=request()))

        async def late() -> list[StoredResponse]:
            return [record_left]  # as the database had it before

        responses._store.unfinished = late  # type: ignore[method-assign]
        responses._store.put(record_left)
        await responses.cancel(ID, "me")
        server.dispatch.open(CATALOG)
        await responses.taken_up.wait()
        assert responses.find(ID, "me") is None


async def test_what_ends_by_itself_needs_no_cancelling(serve: Any, database: dict[str, Any]) -> None:
    async with serve(**database) as server, background(server) as responses:
        made = await responses.begin(record(), request())
        await seen(made)
        found = await responses.cancel(ID, "me")
        assert found is not None
        assert found.status == "completed"
