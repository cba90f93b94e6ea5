from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.gallery.install_progress import InstallProgress
from localai.node.gallery.job_status import (
    MAX_FINISHED,
    Job,
    begun,
    cancelled,
    completed,
    failed,
    parse_jobs,
    progressed,
    pruned,
    render_jobs,
    shown_size,
)

JOB = Job("1", "m")
PROGRESS = InstallProgress("m", "downloading", "m.gguf", 512, 2048)


def test_the_story_of_a_job() -> None:
    job = begun(JOB)
    assert (job.message, job.is_finished, job.percent) == ("processing model: m", False, 0.0)
    job = progressed(job, PROGRESS)
    assert (job.message, job.percent) == ("processing file: m.gguf. Total: 2.0 KiB. Current: 512 B", 25.0)
    assert progressed(job, replace(PROGRESS, phase="done")) == job
    done = completed(job)
    assert (done.message, done.percent, done.is_finished, done.phase) == ("completed", 100.0, True, "")
    assert progressed(done, PROGRESS) == done


def test_other_ends() -> None:
    assert failed(JOB, "no") == replace(JOB, state="failed", message="error: no", error="no")
    assert cancelled(JOB) == replace(JOB, state="cancelled", message="cancelled")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 29, "1.5 GiB"), (1 << 60, "1048576.0 TiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert shown_size(count) == text


def test_only_the_oldest_finished_ones_are_forgotten() -> None:
    jobs = {"q": Job("q", "m")} | {str(i): completed(Job(str(i), "m")) for i in range(MAX_FINISHED + 2)}
    kept = pruned(jobs)
    assert list(kept)[:2] == ["q", "2"]
    assert len(kept) == MAX_FINISHED + 1


def test_a_file_of_jobs() -> None:
    jobs = [completed(JOB), begun(Job("2", "n", deletion=True))]
    assert parse_jobs(render_jobs(jobs)) == {"1": jobs[0], "2": cancelled(jobs[1])}


@given(st.binary())
def test_what_is_no_such_file_counts_as_empty(data: bytes) -> None:
    assert parse_jobs(b"[3" + data) == {}
