"""The cache of real models."""

from __future__ import annotations

from pathlib import Path

import pytest

from localai.mesh.errors import InvalidRequest
from localai.node.gallery.index import DEFAULT_MODEL
from localai.node.testing.models import cached_model, model_cache


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert model_cache() == Path("/cache/localai-mesh/models")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/me")
    assert model_cache() == Path("/home/me/.cache/localai-mesh/models")


def test_only_models_of_the_gallery() -> None:
    with pytest.raises(InvalidRequest, match="has no model"):
        cached_model("none")


@pytest.mark.e2e
def test_the_default_model_is_fetched_once(smollm2: Path) -> None:
    assert smollm2.stat().st_size == DEFAULT_MODEL.files[0].size_bytes
    assert cached_model(DEFAULT_MODEL.name) == smollm2
