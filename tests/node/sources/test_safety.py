"""Names and first bytes."""

from __future__ import annotations

import pickle

import pytest

from localai.mesh.errors import Forbidden
from localai.node.sources.safety import Finding, content_findings, is_pickle, is_zip, name_findings, raise_if_refused


@pytest.mark.parametrize("name", ["pytorch_model.bin", "a/b.PT", "m.pth", "m.ckpt", "m.pkl", "m.pickle", "m.joblib"])
def test_names_of_pickles_are_refused_unless_asked_for(name: str) -> None:
    (finding,) = name_findings(name)
    assert finding.severity == "refuse"
    assert "can run any program when it is loaded" in finding.sentence
    assert [each.severity for each in name_findings(name, allow_pickle=True)] == ["warn"]


@pytest.mark.parametrize("name", ["m.gguf", "m.safetensors", "a/ggml-base.en.bin", "bin", "m.bin.txt"])
def test_other_names_pass(name: str) -> None:
    assert name_findings(name) == ()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_are_known_by_their_first_bytes(protocol: int) -> None:
    data = pickle.dumps({"a": 1}, protocol)
    assert is_pickle(data)
    assert [each.severity for each in content_findings("m.gguf", data, None)] == ["refuse"]
    assert [each.severity for each in content_findings("m.gguf", data, None, allow_pickle=True)] == ["warn"]


def test_what_is_no_pickle() -> None:
    for head in (b"", b"\x80", b"\x80\x01", b"\x80\x06", b"GGUF"):
        assert not is_pickle(head)


def test_a_zip_with_a_pickle_inside() -> None:
    assert is_zip(b"PK\x03\x04rest")
    assert not is_zip(b"GGUF")
    (finding,) = content_findings("m.zip", b"PK\x03\x04", ["archive/version", "archive/data.pkl"])
    assert (finding.severity, "'archive/data.pkl'" in finding.sentence) == ("refuse", True)
    assert content_findings("m.zip", b"PK\x03\x04", ["a.txt"]) == ()


def test_content_counts_more_than_the_name() -> None:
    assert content_findings("whisper.bin", b"lmgg....", None) == ()
    assert content_findings("m.gguf", b"GGUF....", None) == ()
    assert "not the GGUF file that its name promises" in content_findings("m.gguf", b"<html>", None)[0].sentence
    assert content_findings("m.bin", b"anything", None)[0].severity == "refuse"


def test_refusals_are_raised_and_others_are_not() -> None:
    raise_if_refused([Finding("warn", "Hm."), Finding("note", "Oh.")])
    with pytest.raises(Forbidden, match=r"^No\. It was not installed") as caught:
        raise_if_refused([Finding("warn", "Hm."), Finding("refuse", "No.")])
    assert caught.value.code == "unsafe_model_file"
