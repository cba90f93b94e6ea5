from __future__ import annotations

from pathlib import Path

import pytest

from localai.mesh.errors import SetupError
from localai.node.option_table import USECASES, options_of
from localai.node.option_values import Places
from localai.node.options import UsageError, Values, resolve
from localai.node.testing.tiny_gguf import write_tiny_gguf
from localai.node.usecase_command import print_usecases


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with a bare model and a file of definitions, one of them broken."""
    folder = tmp_path / "models"
    folder.mkdir()
    write_tiny_gguf(folder / "tiny.gguf")
    (folder / "more.yaml").write_text(
        "[{name: hear, backend: whisper, parameters: {model: ggml-base.bin}}, {name: other, alias: hear},"
        " {name: bad, parameters: {model: ../x}}]"
    )
    return folder


def values(models_path: str) -> Values:
    place = Path("/")
    return resolve(options_of(USECASES), {"models_path": [models_path]}, {}, Places(place, place))


def test_everything_that_is_here(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert print_usecases(values(str(models)), ()) == 1
    captured = capsys.readouterr()
    assert captured.out == (
        "hear (more.yaml)\n"
        "  transcript          the backend whisper is for it\n"
        "tiny (tiny.gguf)\n"
        "  chat                models of llama-cpp are taken to be for text\n"
        "  completion          models of llama-cpp are taken to be for text\n"
        "  edit                models of llama-cpp are taken to be for text\n"
        "  Its file has a chat template.\n"
    )
    assert captured.err.startswith("error: more.yaml, definition 3 has an invalid file path")


def test_paths_and_names(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (models / "odd.yaml").write_text("{name: odd, descriptoin: x, embeddings: true}")
    assert print_usecases(values(str(models)), [str(models / "odd.yaml"), "tiny.gguf"]) == 0
    captured = capsys.readouterr()
    first = "odd (odd.yaml)\n  embeddings          its definition says 'embeddings: true'\n"
    assert captured.out.startswith(f"{first}tiny (tiny.gguf)\n")
    assert captured.err == "warning: odd.yaml has the unknown key 'descriptoin': did you mean 'description'?\n"

    assert print_usecases(values(str(models)), [str(models / "more.yaml")]) == 1
    assert "other (more.yaml)\n  an alias: what 'hear' is for\n" in capsys.readouterr().out


def test_what_is_not_there(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = values(str(models / "none"))
    assert print_usecases(elsewhere, ["nobody", str(models / "none.yaml"), str(models / "more.yaml")]) == 1
    captured = capsys.readouterr()
    assert 'error: No model found with name "nobody"' in captured.err
    assert "none.yaml" in captured.err
    assert "hear (more.yaml)" in captured.out
    with pytest.raises(SetupError):
        print_usecases(elsewhere, ())
    with pytest.raises(UsageError, match="--models-path"):
        print_usecases(values(""), ())


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert print_usecases(values(str(tmp_path)), ()) == 0
    assert capsys.readouterr().out == f"There are no models in {tmp_path}.\n"
