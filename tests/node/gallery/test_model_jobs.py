"""Jobs against a stub hub."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from localai.mesh.errors import Conflict, InvalidRequest, RateLimited, Unavailable
from localai.node.database.address import file_address
from localai.node.database.database import Database
from localai.node.gallery.gallery_index import ApplyRequest
from localai.node.gallery.job_keeper import JobKeeper
from localai.node.gallery.job_record import JobRecord
from localai.node.gallery.job_status import MAX_FINISHED, MAX_QUEUED, MAX_TRIES, Job, begun, completed, stopping
from localai.node.gallery.model_jobs import JobPlaces, ModelJobs
from localai.node.gallery.recipe import RecipeFile
from localai.node.sources.testing import answer, content, stalled

WISH = ApplyRequest(
    name="m",
    config={"parameters": {"model": "tiny.gguf"}},
    files=(RecipeFile("tiny.gguf", "huggingface://o/r/tiny.gguf"),),
)
FILE = "/o/r/resolve/main/tiny.gguf"


class Desk:
    """Jobs, and how often the node was told to look at its models again."""

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self.file = hub.models.parent / "state.db"
        self.places = JobPlaces(hub.models, {}, (), hub.rules)
        self.reloads = 0
        self._opened: list[tuple[ModelJobs, Database]] = []
        self.jobs = self.open()

    def open(self, **options: Any) -> ModelJobs:
        """As a node that starts."""
        database = Database(file_address(self.file), busy_timeout_s=0.0)
        jobs = ModelJobs(self.places, database, self._reload, **options)
        self._opened.append((jobs, database))
        return jobs

    async def restart(self) -> ModelJobs:
        """End everything in good order, and start."""
        await self.aclose()
        self.jobs = self.open()
        await self.jobs.wait_loaded()
        return self.jobs

    async def keep(self, *records: JobRecord) -> None:
        """What an earlier run left in the database."""
        database = Database(file_address(self.file))
        keeper = JobKeeper(database)
        for record in records:
            keeper.put(record)
        assert await keeper.flush()
        await database.aclose()

    async def aclose(self) -> None:
        """End all in good order."""
        for jobs, database in self._opened:
            await jobs.aclose()
            await database.aclose()
        self._opened.clear()

    def downloads(self) -> list[str]:
        """The ranges that were asked of the file; empty for the whole."""
        return [seen.headers.get("range", "") for seen in self.hub.server.seen if seen.path == FILE]

    def _reload(self) -> None:
        self.reloads += 1


@pytest.fixture
async def desk(hub: Any) -> AsyncIterator[Desk]:
    """A desk whose hub has a model."""
    hub.repo("o/r", "tiny.gguf")
    desk = Desk(hub)
    yield desk
    await desk.aclose()


@pytest.fixture
def stall(hub: Any, desk: Desk) -> asyncio.Event:
    """The first download stops after 1,000 bytes until this is set."""
    release = asyncio.Event()
    hub.server.route(FILE, stalled(hub.model, 1000, release), content(hub.model))
    return release


async def under_way(jobs: ModelJobs) -> None:
    while not any(job.done_bytes for job in jobs.all()):
        await jobs.wait_changed()


def states(jobs: ModelJobs) -> list[str]:
    return [job.state for job in jobs.all()]


async def test_one_after_the_other(hub: Any, desk: Desk) -> None:
    first, second, third = desk.jobs.apply(WISH), desk.jobs.delete("nobody"), desk.jobs.delete("m")
    assert (first.message, first.percent) == ("queued", 0.0)
    await desk.jobs.wait_idle()
    assert states(desk.jobs) == ["done", "failed", "done"]
    found = desk.jobs.find(second.id)
    assert found is not None
    assert 'No model found with name "nobody"' in (found.error or "")
    assert desk.jobs.find("?") is None
    assert desk.reloads == 2
    assert hub.files() == []
    assert third.deletion
    assert [entry.gallery.name for entry in await desk.jobs.available()] == ["localai-mesh"]
    before = desk.jobs.all()
    assert (await desk.restart()).all() == before


async def test_a_node_that_stops_goes_on_at_its_next_start(hub: Any, desk: Desk, stall: asyncio.Event) -> None:
    running, waiting = desk.jobs.apply(WISH), desk.jobs.delete("nobody")
    await under_way(desk.jobs)
    old = desk.jobs
    await desk.aclose()
    stall.set()
    assert [(job.id, job.state, job.tries) for job in old.all()] == [
        (running.id, "queued", 0),
        (waiting.id, "queued", 0),
    ]
    assert "tiny.gguf.partial" in hub.files()
    with pytest.raises(Unavailable):
        old.apply(WISH)
    jobs = await desk.restart()
    await jobs.wait_idle()
    assert [(job.id, job.state) for job in jobs.all()] == [(running.id, "done"), (waiting.id, "failed")]
    assert hub.files() == ["m.yaml", "tiny.gguf"]
    assert desk.downloads()[-1] == "bytes=1000-"


_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from localai.node.database.address import file_address
from localai.node.database.database import Database
from localai.node.gallery.model_jobs import JobPlaces, ModelJobs
from localai.node.gallery.gallery_index import ApplyRequest
from localai.node.gallery.recipe import RecipeFile
from localai.node.sources.planning import SourceRules
from localai.node.sources.uri import Endpoints

async def main(url, models, file):
    places = JobPlaces(Path(models), {}, (), SourceRules(Endpoints(url, url, url, (("ghcr.io", url),))))
    jobs = ModelJobs(places, Database(file_address(Path(file))), lambda: None)
    files = (RecipeFile("tiny.gguf", "huggingface://o/r/tiny.gguf"),)
    jobs.apply(ApplyRequest(name="m", config={"parameters": {"model": "tiny.gguf"}}, files=files))
    jobs.delete("nobody")
    partial = Path(models, "tiny.gguf.partial")
    while not any(job.done_bytes for job in jobs.all()):
        await jobs.wait_changed()
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_node_that_is_killed_goes_on_at_its_next_start(hub: Any, desk: Desk, stall: asyncio.Event) -> None:
    arguments = [sys.executable, "-c", _KILLED, hub.server.url, str(hub.models), str(desk.file)]
    killed = await asyncio.create_subprocess_exec(*arguments, env=dict(os.environ))
    assert await killed.wait() == -signal.SIGKILL
    stall.set()
    jobs = await desk.restart()
    await jobs.wait_idle()
    assert [(job.state, job.tries) for job in jobs.all()] == [("done", 2), ("failed", 1)]
    assert hub.files() == ["m.yaml", "tiny.gguf"]


async def test_a_job_that_takes_the_node_with_it_is_begun_three_times(desk: Desk) -> None:
    job = Job("1", "m")
    for _ in range(MAX_TRIES):
        job = begun(job)
    ended = stopping(begun(Job("2", "m")))
    await desk.keep(JobRecord(job, WISH), JobRecord(ended, WISH))
    jobs = await desk.restart()
    await jobs.wait_idle()
    assert states(jobs) == ["failed", "cancelled"]
    assert "ended 3 times" in (jobs.all()[0].error or "")
    assert desk.downloads() == []


async def test_a_deletion_that_was_done_when_the_node_was_killed(desk: Desk) -> None:
    desk.places.models_path.mkdir()
    await desk.keep(JobRecord(begun(Job("1", "gone", deletion=True))))
    jobs = await desk.restart()
    await jobs.wait_idle()
    assert states(jobs) == ["done"]


async def test_old_ones_are_forgotten(desk: Desk) -> None:
    await desk.keep(*(JobRecord(completed(Job(str(number), "m"))) for number in range(MAX_FINISHED + 2)))
    jobs = await desk.restart()
    assert len(jobs.all()) == MAX_FINISHED
    jobs.delete("nobody")
    await jobs.wait_idle()
    assert jobs.all()[0].id == "3"
    with closing(sqlite3.connect(desk.file)) as database:
        assert database.execute("SELECT count(*), min(sequence) FROM model_jobs").fetchone() == (MAX_FINISHED, 4)


async def test_progress_is_not_written(hub: Any, desk: Desk, stall: asyncio.Event) -> None:
    desk.jobs.apply(WISH)
    await under_way(desk.jobs)
    with closing(sqlite3.connect(desk.file)) as database:
        (text,) = database.execute("SELECT job FROM model_jobs").fetchone()
    assert '"state":"running"' in text
    assert '"done_bytes":0' in text
    stall.set()


async def test_a_queued_job_is_cancelled_at_once(desk: Desk, stall: asyncio.Event) -> None:
    desk.jobs.apply(WISH)
    waiting = desk.jobs.delete("m")
    for _ in range(2):
        found = desk.jobs.cancel(waiting.id)
        assert found is not None
        assert found.state == "cancelled"
    assert desk.jobs.cancel("?") is None
    stall.set()
    await desk.jobs.wait_idle()
    assert states(await desk.restart()) == ["done", "cancelled"]


async def test_a_running_job_stops_and_leaves_what_came(hub: Any, desk: Desk, stall: asyncio.Event) -> None:
    running, other = desk.jobs.apply(WISH), desk.jobs.delete("nobody")
    await under_way(desk.jobs)
    for _ in range(2):
        found = desk.jobs.cancel(running.id)
        assert found is not None
        assert (found.state, found.is_cancellable) == ("running", False)
    await desk.jobs.wait_idle()
    assert states(desk.jobs) == ["cancelled", "failed"]
    assert desk.jobs.cancel(other.id) == desk.jobs.find(other.id)
    assert hub.files() == ["tiny.gguf.partial", "tiny.gguf.partial.json"]
    stall.set()
    jobs = await desk.restart()
    jobs.apply(WISH)
    await jobs.wait_idle()
    assert states(jobs) == ["cancelled", "failed", "done"]
    assert desk.downloads()[-1] == "bytes=1000-"


async def test_a_job_that_is_being_cancelled_when_the_node_stops(desk: Desk, stall: asyncio.Event) -> None:
    running = desk.jobs.apply(WISH)
    await under_way(desk.jobs)
    desk.jobs.cancel(running.id)
    jobs = await desk.restart()
    assert states(jobs) == ["cancelled"]


async def test_a_deletion_that_has_begun_is_not_cancelled_nor_done_twice(desk: Desk) -> None:
    desk.jobs.apply(WISH)
    await desk.jobs.wait_idle()
    deletion = desk.jobs.delete("m")
    while desk.jobs.all()[-1].state == "queued":
        await desk.jobs.wait_changed()
    with pytest.raises(Conflict, match="has begun"):
        desk.jobs.cancel(deletion.id)
    assert states(await desk.restart()) == ["done", "done"]


async def test_two_of_the_same_model_fetch_it_once(hub: Any, desk: Desk) -> None:
    desk.jobs.apply(WISH)
    desk.jobs.apply(WISH)
    await desk.jobs.wait_idle()
    assert [(job.state, job.error) for job in desk.jobs.all()] == [("done", None)] * 2
    assert desk.downloads() == [""]
    assert hub.files() == ["m.yaml", "tiny.gguf"]


async def test_the_second_of_the_same_model_does_what_the_first_could_not(hub: Any, desk: Desk) -> None:
    hub.server.route(FILE, answer(403, ""), content(hub.model))
    desk.jobs.apply(WISH)
    desk.jobs.apply(WISH)
    await desk.jobs.wait_idle()
    assert states(desk.jobs) == ["failed", "done"]


async def test_too_many_or_too_odd_ones_are_refused(desk: Desk) -> None:
    with pytest.raises(InvalidRequest):
        desk.jobs.apply(replace(WISH, overrides={"x": object()}))
    for _ in range(MAX_QUEUED):
        desk.jobs.delete("m")
    with pytest.raises(RateLimited):
        desk.jobs.delete("m")


async def test_names_that_no_model_can_have_are_refused(desk: Desk) -> None:
    for wish in (replace(WISH, name="x" * 257), ApplyRequest(id="x" * 900_000)):
        with pytest.raises(InvalidRequest, match="has more than"):
            desk.jobs.apply(wish)
    with pytest.raises(InvalidRequest, match="has more than"):
        desk.jobs.delete("x" * 257)
    assert desk.jobs.all() == ()


async def test_an_index_is_fetched_once_for_all_jobs(hub: Any, desk: Desk) -> None:
    desk.places = replace(desk.places, galleries=(hub.gallery("g", "[{name: a}]"),))
    jobs = await desk.restart()
    jobs.apply(ApplyRequest(id="g@nobody"))
    jobs.apply(ApplyRequest(id="g@nobody"))
    first, second = await asyncio.gather(jobs.available(), jobs.available())
    await jobs.wait_idle()
    assert [entry.name for entry in first] == [entry.name for entry in second] == ["smollm2-135m-instruct", "a"]
    assert states(jobs) == ["failed", "failed"]
    before = len(hub.server.seen)
    jobs.apply(ApplyRequest(id="g@nobody"))
    await jobs.wait_idle()
    await jobs.available()
    assert len(hub.server.seen) == before


async def test_a_crash_ends_one_job_only(desk: Desk) -> None:
    def crash() -> None:
        raise ZeroDivisionError

    database = Database(file_address(desk.file))
    jobs = ModelJobs(desk.places, database, crash)
    with capture_logs() as logs:
        crashed, other = jobs.apply(WISH), jobs.delete("nobody")
        await jobs.wait_idle()
    found = jobs.find(crashed.id)
    assert found is not None
    assert found.error == "it crashed: ZeroDivisionError"
    assert [entry["event"] for entry in logs if "job_" in entry["event"]] == ["job_crashed", "job_failed"]
    assert jobs.find(other.id) is not None
    await jobs.aclose()
    await database.aclose()


async def test_a_damaged_database_stops_nothing(desk: Desk) -> None:
    await desk.aclose()
    desk.file.write_bytes(b"?" * 2000)
    with capture_logs() as logs:
        jobs = await desk.restart()
        jobs.apply(WISH)
        await jobs.wait_idle()
    assert [entry["event"] for entry in logs] == ["jobs_not_kept", "job_done"]
    await desk.aclose()
    assert desk.file.read_bytes() == b"?" * 2000


async def test_a_database_that_is_locked_at_the_start_is_read_later(desk: Desk) -> None:
    await desk.keep(JobRecord(begun(Job("1", "m")), WISH))
    await desk.aclose()
    with closing(sqlite3.connect(desk.file)) as other:
        other.execute("BEGIN IMMEDIATE")
        jobs = desk.open(retry_s=0.01)
        await jobs.wait_loaded()
        assert jobs.all() == ()
        jobs.delete("nobody")
        await jobs.wait_idle()
        other.rollback()
    while len(jobs.all()) < 2:
        await jobs.wait_changed()
    await jobs.wait_idle()
    assert [(job.name, job.state) for job in jobs.all()] == [("m", "done"), ("nobody", "failed")]
    assert states(await desk.restart()) == ["done", "failed"]


async def test_a_job_of_an_earlier_run_is_not_begun_without_noting_that(desk: Desk) -> None:
    await desk.keep(JobRecord(Job("1", "m"), WISH))
    with closing(sqlite3.connect(desk.file)) as other:
        other.execute("CREATE TRIGGER t BEFORE UPDATE ON model_jobs BEGIN SELECT RAISE(ABORT, 'no'); END")
        other.commit()
    with capture_logs() as logs:
        jobs = await desk.restart()
        await jobs.wait_idle()
    assert states(jobs) == ["failed"]
    assert "jobs_not_kept" in [entry["event"] for entry in logs]
    assert desk.downloads() == []
