from __future__ import annotations

from dataclasses import replace

import pytest

from localai.node.gallery.install_progress import InstallProgress
from localai.node.gallery.job_status import (
    MAX_FINISHED,
    MAX_TRIES,
    Job,
    begun,
    cancelled,
    completed,
    failed,
    progressed,
    pruned,
    put_back,
    shown_size,
    stopping,
    taken_up,
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


def test_what_may_be_cancelled() -> None:
    assert JOB.is_cancellable
    assert begun(JOB).is_cancellable
    deletion = replace(JOB, deletion=True)
    assert deletion.is_cancellable
    assert not begun(deletion).is_cancellable
    ending = stopping(begun(JOB))
    assert (ending.state, ending.message, ending.is_cancellable) == ("running", "cancelling", False)
    assert progressed(ending, PROGRESS) == ending
    for end in (cancelled(ending), completed(ending), failed(ending, "no")):
        assert (end.is_finished, end.stopping, end.is_cancellable) == (True, False, False)


def test_the_end_of_the_node() -> None:
    running = begun(JOB)
    assert put_back(running) == JOB, "a try that the node ended in good order does not count"
    assert put_back(JOB) == JOB
    assert put_back(stopping(running)).state == "cancelled"


def test_the_next_start() -> None:
    assert taken_up(JOB) == JOB
    assert taken_up(begun(JOB)) == replace(JOB, tries=1), "one that the node did not end in good order does"
    assert taken_up(stopping(begun(JOB))).state == "cancelled"
    assert taken_up(completed(JOB)) == completed(JOB)
    job = JOB
    for _ in range(MAX_TRIES):
        job = begun(taken_up(job))
    found = taken_up(job)
    assert (found.state, found.error) == (
        "failed", "The node ended 3 times while it worked on this. Ask for it again to try anew.",
    )  # fmt: skip
