"""Jobs against a stub hub."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from localai.mesh.errors import RateLimited, Unavailable
from localai.node.gallery.gallery_index import ApplyRequest
from localai.node.gallery.job_status import MAX_QUEUED
from localai.node.gallery.model_jobs import JobPlaces, ModelJobs
from localai.node.gallery.recipe import RecipeFile
from localai.node.sources.testing import content, stalled

WISH = ApplyRequest(
    name="m",
    config={"parameters": {"model": "tiny.gguf"}},
    files=(RecipeFile("tiny.gguf", "huggingface://o/r/tiny.gguf"),),
)


class Desk:
    """Jobs, and how often the node was told to look at its models again."""

    def __init__(self, hub: Any) -> None:
        self.places = JobPlaces(hub.models, hub.models.parent / "jobs.json", {}, (), hub.rules)
        self.reloads = 0
        self.jobs = self.open()

    def open(self) -> ModelJobs:
        """As a node that starts."""
        return ModelJobs(self.places, self._reload)

    def _reload(self) -> None:
        self.reloads += 1


@pytest.fixture
def desk(hub: Any) -> Desk:
    """A desk whose hub has a model."""
    hub.repo("o/r", "tiny.gguf")
    return Desk(hub)


async def test_one_after_the_other(hub: Any, desk: Desk) -> None:
    first, second, third = desk.jobs.apply(WISH), desk.jobs.delete("nobody"), desk.jobs.delete("m")
    assert (first.message, first.percent) == ("queued", 0.0)
    await desk.jobs.wait_idle()
    states = [job.state for job in desk.jobs.all()]
    assert states == ["done", "failed", "done"]
    found = desk.jobs.find(second.id)
    assert found is not None
    assert 'No model found with name "nobody"' in (found.error or "")
    assert desk.jobs.find("?") is None
    assert desk.reloads == 2
    assert hub.files() == []
    assert third.deletion
    assert [entry.gallery.name for entry in await desk.jobs.available()] == ["localai-mesh"]
    assert desk.open().all() == desk.jobs.all()


async def test_a_node_that_stops_keeps_what_came(hub: Any, desk: Desk) -> None:
    release = asyncio.Event()
    hub.server.route("/o/r/resolve/main/tiny.gguf", stalled(hub.model, 1000, release), content(hub.model))
    running, waiting = desk.jobs.apply(WISH), desk.jobs.delete("m")
    while not desk.jobs.all()[0].done_bytes:
        await desk.jobs.wait_changed()
    await desk.jobs.aclose()
    release.set()
    for job in desk.open().all():
        assert (job.state, job.message) == ("cancelled", "cancelled")
    assert [job.id for job in desk.jobs.all()] == [running.id, waiting.id]
    assert "tiny.gguf.partial" in hub.files()
    with pytest.raises(Unavailable):
        desk.jobs.apply(WISH)
    again = desk.open()
    again.apply(WISH)
    await again.wait_idle()
    assert hub.files() == ["m.yaml", "tiny.gguf"]
    await again.aclose()


async def test_too_many_are_refused(desk: Desk) -> None:
    for _ in range(MAX_QUEUED):
        desk.jobs.delete("m")
    with pytest.raises(RateLimited):
        desk.jobs.delete("m")
    await desk.jobs.aclose()


async def test_a_crash_ends_one_job_only(hub: Any, desk: Desk) -> None:
    def crash() -> None:
        raise ZeroDivisionError

    jobs = ModelJobs(desk.places, crash)
    with capture_logs() as logs:
        crashed, other = jobs.apply(WISH), jobs.delete("nobody")
        await jobs.wait_idle()
    found = jobs.find(crashed.id)
    assert found is not None
    assert found.error == "it crashed: ZeroDivisionError"
    assert [entry["event"] for entry in logs if "job_" in entry["event"]] == ["job_crashed", "job_failed"]
    assert jobs.find(other.id) is not None
    await jobs.aclose()


async def test_a_list_that_cannot_be_saved_stops_nothing(hub: Any, desk: Desk, tmp_path: Path) -> None:
    places = JobPlaces(hub.models, tmp_path / "none" / "jobs.json", {}, (), hub.rules)
    jobs = ModelJobs(places, lambda: None)
    with capture_logs() as logs:
        jobs.apply(WISH)
        await jobs.wait_idle()
    assert {"jobs_not_saved", "job_done"} == {entry["event"] for entry in logs}
    await jobs.aclose()
