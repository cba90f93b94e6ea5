"""Shapes of plans."""

from __future__ import annotations

from localai.mesh.secrets import Secret
from localai.node.sources.plan import PlannedFile, bearer


def test_a_token_is_shown_to_servers_only() -> None:
    ((name, value),) = bearer(Secret("hunter2"))
    assert isinstance(value, Secret)
    assert (name, value.reveal()) == ("Authorization", "Bearer hunter2")
    assert "hunter2" not in repr(PlannedFile("m", "https://x/m", headers=bearer(Secret("hunter2"))))


def test_no_token_no_header() -> None:
    assert bearer(None) == bearer(Secret("")) == ()
