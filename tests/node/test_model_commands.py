from __future__ import annotations

import json
from pathlib import Path

import pytest

from localai.mesh.errors import ModelLoadFailed, NotFound
from localai.node.model_commands import delete_models, install_models, list_models, show_gguf, show_model
from localai.node.option_table import GGUF_INFO, MODELS_DELETE, MODELS_INFO, MODELS_INSTALL, MODELS_LIST, options_of
from localai.node.option_values import Places
from localai.node.options import UsageError, Values, resolve
from localai.node.testing.tiny_gguf import write_tiny_gguf

BUILT_IN = "localai-mesh@smollm2-135m-instruct"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a model file and a gallery that has it."""
    write_tiny_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "base.yaml").write_text("parameters: {model: tiny.gguf}\n")
    entry = {"name": "Org/tiny", "url": f"file://{tmp_path}/base.yaml", "license": "MIT", "description": "a\nb"}
    (tmp_path / "index.yaml").write_text(json.dumps([entry]))
    return tmp_path


def values(command: str, place: Path, **given: str) -> Values:
    texts = {key: [text] for key, text in given.items()}
    if command != GGUF_INFO:
        texts["models_path"] = [str(place / "models")] if "models_path" not in given else texts["models_path"]
    if command not in (GGUF_INFO, MODELS_DELETE):
        texts["galleries"] = [json.dumps([{"name": "mine", "url": f"file://{place}/index.yaml"}])]
    return resolve(options_of(command), texts, {}, Places(place, place))


def test_the_life_of_a_model(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list_models(values(MODELS_LIST, place)) == 0
    assert capsys.readouterr().out == f" - {BUILT_IN}\n - mine@Org/tiny\n"

    assert show_model(values(MODELS_INFO, place), "mine@org__tiny") == 0
    out = capsys.readouterr().out
    assert out == "name: Org/tiny\ngallery: mine\ndescription: a b\nlicense: MIT\ninstalled: no\n"

    assert show_model(values(MODELS_INFO, place), "SmolLM2-135M-Instruct") == 0
    assert "gallery: localai-mesh\n" in capsys.readouterr().out

    assert install_models(values(MODELS_INSTALL, place), ["org/tiny", str(place / "tiny.gguf")]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Installed Org/tiny" in captured.err
    assert list_models(values(MODELS_LIST, place)) == 0
    assert capsys.readouterr().out.endswith("\n * mine@Org/tiny (installed)\n")

    assert show_model(values(MODELS_INFO, place), "Org/tiny") == 0
    out = capsys.readouterr().out
    size = (place / "tiny.gguf").stat().st_size
    assert f"file: tiny.gguf ({size} bytes)\n" in out
    assert "definition: Org__tiny.yaml\n" in out

    assert delete_models(values(MODELS_DELETE, place), ["Org/tiny", "nobody", "tiny"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "removed Org__tiny.yaml\nremoved tiny.gguf\nremoved tiny.yaml\n"
    assert "nobody" in captured.err


def test_what_cannot_be_installed_does_not_stop_the_rest(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install_models(values(MODELS_INSTALL, place), ["nobody", "mine@org/tiny"]) == 1
    assert 'No model found with name "nobody"' in capsys.readouterr().err
    assert (place / "models" / "Org__tiny.yaml").exists()


def test_a_model_that_nobody_knows(place: Path) -> None:
    with pytest.raises(NotFound):
        show_model(values(MODELS_INFO, place), "other@tiny")


def test_without_a_models_folder(place: Path) -> None:
    with pytest.raises(UsageError, match="--models-path"):
        list_models(values(MODELS_LIST, place, models_path=""))


def test_a_gguf_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_gguf(values(GGUF_INFO, place, header="yes"), str(place / "tiny.gguf")) == 0
    out = capsys.readouterr().out
    assert "architecture: llama\n" in out
    assert "metadata general.architecture: llama\n" in out
    with pytest.raises(NotFound):
        show_gguf(values(GGUF_INFO, place), str(place / "none"))
    with pytest.raises(ModelLoadFailed):
        show_gguf(values(GGUF_INFO, place), str(place / "base.yaml"))
