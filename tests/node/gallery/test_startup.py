from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from localai.mesh.errors import InvalidRequest, NotFound
from localai.node.gallery.startup import install_missing, usable_galleries
from localai.node.models_folder import read_catalog
from localai.node.option_values import Address
from localai.node.settings import InstallSettings, Settings


def settings(hub: Any, *models: str, **install: Any) -> Settings:
    hub.models.mkdir(exist_ok=True)
    data = hub.models.parent / "data"
    return Settings(Address("127.0.0.1", 0), hub.models, data, models=models, install=InstallSettings(**install))


async def start(hub: Any, wanted: Settings) -> list[str]:
    """Install, and get what was logged as not installed."""
    with capture_logs() as logs:
        await install_missing(wanted, hub.seen.append, {}, hub.rules)
    return [entry["model"] for entry in logs if entry["event"] == "model_not_installed"]


async def test_one_that_fails_does_not_keep_the_others_away(hub: Any) -> None:
    hub.repo("o/r", "tiny.gguf")
    assert await start(hub, settings(hub, "nobody", "hf://o/r", "weird://x")) == ["nobody", "weird://x"]
    assert [config.name for config in read_catalog(hub.models).models] == ["r"]
    asked = len(hub.server.seen)
    assert await start(hub, settings(hub, "hf://o/r", "r")) == []
    assert len(hub.server.seen) == asked, "what is there is not asked for"


async def test_without_any_model_the_first_problem_ends_the_start(hub: Any) -> None:
    with pytest.raises(NotFound, match="nobody"):
        await start(hub, settings(hub, "nobody", "weird://x"))


async def test_preloads(hub: Any, tmp_path: Path) -> None:
    hub.repo("o/r", "tiny.gguf")
    source = hub.gallery("g", "[{name: a, overrides: {parameters: {model: tiny.gguf}}}]")
    (tmp_path / "p.yaml").write_text("- {id: g@a, name: second}\n- {id: nobody}\n")
    wanted = settings(
        hub,
        galleries=json.dumps([{"name": source.name, "url": source.url}]),
        preload='[{"id": "a", "files": [{"filename": "tiny.gguf", "uri": "huggingface://o/r/tiny.gguf"}]}]',
        preload_file=tmp_path / "p.yaml",
    )
    assert await start(hub, wanted) == ["nobody"]
    assert hub.files() == ["a.yaml", "second.yaml", "tiny.gguf"]


async def test_preloads_that_cannot_be_read(hub: Any) -> None:
    with pytest.raises(InvalidRequest, match="not JSON"):
        await start(hub, settings(hub, preload="{"))
    hub.models.joinpath("m.gguf").write_bytes(hub.model)
    assert await start(hub, settings(hub, preload="{")) == ["preload"]


async def test_missing_files_of_definitions_are_fetched(hub: Any) -> None:
    hub.repo("o/r", "tiny.gguf")
    wanted = settings(hub)
    files = [
        {"filename": "t/tiny.gguf", "sha256": hub.sha256, "uri": "huggingface://o/r/tiny.gguf"},
        {"filename": "u/weights.gguf", "uri": "ghcr.io/o/m"},
        {"filename": "mine.gguf"},
    ]
    definition = {"name": "m", "parameters": {"model": "t/tiny.gguf"}, "download_files": files}
    hub.models.joinpath("m.yaml").write_text(json.dumps([definition]))
    hub.models.joinpath("broken.yaml").write_text("[")
    hub.image("o/m", "latest", {"weights.gguf": hub.model})
    assert await start(hub, wanted) == []
    assert {"t/tiny.gguf", "u/weights.gguf"} <= set(hub.files())
    (hub.models / "by-address.yaml").write_text("name: b\nparameters: {model: 'huggingface://o/r/tiny.gguf'}")
    assert await start(hub, wanted) == []
    assert "tiny.gguf" in hub.files()
    hub.models.joinpath("gone.yaml").write_text(
        json.dumps({**definition, "name": "gone", "download_files": [{"filename": "x", "uri": "hf://o/none/x"}]})
    )
    assert await start(hub, wanted) == ["gone"]


def test_galleries_that_cannot_be_read_are_none() -> None:
    with capture_logs() as logs:
        assert usable_galleries(InstallSettings(galleries="{")) == ()
    assert logs[0]["event"] == "galleries_not_usable"
