from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from localai.mesh.errors import Conflict, NotFound, SetupError
from localai.node.gallery.removal import files_of, remove_model
from localai.node.model_config import ModelConfig


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / name.replace("_", ".")).write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_others_have_too_stays(tmp_path: Path) -> None:
    write(tmp_path, a_gguf="", p_gguf="", other_gguf="")
    write(tmp_path, a_yaml="name: a\nparameters: {model: a.gguf}\nmmproj: p.gguf\n")
    write(tmp_path, b_yaml="name: b\nparameters: {model: other.gguf}\nmmproj: p.gguf\n")
    assert remove_model(tmp_path, "a") == ("a.gguf", "a.yaml")
    assert names(tmp_path) == ["b.yaml", "other.gguf", "p.gguf"]
    assert remove_model(tmp_path, "b") == ("other.gguf", "p.gguf", "b.yaml")
    with pytest.raises(NotFound, match="No model found"):
        remove_model(tmp_path, "b")


def test_a_bare_file_and_a_disabled_model(tmp_path: Path) -> None:
    write(tmp_path, bare_gguf="", off_yaml="name: off\ndisabled: true\nparameters: {model: off.gguf}\n")
    assert remove_model(tmp_path, "bare") == ("bare.gguf",)
    assert remove_model(tmp_path, "off") == ("off.yaml",)
    assert names(tmp_path) == []


def test_a_definition_beside_others_is_not_taken_apart(tmp_path: Path) -> None:
    write(tmp_path, all_yaml="- {name: a, parameters: {model: a.gguf}}\n- {name: b, parameters: {model: b.gguf}}\n")
    with pytest.raises(Conflict, match=r"all\.yaml"):
        remove_model(tmp_path, "a")


def test_all_parts_of_a_split_model_go() -> None:
    config = ModelConfig("m", "in/m-00001-of-00003.gguf")
    assert files_of(config, []) == tuple(f"in/m-0000{part}-of-00003.gguf" for part in (1, 2, 3))


def test_what_a_link_leads_to_stays(tmp_path: Path) -> None:
    models, outside = tmp_path / "models", tmp_path / "outside"
    models.mkdir()
    outside.mkdir()
    (outside / "m.gguf").touch()
    (models / "link").symlink_to(outside)
    write(models, m_yaml="name: m\nparameters: {model: link/m.gguf}\n")
    with capture_logs() as logs:
        assert remove_model(models, "m") == ("m.yaml",)
    assert names(outside) == ["m.gguf"]
    assert logs[0]["event"] == "file_kept"


def test_what_cannot_be_removed_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path, m_yaml="name: m\nparameters: {model: folder}\n")
    with pytest.raises(SetupError, match="cannot be removed"):
        remove_model(tmp_path, "m")
