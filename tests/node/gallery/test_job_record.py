from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localai.mesh.errors import InvalidRequest
from localai.node.gallery.gallery_index import ApplyRequest
from localai.node.gallery.job_record import JobRecord, parse_record, render_job, render_request
from localai.node.gallery.job_status import Job, begun, completed
from localai.node.gallery.recipe import RecipeFile

JOB = Job("1", "m")
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab"), inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=30)
@given(st.dictionaries(st.text("ab"), VALUES, max_size=2))
def test_a_request_comes_back(values: dict[str, Any]) -> None:
    files = (RecipeFile("f", "https://h/f", "a" * 64), RecipeFile("g", "hf://o/r/g"))
    for request in (ApplyRequest("g@m", "u", "n", values, files, values), ApplyRequest()):
        assert parse_record(render_job(JOB), render_request(request)) == JobRecord(JOB, request)


def test_jobs_come_back() -> None:
    deletion = begun(Job("2", "n", deletion=True))
    for job in (completed(JOB), deletion):
        assert parse_record(render_job(job), None) == JobRecord(job)


def test_what_was_written_by_others() -> None:
    assert parse_record('{"id": "1", "name": "m", "state": "done", "later": 3}', None) is not None
    assert parse_record('{"id": "1", "name": "m", "state": "asleep"}', None) is None
    assert parse_record(render_job(JOB), None) is None, "an installation of nothing"
    assert parse_record(render_job(JOB), "{") is None
    assert parse_record("[" * 100_000, None) is None


def test_what_cannot_be_written_down() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    for value in (deep, {"a": object()}, {"a": "\ud800"}):
        with pytest.raises(InvalidRequest, match="cannot be written down"):
            render_request(ApplyRequest(overrides=value))
    while deep:  # its own end would be as deep
        deep = deep["a"]
