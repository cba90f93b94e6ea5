"""Decisions of downloads."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import LocalAIError, RateLimited, Unavailable, UpstreamFailed
from localai.node.sources.transfer import (
    Attempts,
    Body,
    Complete,
    FetchLimits,
    Pace,
    PartialRecord,
    StartAnew,
    TryAgain,
    Wanted,
    expected_sha256,
    judge_answer,
    parse_partial_record,
    range_headers,
    render_partial_record,
    retry_after_s,
    status_error,
    too_long,
    too_short,
    wrong_hash,
    wrong_length,
)

HASH = "ab" * 32
URL = "https://x/m"
WANTED = Wanted("m", URL, None, None)
HASHED = replace(WANTED, sha256=HASH)
RECORD = PartialRecord(URL, '"1"', "then", 100)
PART = {"content-range": "bytes 10-99/100", "etag": '"1"'}


def test_hashes() -> None:
    assert expected_sha256(None) is None
    assert expected_sha256(f" SHA256:{HASH.upper()}") == HASH
    with pytest.raises(UpstreamFailed, match="not 64 hexadecimal digits"):
        expected_sha256("abc")


def test_a_record_is_read_back() -> None:
    for record in (RECORD, PartialRecord("u"), replace(RECORD, sha256=HASH, resumable=False)):
        assert parse_partial_record(render_partial_record(record)) == record


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 10_000,
        render_partial_record(RECORD).replace(b'"url"', b'"uri"'),
        render_partial_record(RECORD).replace(b"100", b"true"),
        render_partial_record(RECORD).replace(b"100", b"-1"),
        render_partial_record(RECORD).replace(b'"then"', b"1"),
        render_partial_record(RECORD).replace(b"true", b"1"),
    ],
)
def test_what_is_no_record(data: bytes) -> None:
    assert parse_partial_record(data) is None


FROM_TEN = {"Range": "bytes=10-"}


@pytest.mark.parametrize(
    ("record", "wanted", "asked"),
    [
        (RECORD, WANTED, {**FROM_TEN, "If-Range": '"1"'}),
        (RECORD, HASHED, {**FROM_TEN, "If-Range": '"1"'}),
        (replace(RECORD, etag='W/"1"'), WANTED, {**FROM_TEN, "If-Range": "then"}),
        (replace(RECORD, etag="", last_modified=""), WANTED, None),
        (replace(RECORD, etag="", last_modified=""), HASHED, FROM_TEN),
        (None, WANTED, None),
        (replace(RECORD, resumable=False), HASHED, None),
        (replace(RECORD, size=9), WANTED, None),
        (RECORD, replace(WANTED, size=9), None),
        (replace(RECORD, size=9), replace(WANTED, size=100), {**FROM_TEN, "If-Range": '"1"'}),
        (replace(RECORD, size=None), WANTED, {**FROM_TEN, "If-Range": '"1"'}),
        (replace(RECORD, url="https://y/m"), HASHED, None),
        (replace(RECORD, url="https://y/m", sha256=HASH), HASHED, FROM_TEN),
        (replace(RECORD, url="https://y/m", sha256=HASH), WANTED, None),
        (replace(RECORD, sha256="cd" * 32), HASHED, None),
    ],
)
def test_what_is_asked_for(record: PartialRecord | None, wanted: Wanted, asked: dict[str, str] | None) -> None:
    assert range_headers(record, wanted, 10) == asked
    assert range_headers(record, wanted, 0) is None


def test_the_whole_file() -> None:
    headers = {"content-length": "100", "etag": '"1"', "last-modified": "then"}
    record = PartialRecord(URL, '"1"', "then", 100)
    assert judge_answer(WANTED, None, 0, 200, headers, 0) == Body(0, 100, record)
    assert judge_answer(HASHED, RECORD, 10, 200, headers, 0) == Body(0, 100, replace(record, sha256=HASH))
    assert judge_answer(WANTED, None, 0, 200, {}, 0) == Body(0, None, PartialRecord(URL))
    assert judge_answer(replace(WANTED, size=7), None, 0, 200, {"content-length": "x"}, 0) == Body(
        0, 7, PartialRecord(URL, size=7)
    )
    with pytest.raises(UpstreamFailed, match="'m' is 100 bytes long instead of 7"):
        judge_answer(replace(WANTED, size=7), None, 0, 200, headers, 0)


def test_an_encoded_file_is_decoded_and_cannot_be_continued() -> None:
    headers = {"content-length": "50", "content-encoding": "GZIP"}
    assert judge_answer(WANTED, None, 0, 200, headers, 0) == Body(0, None, PartialRecord(URL, resumable=False))
    with pytest.raises(UpstreamFailed, match="unknown encoding 'br'"):
        judge_answer(WANTED, None, 0, 200, {"content-encoding": "br"}, 0)


def test_the_rest_of_a_file() -> None:
    assert judge_answer(WANTED, RECORD, 10, 206, PART, 0) == Body(10, 100, RECORD)
    unknown = replace(RECORD, size=None)
    open_end = {"content-range": "bytes 10-99/*"}
    assert judge_answer(WANTED, RECORD, 10, 206, {**PART, "etag": 'W/"1"'}, 0) == Body(10, 100, RECORD)
    assert judge_answer(WANTED, unknown, 10, 206, open_end, 0) == Body(10, None, unknown)
    assert judge_answer(WANTED, RECORD, 10, 206, open_end, 0) == Body(10, 100, RECORD)


@pytest.mark.parametrize(
    ("record", "wanted", "headers"),
    [
        (None, WANTED, PART),
        (RECORD, WANTED, {}),
        (RECORD, WANTED, {"content-range": "bytes */100"}),
        (RECORD, WANTED, {"content-range": "bytes 11-99/100"}),
        (RECORD, WANTED, {"content-range": "bytes 10-99/101"}),
        (RECORD, replace(WANTED, size=99), PART),
        (RECORD, WANTED, {**PART, "etag": '"2"'}),
        (RECORD, WANTED, {**PART, "content-encoding": "gzip"}),
    ],
)
def test_what_is_not_the_rest(record: PartialRecord | None, wanted: Wanted, headers: dict[str, str]) -> None:
    assert judge_answer(wanted, record, 10, 206, headers, 0) == StartAnew()


def test_another_copy_has_another_etag() -> None:
    record = replace(RECORD, url="https://y/m", sha256=HASH)
    assert judge_answer(HASHED, record, 10, 206, {**PART, "etag": '"2"'}, 0) == Body(10, 100, record)


def test_nothing_is_left_to_send() -> None:
    at_end = {"content-range": "bytes */100"}
    assert judge_answer(WANTED, RECORD, 100, 416, at_end, 0) == Complete()
    assert judge_answer(replace(WANTED, size=100), RECORD, 100, 416, at_end, 0) == Complete()
    assert judge_answer(WANTED, RECORD, 99, 416, at_end, 0) == StartAnew()
    assert judge_answer(replace(WANTED, size=99), RECORD, 100, 416, at_end, 0) == StartAnew()
    assert judge_answer(WANTED, RECORD, 100, 416, {}, 0) == StartAnew()
    assert judge_answer(WANTED, RECORD, 100, 416, {"content-range": "bytes */*"}, 0) == StartAnew()


@pytest.mark.parametrize("status", [206, 301, 400, 401, 403, 404, 410, 416, 451, 501])
def test_what_will_not_work_later_either(status: int) -> None:
    with pytest.raises(LocalAIError) as caught:
        judge_answer(WANTED, None, 0, status, PART, 0)
    assert caught.value.message.startswith("https://x/m ") or "at https://x/m" in caught.value.message


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_work_later(status: int) -> None:
    verdict = judge_answer(WANTED, None, 0, status, {"retry-after": "7"}, 0)
    assert isinstance(verdict, TryAgain)
    assert verdict.error.retry_after_s == 7
    assert isinstance(verdict.error, RateLimited if status == 429 else Unavailable)


def test_secrets_in_addresses_are_not_shown() -> None:
    error = status_error(404, "https://x/m?signature=hunter2", {}, 0)
    assert "hunter2" not in error.message + error.detail


def test_how_long_a_server_asks_to_wait() -> None:
    assert retry_after_s({"retry-after": " 120 "}, 0) == 120
    assert retry_after_s({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, 20) == 40
    assert retry_after_s({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, 100) == 0
    for text in ("", "soon", "-1", "1" * 40, "Thu, 01 Jan 99999 00:00:00 GMT"):
        assert retry_after_s({"retry-after": text}, 0) is None
    assert retry_after_s({}, 0) is None


@given(st.text(max_size=40))
def test_any_wait_is_a_number_or_none(text: str) -> None:
    wait = retry_after_s({"retry-after": text}, 0)
    assert wait is None or wait >= 0


def test_messages() -> None:
    assert "'m' is 3 bytes long instead of 7" in wrong_length(replace(WANTED, size=7), 3).message
    assert "goes on after the 7 bytes" in too_long("m", 7).message
    assert "ends after 3 of 7 bytes" in too_short("m", 3, 7).message
    assert "SHA-256 aa instead of bb" in wrong_hash("m", "aa", "bb").message


FAILURE = Unavailable("x")


def test_waits_double_and_end() -> None:
    attempts = Attempts(FetchLimits(tries=5, first_wait_s=1.0, longest_wait_s=3.0))
    assert [attempts.wait_s(0, FAILURE) for _ in range(5)] == [1.0, 2.0, 3.0, 3.0, None]


def test_new_bytes_are_a_new_beginning_and_old_ones_are_not() -> None:
    attempts = Attempts(FetchLimits(tries=3, first_wait_s=1.0))
    assert [attempts.wait_s(reached, FAILURE) for reached in (0, 5, 9, 0, 9)] == [1.0, 1.0, 1.0, 2.0, None]


def test_a_server_may_ask_for_some_patience_but_not_for_any() -> None:
    attempts = Attempts(FetchLimits(first_wait_s=1.0, longest_wait_s=30.0))
    assert attempts.wait_s(0, Unavailable("x", retry_after_s=20.0)) == 20.0
    assert attempts.wait_s(0, Unavailable("x", retry_after_s=31.0)) is None


def test_pace() -> None:
    pace = Pace(100.0)
    assert pace.pause_s(50, 1000.0) == pytest.approx(0.5)
    assert pace.pause_s(50, 1000.5) == pytest.approx(0.5)
    assert pace.pause_s(50, 2000.0) == pytest.approx(0.5)  # time that was not used is not saved up
    assert Pace(None).pause_s(1 << 40, 0.0) == 0.0


@given(
    st.integers(100, 599), st.dictionaries(st.sampled_from(sorted({*PART, "content-length", "retry-after"})), st.text())
)
def test_any_answer_is_judged(status: int, headers: dict[str, str]) -> None:
    for have in (0, 10):
        with suppress(LocalAIError):
            verdict = judge_answer(WANTED, RECORD, have, status, headers, 0)
            assert not isinstance(verdict, Body) or verdict.start in (0, have)
