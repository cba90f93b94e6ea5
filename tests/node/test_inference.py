from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import Category, LocalAIError
from localai.node.inference import (
    Failed,
    Finished,
    Progress,
    Started,
    Usage,
    error_from_failed,
    failed_from_error,
    is_terminal,
)


def test_only_finished_and_failed_end_a_stream() -> None:
    assert is_terminal(Finished(("stop",), Usage(1, 1)))
    assert is_terminal(Failed(Category.TIMEOUT, "timeout", "Slow."))
    assert not is_terminal(Progress("queued"))
    assert not is_terminal(Started("", 1))


@given(st.sampled_from(list(Category)), st.text(min_size=1), st.text(), st.none() | st.text())
def test_an_error_survives_the_wire(category: Category, code: str, message: str, param: str | None) -> None:
    failed = Failed(category, code, message, param, 1.5)
    error = error_from_failed(failed)
    assert failed_from_error(error) == failed


def test_private_details_stay_here() -> None:
    error = LocalAIError("Public.", detail="secret path")
    assert "secret" not in repr(failed_from_error(error))
