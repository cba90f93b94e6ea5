"""Archives as they are built, and as attackers build them."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localai.mesh.errors import Forbidden, LocalAIError, SetupError, Unsupported, UpstreamFailed
from localai.node.gallery.archive import Stopped
from localai.node.sources.archive_members import UnpackLimits
from localai.node.sources.transfer import FetchLimits
from localai.node.sources.unpack import UnpackedFile, unpack_layers

DISK = FetchLimits(space_margin_bytes=0)


def tar(*members: tuple[str, bytes | str], kind: bytes = tarfile.SYMTYPE, form: int = tarfile.PAX_FORMAT) -> bytes:
    """Bytes make a file, a text makes a link (or another ``kind``) to it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(data, bytes):
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            else:
                info.type, info.linkname = kind, data
                archive.addfile(info)
    return out.getvalue()


def unpack(folder: Path, *layers: bytes, limits: UnpackLimits | None = None) -> dict[str, UnpackedFile]:
    paths = []
    for number, data in enumerate(layers):
        paths.append(folder / f"{number}.tar")
        paths[-1].write_bytes(data)
    into = folder / "files"
    into.mkdir()
    return unpack_layers(paths, into, lambda _done: True, limits=limits or UnpackLimits(), disk=DISK)


def contents(folder: Path) -> dict[str, bytes]:
    files = folder / "files"
    return {str(path.relative_to(files)): path.read_bytes() for path in files.rglob("*") if path.is_file()}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_files_come_out_with_their_hashes(tmp_path: Path, pack: type[bytes]) -> None:
    big = b"x" * 3_000_000
    found = unpack(
        tmp_path, pack(tar(("./models/m.gguf", big), ("README", b"hi"), ("n" * 150 + "/" + "m" * 150, b"l")))
    )
    assert contents(tmp_path) == {"models/m.gguf": big, "README": b"hi", "n" * 150 + "/" + "m" * 150: b"l"}
    assert found["models/m.gguf"] == UnpackedFile(hashlib.sha256(big).hexdigest(), len(big))


def test_the_later_layer_counts_and_deletion_marks_are_passed_over(tmp_path: Path) -> None:
    first = tar(("a", b"old"), ("b", b"stays"), ("d.yaml", b"name: x"))
    second = gzip.compress(tar(("a", b"new"), (".wh.b", b""), (".wh..wh..opq", b"")))
    found = unpack(tmp_path, first, second)
    assert contents(tmp_path) == {"a": b"new", "b": b"stays"}
    assert found["a"].sha256 == hashlib.sha256(b"new").hexdigest()


@pytest.mark.parametrize(("kind", "target"), [(tarfile.SYMTYPE, "../blobs/m"), (tarfile.LNKTYPE, "blobs/m")])
def test_links_become_names_of_their_files(tmp_path: Path, kind: bytes, target: str) -> None:
    found = unpack(
        tmp_path, tar(("snapshot/m.gguf", target), ("snapshot/none", "gone"), kind=kind), tar(("blobs/m", b"w"))
    )
    assert contents(tmp_path) == {"blobs/m": b"w", "snapshot/m.gguf": b"w"}
    assert not (tmp_path / "files/snapshot/m.gguf").is_symlink()
    assert found["snapshot/m.gguf"] == found["blobs/m"]


def test_a_file_and_a_link_of_one_name(tmp_path: Path) -> None:
    unpack(tmp_path, tar(("a", b"file"), ("b", b"other")), tar(("b", "a")), tar(("c", "a")), tar(("c", b"last")))
    assert contents(tmp_path) == {"a": b"file", "b": b"file", "c": b"last"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_that_leads_to_itself_leaves_the_file(tmp_path: Path, kind: bytes) -> None:
    found = unpack(tmp_path, tar(("a", b"file"), ("b", b"other")), tar(("a", "./a"), ("b", "c"), ("c", "b"), kind=kind))
    assert contents(tmp_path) == {"a": b"file", "b": b"other", "c": b"other"}
    assert set(found) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (tar(("/etc/cron", b"x")), "impossible path"),
        (tar(("../x", b"x")), "impossible path"),
        (tar(("x", "/etc/passwd")), "leads out"),
        (tar(("a/x", "../../x")), "leads out"),
        (tar(("x", "../x"), kind=tarfile.LNKTYPE), "leads out"),
        (tar(("x", ""), kind=tarfile.CHRTYPE), "device"),
        (tar(("x", ""), kind=tarfile.BLKTYPE), "device"),
        (tar(("x", ""), kind=tarfile.FIFOTYPE), "device"),
        (tar(("a", b"x"), ("a/b", b"x")), "both a file and a folder"),
        (tar(("a/b", b"x"), ("a", b"x")), "both a file and a folder"),
    ],
)
def test_what_is_refused_writes_nothing_outside(tmp_path: Path, layer: bytes, says: str) -> None:
    with pytest.raises(Forbidden, match=says):
        unpack(tmp_path, layer)
    assert {path.name for path in tmp_path.iterdir()} == {"0.tar", "files"}


def test_a_link_first_and_then_a_file_through_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    unpack(tmp_path, tar(("d", "real"), ("d/m", b"x")))
    assert contents(tmp_path) == {"d/m": b"x"}
    assert list(outside.iterdir()) == []


def test_sparse_files_are_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("s")
        info.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 40)}
        archive.addfile(info)
    with pytest.raises(Forbidden, match="special file"):
        unpack(tmp_path, out.getvalue())


def test_bombs(tmp_path: Path) -> None:
    for number, (layer, limits) in enumerate(
        [
            (tar(*((str(each), b"") for each in range(20))), UnpackLimits(entries=10)),
            (gzip.compress(tar(("z", bytes(4_000_000)))), UnpackLimits(slack_bytes=1000)),
            (gzip.compress(tar((".hidden", bytes(4_000_000)))), UnpackLimits(slack_bytes=1000)),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(Forbidden, match="made to fill disks"):
            unpack(folder, layer, limits=limits)


def test_a_header_that_would_fill_the_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    with pytest.raises(UpstreamFailed, match="damaged archive"):
        unpack(tmp_path, info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))


def test_what_is_damaged_or_unknown(tmp_path: Path) -> None:
    good = tar(("m", b"x" * 5000), ("n", b"y"))
    for number, (layer, kind) in enumerate(
        [
            (b"", UpstreamFailed),
            (b"no archive at all" * 100, UpstreamFailed),
            (good[:3000], UpstreamFailed),
            (tar((".m", b"x" * 5000))[:3000], UpstreamFailed),
            (gzip.compress(good)[:-10], UpstreamFailed),
            (gzip.compress(good)[:20] + b"\xff" * 40, UpstreamFailed),
            (b"\x28\xb5\x2f\xfd" + bytes(100), Unsupported),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(kind):
            unpack(folder, layer)


def test_a_disk_without_room(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(tar(("m", b"x")))
    (tmp_path / "files").mkdir()
    with pytest.raises(SetupError, match="must stay free"):
        unpack_layers(
            [tmp_path / "0.tar"], tmp_path / "files", lambda _: True, disk=FetchLimits(space_margin_bytes=1 << 60)
        )


def test_it_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(tar(("m", b"x")))
    (tmp_path / "files").mkdir()
    with pytest.raises(Stopped):
        unpack_layers([tmp_path / "0.tar"], tmp_path / "files", lambda _: False, disk=DISK)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 3071), st.binary(min_size=1, max_size=40))
def test_any_bytes_unpack_or_are_refused(tmp_path_factory: pytest.TempPathFactory, at: int, noise: bytes) -> None:
    data = bytearray(tar(("a/m", b"x" * 700), ("b", "a/m"), form=tarfile.GNU_FORMAT))
    data[at : at + len(noise)] = noise
    folder = tmp_path_factory.mktemp("fuzz")
    try:
        found = unpack(folder, bytes(data), limits=UnpackLimits(slack_bytes=1 << 20))
    except LocalAIError:
        return
    assert set(found) == set(contents(folder))
