from __future__ import annotations

import os
from pathlib import Path

import pytest

from localai.node.testing.node_process import node_environment, running_node


def test_settings_of_this_process_do_not_reach_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALAI_API_KEY", "secret")
    environment = node_environment({"LOCALAI_THREADS": "2"})
    assert "LOCALAI_API_KEY" not in environment
    assert environment["LOCALAI_THREADS"] == "2"
    assert environment["PATH"] == os.environ["PATH"]


@pytest.mark.e2e
def test_a_node_that_cannot_start_is_reported_with_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="not-a-place"),
        running_node(tmp_path, ["--address", "not-a-place.invalid:1"]),
    ):
        pytest.fail("it started")
