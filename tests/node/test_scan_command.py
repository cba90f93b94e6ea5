"""Scans of a folder, and of repositories on a stub hub."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from localai.node.option_table import HF_SCAN, options_of
from localai.node.option_values import Places
from localai.node.options import UsageError, resolve
from localai.node.scan_command import scan_models
from localai.node.sources.planning import SourceRules
from localai.node.sources.testing import StubServer, answer, stub_server
from localai.node.sources.transfer import FetchLimits
from localai.node.sources.uri import Endpoints
from localai.node.testing.tiny_gguf import write_tiny_gguf

CLEAN = '{"hasUnsafeFile": false, "scansDone": true}'
UNSAFE = '{"hasUnsafeFile": true, "dangerousPickles": ["x.bin"], "scansDone": true}'
PICKLE = b"\x80\x04K\x01."


@contextmanager
def hub() -> Iterator[StubServer]:
    """A hub in a thread of its own: the command has its own event loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = stub_server()
    try:
        yield asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture
def server() -> Iterator[StubServer]:
    """The hub: it has scanned o/r."""
    with hub() as server:
        server.route("/api/models/o/r/scan", answer(200, CLEAN))
        yield server


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with one good model."""
    folder = tmp_path / "models"
    folder.mkdir()
    write_tiny_gguf(folder / "tiny.gguf")
    return folder


def scan(models_path: object, *texts: str, server: StubServer | None = None, galleries: object = ()) -> int:
    given = {"models_path": [str(models_path)], "galleries": [json.dumps(list(galleries))]}  # type: ignore[call-overload]  # any list of JSON
    values = resolve(options_of(HF_SCAN), given, {}, Places(Path("/"), Path("/")))
    limits = FetchLimits(idle_s=10.0, total_s=20.0, first_wait_s=0.0, space_margin_bytes=0)
    endpoints = Endpoints(hugging_face=server.url) if server else Endpoints()
    rules = SourceRules(endpoints, scan=server is not None, limits=limits)
    return scan_models(values, texts, {}, 80, rules)


def tree(*paths: str) -> str:
    return json.dumps([{"type": "file", "path": path, "size": 9} for path in paths])


def test_a_folder_without_a_finding(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (models / "tiny.yaml").write_text("{name: mine, parameters: {model: tiny.gguf}}")
    (models / "notes.txt").write_text("hello")
    assert scan(models) == 0
    out = capsys.readouterr().out
    assert "ok       mine   tiny.gguf\n" in out
    assert "notes.txt" not in out


def test_files_are_looked_at_by_their_content(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (models / "stray.txt").write_bytes(PICKLE)
    (models / "off.yaml").write_text("{name: off, disabled: true, mmproj: gone.gguf, parameters: {model: sub}}")
    (models / "sub").mkdir()
    assert scan(models) == 1
    out = capsys.readouterr().out
    assert "refused  -      stray.txt\n         The file 'stray.txt' is a Python pickle" in out
    assert "unknown  off    sub\n         It cannot be read: Is a directory.\n" in out
    assert "unknown  off    gone.gguf\n         It is not here.\n" in out
    assert "ok       tiny   tiny.gguf\n" in out


def test_the_hub_is_asked_once_about_each_repository_of_a_model(
    models: Path, server: StubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"{server.url}/o/r/resolve/main/tiny.gguf"
    (models / "tiny.yaml").write_text(
        f"[{{name: mine, parameters: {{model: tiny.gguf}}, download_files: [{{filename: tiny.gguf, uri: '{uri}'}},"
        " {filename: x, uri: 'github:a/b/c@d'}, {filename: y, uri: '?'}]},"
        " {name: twin, parameters: {model: tiny.gguf}, download_files: [{filename: tiny.gguf, uri: 'hf://o/r/t.gguf'}]}]"
    )
    assert scan(models, "mine", "twin", server=server) == 2, "two files are not here"
    assert "ok       mine   the hub's own scan of o/r\n" in capsys.readouterr().out
    assert [seen.path for seen in server.seen] == ["/api/models/o/r/scan"]


def test_a_repository_is_looked_at_without_a_download(
    tmp_path: Path, server: StubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.route("/api/models/o/r/tree/main", answer(200, tree("README.md", "m.gguf")))
    assert scan(tmp_path / "none", "hf://o/r", server=server) == 0
    assert "names of 2 files" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()

    server.route("/api/models/o/r/tree/main", answer(200, tree("pytorch_model.bin")))
    assert scan(tmp_path, "o/r", server=server) == 1
    assert "'pytorch_model.bin' has the name of a Python pickle" in capsys.readouterr().out

    server.route("/api/models/o/r/tree/main", answer(200, tree("m.gguf")))
    server.route("/api/models/o/r/scan", answer(200, UNSAFE))
    assert scan(tmp_path, "hf://o/r/m.gguf", server=server) == 1
    assert "The hub found code that would run on loading in x.bin." in capsys.readouterr().out


def test_what_the_hub_cannot_say_is_not_harmless(
    tmp_path: Path, server: StubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.route("/api/models/o/r/tree/main", answer(200, tree("m.gguf")))
    for hub_answer in (answer(404), answer(200, '{"scansDone": false}')):
        server.route("/api/models/o/r/scan", hub_answer)
        assert scan(tmp_path, "hf://o/r", server=server) == 2
    server.route("/api/models/o/r/tree/main", answer(404))
    assert scan(tmp_path, "hf://o/r", "hf://o/r/other.gguf", server=server) == 2
    assert "unknown  hf://o/r             not looked at\n" in capsys.readouterr().out


def test_names_of_galleries(tmp_path: Path, server: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    files = [{"filename": "w.pt", "uri": "hf://o/r/w.pt"}]
    (tmp_path / "base.yaml").write_text("parameters: {model: w.pt}\n")
    entry = {"name": "org/thing", "url": f"file://{tmp_path}/base.yaml", "files": files}
    (tmp_path / "index.yaml").write_text(json.dumps([entry]))
    mine = [{"name": "mine", "url": f"file://{tmp_path}/index.yaml"}]
    for text in ("mine@org/thing", "org/thing"):
        assert scan(tmp_path / "models", text, server=server, galleries=mine) == 1
        out = capsys.readouterr().out
        assert "refused  org/thing  names of 1 file\n" in out
        assert "ok       org/thing  the hub's own scan of o/r\n" in out
    assert scan(tmp_path / "models", "smollm2-135m-instruct", galleries=mine) == 0
    assert scan(tmp_path / "models", "mine@nobody", "nobody", "ollama://a:b", "?", galleries=mine) == 2
    out = capsys.readouterr().out
    assert out.count("No model found with name") == 2
    assert "Only Hugging Face can be asked" in out


def test_a_file_of_this_machine(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (models / "x.gguf").write_bytes(PICKLE)
    assert scan(models.parent, str(models / "x.gguf")) == 1
    assert "is a Python pickle" in capsys.readouterr().out


def test_without_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scan(tmp_path / "none") == 2
    assert "cannot be read" in capsys.readouterr().out
    assert scan(tmp_path) == 0
    assert capsys.readouterr().out == "There was nothing to look at.\n"
    with pytest.raises(UsageError, match="--models-path"):
        scan("")


def test_the_hub_of_the_environment_is_asked(models: Path, server: StubServer) -> None:
    server.route("/api/models/o/r/tree/main", answer(200, tree("m.gguf")))
    given = {"models_path": [str(models)]}
    values = resolve(options_of(HF_SCAN), given, {}, Places(Path("/"), Path("/")))
    assert scan_models(values, ["hf://o/r"], {"HF_ENDPOINT": server.url}, 80) == 0
