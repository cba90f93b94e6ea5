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


def test_an_alias_goes_alone(tmp_path: Path) -> None:
    write(tmp_path, big_gguf="", big_yaml="name: big\nparameters: {model: big.gguf}\n")
    (tmp_path / "gpt-4.yaml").write_text("name: gpt-4\nalias: big\n")
    assert remove_model(tmp_path, "gpt-4") == ("gpt-4.yaml",)
    assert names(tmp_path) == ["big.gguf", "big.yaml"]


def test_the_name_of_a_file_is_no_name_of_a_model_that_has_another(tmp_path: Path) -> None:
    write(tmp_path, w_gguf="", m_yaml="name: m\nparameters: {model: w.gguf}\n")
    with pytest.raises(NotFound):
        remove_model(tmp_path, "w.gguf")
    assert names(tmp_path) == ["m.yaml", "w.gguf"]
    write(tmp_path, m_gguf="")
    assert remove_model(tmp_path, "m.gguf") == ("m.gguf",)  # beside the definition of 'm' it is called so


def test_definitions_and_downloads_of_others_stay(tmp_path: Path) -> None:
    files = "[{filename: b.yaml}, {filename: broken.YML}, {filename: b.bin}, {filename: in/c.yaml}]"
    write(tmp_path, a_yaml=f"name: a\nparameters: {{model: a.gguf}}\ndownload_files: {files}\n")
    write(tmp_path, b_yaml="name: b\nparameters: {model: b.gguf}\ndownload_files: [{filename: b.bin}]\n")
    write(tmp_path, broken_YML="name: [", b_bin="")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "c.yaml").touch()
    assert remove_model(tmp_path, "a") == ("in/c.yaml", "a.yaml")
    assert names(tmp_path) == ["b.bin", "b.yaml", "broken.YML", "in"]


def test_parts_of_a_split_model_of_others_stay() -> None:
    config, other = ModelConfig("m", "s-00001-of-00002.gguf"), ModelConfig("n", "s-00002-of-00002.gguf")
    assert files_of(config, [other]) == files_of(other, [config]) == ()
    assert files_of(other, []) == ("s-00002-of-00002.gguf",)
