"""Images of archives from a stub registry: good ones, interrupted ones, and ones that are not what they say."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from localai.mesh.errors import Conflict, Forbidden, NotFound, SetupError, UpstreamFailed
from localai.mesh.secrets import Secret
from localai.node.model_config import FileDownload, ModelConfig
from localai.node.sources.fetch import FetchProgress
from localai.node.sources.image import fetch_image, present_files
from localai.node.sources.plan import PlannedFile
from localai.node.sources.testing import Handler, StubServer, answer, content, cut, redirect, stalled
from localai.node.sources.transfer import FetchLimits
from localai.node.testing.tiny_gguf import write_tiny_gguf

AUTHORIZATION = (("Authorization", Secret("Bearer t")),)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model file that passes every check."""
    return write_tiny_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf").read_bytes()


def packed(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue(), mtime=0)


def planned(server: StubServer, data: bytes, *handlers: Handler, number: int = 1) -> PlannedFile:
    url = server.route(f"/blobs/{number}", *(handlers or (content(data),)))
    return PlannedFile(f"i__{number}.tar", url, hashlib.sha256(data).hexdigest(), len(data), AUTHORIZATION, "archive")


def same_places(files: Mapping[str, Any]) -> dict[str, str]:
    return {path: path for path in files}


def there(models: Path) -> list[str]:
    return sorted(str(path.relative_to(models)) for path in models.rglob("*") if path.is_file())


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Not made yet."""
    return tmp_path / "models"


async def test_all_layers_are_unpacked(
    server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits, models: Path, gguf: bytes
) -> None:
    plan = (
        planned(server, packed({"LICENSE": b"old", "a/m.gguf": gguf})),
        planned(server, packed({"LICENSE": b"new"}), number=2),
    )
    seen: list[FetchProgress] = []
    found = await fetch_image(plan, models, session, same_places, on_progress=seen.append, limits=limits)
    assert found == {"a/m.gguf": hashlib.sha256(gguf).hexdigest(), "LICENSE": hashlib.sha256(b"new").hexdigest()}
    assert there(models) == ["LICENSE", "a/m.gguf"]
    assert [path.name for path in models.iterdir() if path.name.startswith(".")] == []
    assert seen[-1].phase == "done"
    assert {each.phase for each in seen} == {"downloading", "checking", "done"}
    assert {each.headers.get("authorization") for each in server.seen} == {"Bearer t"}


async def test_blobs_may_be_elsewhere_and_the_token_stays(
    server: StubServer,
    other_server: StubServer,
    session: aiohttp.ClientSession,
    limits: FetchLimits,
    models: Path,
    gguf: bytes,
) -> None:
    data = packed({"m.gguf": gguf})
    plan = (planned(server, data, redirect(other_server.route("/store", content(data)))),)
    await fetch_image(plan, models, session, same_places, limits=limits)
    assert there(models) == ["m.gguf"]
    assert [each.headers.get("authorization") for each in other_server.seen] == [None]


async def test_a_broken_download_is_tried_again(
    server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits, models: Path, gguf: bytes
) -> None:
    data = packed({"m.gguf": gguf})
    await fetch_image(
        (planned(server, data, cut(data, 100), content(data)),), models, session, same_places, limits=limits
    )
    assert there(models) == ["m.gguf"]
    assert len(server.seen) == 2


async def test_a_cancelled_one_keeps_what_it_has(
    server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits, models: Path, gguf: bytes
) -> None:
    data = packed({"m.gguf": gguf})
    begun, release = asyncio.Event(), asyncio.Event()
    plan = (planned(server, data, stalled(data, 100, release), content(data)),)

    def on_progress(progress: FetchProgress) -> None:
        if progress.done_bytes:
            begun.set()

    working = asyncio.create_task(
        fetch_image(plan, models, session, same_places, on_progress=on_progress, limits=limits)
    )
    await begun.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    release.set()
    await fetch_image(plan, models, session, same_places, limits=limits)
    assert there(models) == ["m.gguf"]
    assert server.seen[-1].headers["range"] == "bytes=100-"


async def test_what_is_not_what_the_manifest_says_is_never_opened(
    server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits, models: Path, gguf: bytes
) -> None:
    data = packed({"m.gguf": gguf})
    for other in (data[:-1] + b"x", data + b"x"):
        with pytest.raises(UpstreamFailed):
            await fetch_image((planned(server, data, answer(200, other)),), models, session, same_places, limits=limits)
        assert there(models) == []


@pytest.mark.parametrize(
    ("name", "data"),
    [("m.bin", b"\x80\x02 a pickle"), ("m.gguf", b"GGUX"), ("weights.pt", b"anything"), ("../m", b"x")],
)
async def test_unsafe_files_leave_nothing(
    name: str,
    data: bytes,
    server: StubServer,
    session: aiohttp.ClientSession,
    limits: FetchLimits,
    models: Path,
    gguf: bytes,
) -> None:
    plan = (planned(server, packed({"good.gguf": gguf, name: data})),)
    with pytest.raises(Forbidden):
        await fetch_image(plan, models, session, same_places, limits=limits)
    assert list(models.iterdir()) == []


async def test_files_that_are_here(
    server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits, models: Path, gguf: bytes
) -> None:
    models.mkdir()
    (models / "a").write_bytes(b"mine")
    (models / "same").write_bytes(b"same")
    (models / "same").chmod(0o400)
    plan = (planned(server, packed({"m.gguf": gguf, "a": b"theirs", "same": b"same"})),)
    with pytest.raises(Conflict, match="has a file a, and another one"):
        await fetch_image(plan, models, session, same_places, limits=limits)
    assert there(models) == ["a", "same"]
    await fetch_image(plan, models, session, same_places, replaceable=("a",), limits=limits)
    assert (models / "a").read_bytes() == b"theirs"
    assert (models / "same").stat().st_mode & 0o777 == 0o400, "what is right is not touched"


async def test_files_below_a_replaceable_folder(
    server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits, models: Path, gguf: bytes
) -> None:
    (models / "f").mkdir(parents=True)
    (models / "f/m.gguf").write_bytes(b"old")
    plan = (planned(server, packed({"m.gguf": gguf})),)
    await fetch_image(plan, models, session, lambda _files: {"m.gguf": "f/m.gguf"}, replaceable=("f",), limits=limits)
    assert (models / "f/m.gguf").read_bytes() == gguf


async def test_an_image_that_is_not_wanted_after_all(
    server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits, models: Path, gguf: bytes
) -> None:
    def places(_files: Mapping[str, Any]) -> dict[str, str]:
        raise NotFound("Nothing for you. Go.")

    with pytest.raises(NotFound):
        await fetch_image((planned(server, packed({"m.gguf": gguf})),), models, session, places, limits=limits)
    assert list(models.iterdir()) == []


async def test_a_folder_that_cannot_be_written_to(
    server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits, tmp_path: Path, gguf: bytes
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError):
        await fetch_image(
            (planned(server, packed({"m.gguf": gguf})),), tmp_path / "file", session, same_places, limits=limits
        )


def test_what_is_here_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"m")
    (tmp_path / "n").write_bytes(b"n")
    m, n = (hashlib.sha256(data).hexdigest() for data in (b"m", b"n"))
    config = ModelConfig("m", "m", sha256=m, downloads=(FileDownload("n", "x", n),))
    assert present_files(config, tmp_path) == {"n": n, "m": m}
    (tmp_path / "n").write_bytes(b"changed")
    assert present_files(config, tmp_path) is None
    assert present_files(ModelConfig("m", "m"), tmp_path) is None
    assert present_files(ModelConfig("m", "gone", sha256=m), tmp_path) is None
