from __future__ import annotations

import pytest

from localai.node.workers.connection import WorkerEnd


@pytest.mark.parametrize(("code", "text"), [(-9, "signal 9"), (1, "exit code 1"), (None, "connection lost")])
def test_an_end_is_described_for_people(code: int | None, text: str) -> None:
    assert WorkerEnd(code).description == text
