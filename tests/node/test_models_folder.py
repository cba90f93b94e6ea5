"""The models folder on a real disk."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from localai.mesh.errors import ModelLoadFailed, SetupError
from localai.node import models_folder
from localai.node.catalog import FolderListing
from localai.node.model_config import ModelConfig
from localai.node.models_folder import check_model_file, create_models_folder, list_models_folder, read_catalog


def test_the_folder_is_made_private_to_user_and_group(tmp_path: Path) -> None:
    path = create_models_folder(tmp_path / "a" / "b")
    assert path.is_absolute()
    assert stat.S_IMODE(path.stat().st_mode) == 0o750 & ~_umask()
    assert create_models_folder(path) == path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("place", ["file", "file/below", "file/far/below"])
def test_a_file_in_the_way(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"is not a folder\. Correct it, or give another one with --models-path\.$"):
        create_models_folder(tmp_path / place)


def test_a_folder_that_cannot_be_made() -> None:
    with pytest.raises(SetupError, match="cannot be created: "):
        create_models_folder(Path("/proc/none/models"))


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from localai.node.models_folder import create_models_folder\n"
        "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "create_models_folder(Path(sys.argv[1]))\n"
    )
    tmp_path.chmod(0o555)
    place = "/" if os.getuid() == 0 else str(tmp_path)  # a stranger cannot even reach our temporary folder
    done = subprocess.run([sys.executable, "-c", code, place], capture_output=True, text=True, check=False)
    assert "SetupError" in done.stderr
    assert "cannot be written to. Correct it, or give another one with --models-path." in done.stderr


def test_the_listing(tmp_path: Path) -> None:
    (tmp_path / "b.gguf").write_bytes(b"12345")
    (tmp_path / "a.yaml").write_text("name: a\n", encoding="utf-8")
    (tmp_path / "c.YML").write_bytes(b"\xef\xbb\xbfname: c\n")
    (tmp_path / "old.yaml.bak").write_text("name: old\n", encoding="utf-8")
    (tmp_path / ".hidden.yaml").write_text("name: hidden\n", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "pipe").touch()
    (tmp_path / "dangling.gguf").symlink_to("nowhere")
    (tmp_path / "linked.gguf").symlink_to("b.gguf")
    os.mkfifo(tmp_path / "fifo.gguf")
    assert list_models_folder(tmp_path) == FolderListing(
        {"b.gguf": 5, "a.yaml": 8, "c.YML": 11, "old.yaml.bak": 10, "pipe": 0, "linked.gguf": 5},
        {"a.yaml": "name: a\n", "c.YML": "name: c\n"},
    )
    assert [config.name for config in read_catalog(tmp_path).models] == ["a", "b", "c", "linked"]


def test_template_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "chatml.tmpl").write_text("<{{.Input}}>", encoding="utf-8")
    (tmp_path / "latin.tmpl").write_bytes(b"caf\xe9")
    listing = list_models_folder(tmp_path)
    assert listing.templates == {"chatml": "<{{.Input}}>"}
    assert [problem.source for problem in listing.problems] == ["latin.tmpl"]


def test_a_definition_file_from_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    file = tmp_path / "more.yaml"
    file.write_text("[{name: a}, {name: b, parameters: {model: sub/b.gguf}}]", encoding="utf-8")
    catalog = read_catalog(folder, file)
    assert [(config.name, config.model_file) for config in catalog.models] == [("a", "a"), ("b", "sub/b.gguf")]
    file.write_bytes(b"\xff")
    with pytest.raises(SetupError, match=r"more\.yaml is not UTF-8 .* It is named by --models-config-file\."):
        read_catalog(folder, file)
    file.unlink()
    with pytest.raises(SetupError, match="cannot be read: no such file or directory") as caught:
        read_catalog(folder, file)
    assert caught.value.code == "models_config_file"


def _front(name: bytes) -> bytes:
    """A model file without weights that says its name."""
    key = b"general.name"
    entry = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(name)) + name
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + entry


def test_a_model_file_may_name_its_model(tmp_path: Path) -> None:
    (tmp_path / "named.gguf").write_bytes(_front(b" Tiny Llama "))
    (tmp_path / "bad.gguf").write_text("<html>", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    files = ("named.gguf", "bad.gguf", "none.gguf", "folder")
    texts = [f"- parameters: {{model: {file}}}\n" for file in files]
    (tmp_path / "x.yaml").write_text("".join(texts), encoding="utf-8")
    catalog = read_catalog(tmp_path)
    assert catalog.resolve("Tiny Llama").model_file == "named.gguf"
    assert ["has no name" in problem.message for problem in catalog.problems] == [True] * 3


def test_a_definition_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    (tmp_path / "large.yaml").write_bytes(b"#" * ((1 << 20) + 1))
    (tmp_path / "good.yaml").write_text("name: good", encoding="utf-8")
    listing = list_models_folder(tmp_path)
    assert list(listing.definitions) == ["good.yaml"]
    assert sorted(problem.message for problem in listing.problems) == [
        "large.yaml is larger than 1 MiB and was not read.",
        "latin.yaml is not UTF-8 text and was not read. Save it as UTF-8.",
    ]


def test_a_folder_that_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be read: no such file or directory"):
        list_models_folder(tmp_path / "none")


def test_a_crowd_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_folder, "MAX_ENTRIES", 3)
    for name in "abc":
        (tmp_path / name).touch()
    assert len(list_models_folder(tmp_path).files) == 3
    (tmp_path / "d").touch()
    with pytest.raises(SetupError, match="holds more than 3 entries"):
        list_models_folder(tmp_path)


def test_a_model_file_is_checked_before_use(tmp_path: Path, tiny_model: Path) -> None:
    config = ModelConfig("tiny", "sub/tiny.gguf")
    with pytest.raises(ModelLoadFailed, match=r"'sub/tiny\.gguf' of model 'tiny' is missing\. Put it into") as missing:
        check_model_file(tmp_path, config)
    assert missing.value.code == "model_file_missing"
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "tiny.gguf").write_bytes(tiny_model.read_bytes())
    assert check_model_file(tmp_path, config) == tmp_path / "sub" / "tiny.gguf"
    (tmp_path / "sub" / "tiny.gguf").write_text("<html>", encoding="utf-8")
    with pytest.raises(ModelLoadFailed, match="a web page"):
        check_model_file(tmp_path, config)


def test_a_model_file_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match="cannot be read: is a directory"):
        check_model_file(tmp_path.parent, ModelConfig("m", tmp_path.name))


def test_a_name_that_is_no_text_is_left_out_with_a_word(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.gguf")).write_bytes(b"GGUF")
    (tmp_path / "good.gguf").write_bytes(b"GGUF")
    catalog = read_catalog(tmp_path)
    assert [config.name for config in catalog.models] == ["good"]
    assert "not UTF-8" in catalog.problems[0].message
    catalog.problems[0].message.encode()


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="not UTF-8"):
        create_models_folder(Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff")))
