"""Downloads from servers that behave, and from those that do not."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from localai.mesh.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    RateLimited,
    SetupError,
    Unauthenticated,
    Unavailable,
    UpstreamFailed,
)
from localai.mesh.secrets import Secret
from localai.node.sources.fetch import FetchedFile, FetchProgress, fetch, partial_path, record_path
from localai.node.sources.testing import (
    Handler,
    StubServer,
    answer,
    chunked,
    content,
    cut,
    loopback_tls,
    redirect,
    stalled,
    stub_server,
)
from localai.node.sources.transfer import FetchLimits, PartialRecord, render_partial_record

MODEL = os.urandom(3_000_000)
HASH = hashlib.sha256(MODEL).hexdigest()
OTHER = os.urandom(3_000_000)
OTHER_HASH = hashlib.sha256(OTHER).hexdigest()


class Shop:
    """A server, a target, and what is needed to fetch from one to the other."""

    def __init__(self, server: StubServer, target: Path, session: aiohttp.ClientSession, limits: FetchLimits) -> None:
        self.server = server
        self.target = target
        self.limits = limits
        self.seen: list[FetchProgress] = []
        self._session = session

    async def fetch(
        self, *handlers: Handler, sha256: str | None = HASH, size: int | None = None, **more: Any
    ) -> FetchedFile:
        """Fetch what the handlers serve."""
        if handlers:
            self.server.route("/m", *handlers)
        options = {"on_progress": self.seen.append, "limits": self.limits, **more}
        url = options.pop("url", f"{self.server.url}/m")
        return await fetch(url, self.target, sha256=sha256, size=size, session=self._session, **options)

    def leave(self, data: bytes, **record: Any) -> None:
        """What an earlier call left."""
        self.target.parent.mkdir(exist_ok=True)
        partial_path(self.target).write_bytes(data)
        left = PartialRecord(**{"url": f"{self.server.url}/m", "etag": '"1"', "size": len(MODEL), **record})
        record_path(self.target).write_bytes(render_partial_record(left))

    def files(self) -> list[str]:
        """Names of what is in the folder."""
        return sorted(path.name for path in self.target.parent.iterdir())

    def ranges(self) -> list[str | None]:
        """What was asked for, request by request."""
        return [seen.headers.get("range") for seen in self.server.seen]

    def partial_bytes(self) -> int:
        """How much there is of the file."""
        return partial_path(self.target).stat().st_size

    def assert_done(self, data: bytes = MODEL) -> None:
        """The file is there, and nothing else."""
        assert self.target.read_bytes() == data
        assert self.files() == ["m.gguf"]


@pytest.fixture
def shop(server: StubServer, tmp_path: Path, session: aiohttp.ClientSession, limits: FetchLimits) -> Shop:
    return Shop(server, tmp_path / "models" / "m.gguf", session, limits)


async def test_a_file(shop: Shop) -> None:
    fetched = await shop.fetch(content(MODEL), size=len(MODEL))
    assert fetched == FetchedFile(shop.target, HASH, len(MODEL))
    shop.assert_done()
    assert shop.seen[-1] == FetchProgress("done", len(MODEL), len(MODEL))
    assert {progress.phase for progress in shop.seen} == {"downloading", "done"}
    done = [progress.done_bytes for progress in shop.seen]
    assert done == sorted(done)


async def test_an_empty_file(shop: Shop) -> None:
    fetched = await shop.fetch(content(b""), sha256=hashlib.sha256(b"").hexdigest(), size=0)
    assert fetched.bytes == 0
    shop.assert_done(b"")


async def test_over_https_neither_hash_nor_length_are_needed(tmp_path: Path, limits: FetchLimits) -> None:
    tls = loopback_tls(tmp_path)
    async with (
        stub_server(tls=tls) as server,
        stub_server() as plain,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls.client)) as session,
    ):
        shop = Shop(server, tmp_path / "models" / "m.gguf", session, limits)
        fetched = await shop.fetch(chunked(MODEL), sha256=None)
        assert (fetched.sha256, fetched.bytes) == (HASH, len(MODEL))
        assert shop.seen[-1].total_bytes == 0
        shop.assert_done()
        shop.target.unlink()
        with pytest.raises(UpstreamFailed, match="from https to plain http"):
            await shop.fetch(redirect(plain.route("/m", content(MODEL))))
        assert plain.seen == []


async def test_a_certificate_that_nobody_signed(
    tmp_path: Path, session: aiohttp.ClientSession, limits: FetchLimits
) -> None:
    async with stub_server(tls=loopback_tls(tmp_path)) as server:
        with pytest.raises(Unavailable, match="a certificate that is not trusted"):
            await Shop(server, tmp_path / "m", session, limits).fetch(content(MODEL))
        assert server.seen == []


async def test_addresses_that_are_not_fetched(shop: Shop) -> None:
    with pytest.raises(InvalidRequest, match="Give its SHA-256 too"):
        await shop.fetch(content(MODEL), sha256=None)
    with pytest.raises(InvalidRequest):
        await shop.fetch(url="file:///etc/passwd")
    with pytest.raises(UpstreamFailed, match="not 64 hexadecimal digits"):
        await shop.fetch(sha256="abc")
    assert shop.server.seen == []


async def test_a_file_that_is_there_is_kept_or_replaced(shop: Shop) -> None:
    shop.target.parent.mkdir()
    shop.target.write_bytes(MODEL)
    shop.leave(b"old")
    assert await shop.fetch(content(MODEL)) == FetchedFile(shop.target, HASH, len(MODEL))
    assert shop.server.seen == []
    assert shop.seen[-1] == FetchProgress("checking", len(MODEL), len(MODEL))
    shop.assert_done()
    await shop.fetch(content(OTHER), sha256=OTHER_HASH)
    shop.assert_done(OTHER)
    await shop.fetch(content(MODEL[:9]), sha256=hashlib.sha256(MODEL[:9]).hexdigest(), size=9)
    shop.assert_done(MODEL[:9])


async def test_a_wrong_file_is_there_until_the_right_one_is(shop: Shop) -> None:
    shop.target.parent.mkdir()
    shop.target.write_bytes(b"old")
    with pytest.raises(NotFound):
        await shop.fetch(answer(404))
    assert shop.target.read_bytes() == b"old"


async def test_a_wrong_hash_removes_everything_and_names_both(shop: Shop) -> None:
    with pytest.raises(UpstreamFailed, match=f"has the SHA-256 {OTHER_HASH} instead of {HASH}") as caught:
        await shop.fetch(content(OTHER))
    assert caught.value.code == "hash_mismatch"
    assert shop.files() == []


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (content(MODEL), "is 3000000 bytes long instead of 7"),
        (chunked(MODEL), "goes on after the 7 bytes"),
        (chunked(b"abc"), "ends after 3 of 7 bytes"),
    ],
)
async def test_a_wrong_length(shop: Shop, handler: Handler, words: str) -> None:
    with pytest.raises(UpstreamFailed, match=words) as caught:
        await shop.fetch(handler, size=7)
    assert caught.value.code == "length_mismatch"
    assert not shop.target.exists()


async def test_a_connection_cut_in_the_middle_goes_on_where_it_was(shop: Shop) -> None:
    await shop.fetch(cut(MODEL, 1_200_000), content(MODEL))
    shop.assert_done()
    first, second = shop.ranges()
    assert first is None
    assert second is not None
    assert 900_000 <= int(second.removeprefix("bytes=").removesuffix("-")) <= 1_200_000
    assert shop.server.seen[1].headers["if-range"] == '"1"'
    assert "retrying" in {progress.phase for progress in shop.seen}


async def test_many_cuts_are_no_failure_while_bytes_come(shop: Shop) -> None:
    shop.leave(MODEL[:1000])
    await shop.fetch(*[_rest(MODEL, 300_000)] * 7, content(MODEL))
    shop.assert_done()
    assert len(shop.server.seen) == 8


def _rest(data: bytes, count: int) -> Handler:
    """Answers a range whatever ``If-Range`` says, and breaks after some bytes of it."""

    async def handler(request: web.Request) -> web.StreamResponse:
        start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        length, of = str(len(data) - start), f"bytes {start}-{len(data) - 1}/{len(data)}"
        response = web.StreamResponse(
            status=206, headers={"Content-Length": length, "Content-Range": of, "ETag": '"1"'}
        )
        await response.prepare(request)
        await response.write(data[start : start + count])
        assert request.transport is not None
        request.transport.close()
        return response

    return handler


async def test_a_server_without_ranges_starts_over(shop: Shop) -> None:
    await shop.fetch(cut(MODEL, 1_200_000), answer(200, MODEL))
    shop.assert_done()


async def test_a_body_without_length_that_is_cut_is_noticed(shop: Shop) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(MODEL[:1000])
        assert request.transport is not None
        request.transport.close()
        return response

    await shop.fetch(broken, content(MODEL))
    shop.assert_done()


async def test_content_that_changed_between_two_tries(shop: Shop) -> None:
    await shop.fetch(cut(OTHER, 1_200_000, etag='"old"'), content(MODEL, etag='"new"'))
    shop.assert_done()
    assert shop.server.seen[1].headers["if-range"] == '"old"'


async def test_a_server_that_does_not_know_if_range(shop: Shop) -> None:
    shop.leave(OTHER[:1_200_000], etag='"old"')
    await shop.fetch(_rest(MODEL, len(MODEL)), content(MODEL))
    shop.assert_done()
    assert shop.ranges() == ["bytes=1200000-", None]


async def test_an_earlier_call_is_continued(shop: Shop) -> None:
    shop.leave(MODEL[:2_000_000])
    await shop.fetch(content(MODEL))
    shop.assert_done()
    assert shop.ranges() == ["bytes=2000000-"]
    assert FetchProgress("checking", 2_000_000, 2_000_000) in shop.seen


async def test_an_earlier_call_by_date(shop: Shop) -> None:
    shop.leave(MODEL[:2_000_000], etag='W/"1"', last_modified="then")
    await shop.fetch(content(MODEL, last_modified="then"))
    shop.assert_done()
    assert shop.ranges() == ["bytes=2000000-"]


async def test_an_earlier_call_to_another_mirror(shop: Shop) -> None:
    shop.leave(MODEL[:2_000_000], url="https://other/m", sha256=HASH)
    await shop.fetch(content(MODEL, etag='"theirs"'))
    shop.assert_done()
    assert shop.ranges() == ["bytes=2000000-"]
    assert "if-range" not in shop.server.seen[0].headers


async def test_an_earlier_call_that_had_all(shop: Shop) -> None:
    shop.leave(MODEL)
    await shop.fetch()
    shop.assert_done()
    assert shop.server.seen == []


async def test_an_earlier_call_that_had_all_without_knowing(shop: Shop) -> None:
    shop.leave(MODEL, size=None)
    await shop.fetch(content(MODEL))
    shop.assert_done()
    assert shop.ranges() == ["bytes=3000000-"]


async def test_an_earlier_call_that_had_more_than_there_is(shop: Shop) -> None:
    shop.leave(MODEL + b"x", size=None)
    await shop.fetch(content(MODEL))
    shop.assert_done()
    assert shop.ranges() == ["bytes=3000001-", None]


@pytest.mark.parametrize("record", [b"", b"{}", None])
async def test_bytes_that_nobody_knows_are_not_continued(shop: Shop, record: bytes | None) -> None:
    shop.leave(b"x" * 1000)
    if record is None:
        record_path(shop.target).unlink()
    else:
        record_path(shop.target).write_bytes(record)
    await shop.fetch(content(MODEL))
    shop.assert_done()
    assert shop.ranges() == [None]


async def test_wrong_bytes_of_an_earlier_call_are_found(shop: Shop) -> None:
    shop.leave(OTHER[:2_000_000])
    with pytest.raises(UpstreamFailed, match="has the SHA-256"):
        await shop.fetch(content(MODEL))
    assert shop.files() == []


async def test_encoded_content_is_decoded_and_not_continued(shop: Shop) -> None:
    packed = gzip.compress(MODEL)

    async def cut_packed(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Encoding": "gzip", "Content-Length": str(len(packed)), "ETag": '"1"'}
        )
        await response.prepare(request)
        await response.write(packed[:1_500_000])
        assert request.transport is not None
        request.transport.close()
        return response

    await shop.fetch(cut_packed, answer(200, packed, Content_Encoding="gzip"))
    shop.assert_done()
    assert shop.ranges() == [None, None]
    assert shop.server.seen[0].headers["accept-encoding"] == "identity"


async def test_busy_servers_are_waited_for(shop: Shop) -> None:
    started = asyncio.get_running_loop().time()
    await shop.fetch(answer(503), answer(429, Retry_After="1"), content(MODEL))
    shop.assert_done()
    assert 1.0 <= asyncio.get_running_loop().time() - started < 10.0


async def test_servers_that_stay_busy(shop: Shop) -> None:
    with pytest.raises(Unavailable, match="status 500"):
        await shop.fetch(answer(500))
    assert len(shop.server.seen) == shop.limits.tries
    with pytest.raises(RateLimited) as caught:
        await shop.fetch(answer(429, Retry_After="9999"))
    assert caught.value.retry_after_s == 9999
    with pytest.raises(Unavailable, match=r"^127\.0\.0\.1 cannot be reached"):
        await shop.fetch(url="http://127.0.0.1:1/m")
    assert shop.files() == []


async def test_other_statuses_are_not_tried_again(shop: Shop) -> None:
    for status, error in ((401, Unauthenticated), (404, NotFound), (501, UpstreamFailed)):
        with pytest.raises(error):
            await shop.fetch(answer(status))
    assert len(shop.server.seen) == 3


async def test_secrets_and_redirects(shop: Shop, other_server: StubServer) -> None:
    blob = other_server.route("/blob?X-Signature=a%2Fb", content(MODEL, etag='"cdn"'))
    shop.leave(MODEL[:1000], etag='"cdn"')
    headers = (("Authorization", Secret("Bearer t")),)
    await shop.fetch(redirect(blob), headers=headers)
    shop.assert_done()
    assert shop.server.seen[0].headers["authorization"] == "Bearer t"
    (at_blob,) = other_server.seen
    assert "authorization" not in at_blob.headers
    assert (at_blob.headers["range"], at_blob.headers["if-range"]) == ("bytes=1000-", '"cdn"')


async def test_redirects_end(shop: Shop) -> None:
    with pytest.raises(UpstreamFailed, match="more than 10 times"):
        await shop.fetch(redirect("/m"))


async def test_silence_is_another_try(shop: Shop) -> None:
    shop.limits = replace(shop.limits, idle_s=0.1)
    await shop.fetch(stalled(MODEL, 1_000_000, asyncio.Event()), content(MODEL))
    shop.assert_done()
    assert shop.ranges() == [None, "bytes=1000000-"]


async def test_a_slow_server_is_given_up_and_its_bytes_are_kept(shop: Shop) -> None:
    shop.limits = replace(shop.limits, total_s=0.3)
    with pytest.raises(DeadlineExceeded, match="it goes on where it ended"):
        await shop.fetch(stalled(MODEL, 1_000_000, asyncio.Event()))
    assert shop.partial_bytes() == 1_000_000


async def test_bandwidth(shop: Shop) -> None:
    shop.limits = replace(shop.limits, bytes_per_s=10_000_000)
    started = asyncio.get_running_loop().time()
    await shop.fetch(content(MODEL))
    assert asyncio.get_running_loop().time() - started >= 0.29


def _reached(shop: Shop, count: int) -> tuple[asyncio.Event, Callable[[FetchProgress], None]]:
    """An event for a number of bytes, and what sets it."""
    event = asyncio.Event()

    def on_progress(progress: FetchProgress) -> None:
        shop.seen.append(progress)
        if progress.phase == "downloading" and progress.done_bytes >= count:
            event.set()

    return event, on_progress


async def test_cancelling_keeps_what_came(shop: Shop) -> None:
    reached, on_progress = _reached(shop, 1_500_000)
    handler = stalled(MODEL, 1_500_000, asyncio.Event())
    task = asyncio.create_task(shop.fetch(handler, on_progress=on_progress))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert partial_path(shop.target).read_bytes() == MODEL[:1_500_000]
    assert json.loads(record_path(shop.target).read_bytes())["etag"] == '"1"'
    await shop.fetch(content(MODEL))
    shop.assert_done()
    assert shop.ranges() == [None, "bytes=1500000-"]


async def test_cancelling_while_an_earlier_call_is_looked_at(shop: Shop) -> None:
    shop.leave(MODEL)

    def cancel(_progress: FetchProgress) -> None:
        task.cancel()

    task: asyncio.Task[FetchedFile] = asyncio.create_task(shop.fetch(on_progress=cancel))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert shop.partial_bytes() == len(MODEL)


async def test_two_calls_for_one_target(shop: Shop) -> None:
    until = asyncio.Event()
    reached, on_progress = _reached(shop, 1_000_000)
    waiting = asyncio.Event()
    first = asyncio.create_task(shop.fetch(stalled(MODEL, 1_000_000, until), on_progress=on_progress))
    await reached.wait()

    def on_wait(progress: FetchProgress) -> None:
        if progress.phase == "waiting":
            waiting.set()

    second = asyncio.create_task(shop.fetch(on_progress=on_wait))
    await waiting.wait()
    until.set()
    assert await first == await second
    assert len(shop.server.seen) == 1
    shop.assert_done()


async def test_too_little_room_is_noticed_before_anything_is_written(shop: Shop) -> None:
    shop.limits = replace(shop.limits, space_margin_bytes=1 << 60)
    with pytest.raises(SetupError, match=r"^The download needs 3 MB in .* must stay free") as caught:
        await shop.fetch(content(MODEL))
    assert caught.value.code == "disk_full"
    assert shop.files() == []


async def test_a_folder_that_cannot_be_used(shop: Shop) -> None:
    shop.target.parent.write_bytes(b"")
    with pytest.raises(SetupError, match="cannot be written: file exists"):
        await shop.fetch(content(MODEL))


CHILD = """
import asyncio, sys
from pathlib import Path
from localai.mesh.errors import LocalAIError
from localai.node.sources.fetch import fetch
from localai.node.sources.http_client import hub_session
from localai.node.sources.transfer import FetchLimits

async def main(url, target, sha256):
    limits = FetchLimits(space_margin_bytes=0)
    async with hub_session("test", trust_env=False) as session:
        await fetch(url, Path(target), sha256=sha256, size=None, session=session, limits=limits,
            on_progress=lambda progress: print(progress.done_bytes, flush=True))

try:
    asyncio.run(main(*sys.argv[1:]))
except LocalAIError as error:
    print(error.code, error.message, flush=True)
"""
LONG = os.urandom(8 << 20)
LONG_HASH = hashlib.sha256(LONG).hexdigest()


@asynccontextmanager
async def _child(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.e2e
async def test_a_killed_process_is_continued(shop: Shop) -> None:
    url = shop.server.route("/m", stalled(LONG, 5 << 20, asyncio.Event()), content(LONG))
    async with _child(sys.executable, "-c", CHILD, url, str(shop.target), LONG_HASH) as process:
        assert process.stdout is not None
        while int(await process.stdout.readline()) < 5 << 20:
            pass
        process.send_signal(signal.SIGKILL)
        await process.wait()
    kept = shop.partial_bytes()
    assert kept >= 4 << 20
    await shop.fetch(sha256=LONG_HASH)
    shop.assert_done(LONG)
    assert shop.ranges() == [None, f"bytes={kept}-"]


def _can_mount() -> bool:
    command = ["unshare", "--map-root-user", "--mount", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.e2e
@pytest.mark.skipif(not _can_mount(), reason="needs mount namespaces")
async def test_a_full_disk(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o size=4m tmpfs "$1" && "$2" -c "$3" "$4" "$1/m" "$5"; ls -s --block-size=1 "$1"'
    async with stub_server() as server:
        for handler, words, has_begun in (
            (chunked(LONG), "disk_full The disk of ", True),
            (content(LONG), "disk_full The download needs 9 MB in ", False),
        ):
            url = server.route("/m", handler)
            arguments = (script, "sh", str(tmp_path), sys.executable, CHILD, url, LONG_HASH)
            async with _child("unshare", "--map-root-user", "--mount", "sh", "-c", *arguments) as process:
                output = (await process.communicate())[0].decode()
            assert words in output
            assert ("m.partial" in output) == has_begun
            assert "Traceback" not in output


async def test_what_an_inspection_refuses_never_gets_its_name(shop: Shop) -> None:
    def refuse(path: Path) -> None:
        assert path.read_bytes() == MODEL
        raise InvalidRequest("No.")

    with pytest.raises(InvalidRequest):
        await shop.fetch(content(MODEL), inspect=refuse)
    assert shop.files() == []
