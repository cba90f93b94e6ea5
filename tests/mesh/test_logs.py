from __future__ import annotations

import io
import json
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import structlog
from structlog.testing import capture_logs

from localai.mesh.logs import LogFormat, LogLevel, Redactor, configure_logs
from localai.mesh.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-very-private"


@dataclass
class Carrier:
    """Holds a secret as plain text, as foreign objects may."""

    url: str


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def configured(level: LogLevel = "info", form: LogFormat = "json") -> io.StringIO:
    stream = io.StringIO()
    configure_logs(level, form, secrets=[Secret(KEY)], stream=stream)
    return stream


def test_json_is_one_object_per_line() -> None:
    stream = configured()
    structlog.get_logger().info("request_done", route="/v1/models", ttft_ms=3.5, text="two\nlines")
    (line,) = lines(stream)
    fields = json.loads(line)
    assert fields.pop("timestamp").endswith("Z")
    assert fields == {
        "event": "request_done", "level": "info", "route": "/v1/models", "ttft_ms": 3.5, "text": "two\nlines",
    }  # fmt: skip


def test_text_is_key_value() -> None:
    stream = configured(form="text")
    structlog.get_logger().warning("worker_lost", model="a b", ok=True)
    (line,) = lines(stream)
    assert line.startswith("timestamp=")
    assert line.endswith('level=warning event=worker_lost model="a b" ok=true')


def test_default_is_for_people_and_coloured_only_on_a_terminal() -> None:
    stream = configured(form="default")
    structlog.get_logger().info("node_ready", address="127.0.0.1:8080")
    assert "node_ready" in stream.getvalue()
    assert "\x1b[" not in stream.getvalue()
    stream = io.StringIO()
    configure_logs("info", "default", stream=stream, colour=True)
    structlog.get_logger().info("node_ready")
    assert "\x1b[" in stream.getvalue()


@pytest.mark.parametrize(
    ("level", "ours", "libraries"),
    [
        ("error", ["error"], []),
        ("warn", ["warning", "error"], ["error"]),
        ("info", ["info", "warning", "error"], ["warning", "error"]),
        ("debug", ["debug", "info", "warning", "error"], ["info", "warning", "error"]),
        ("trace", ["debug", "info", "warning", "error"], ["debug", "info", "warning", "error"]),
    ],
)
def test_levels_and_libraries_one_step_quieter(level: LogLevel, ours: list[str], libraries: list[str]) -> None:
    stream = configured(level)
    for name in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger(), name)("ours")
        getattr(logging.getLogger("some.library"), name)("theirs")
    fields = [json.loads(line) for line in lines(stream)]
    assert [f["level"] for f in fields if f["event"] == "ours"] == ours
    assert [f["level"] for f in fields if f["event"] == "theirs"] == libraries
    assert all(f["logger"] == "some.library" for f in fields if f["event"] == "theirs")


@pytest.mark.parametrize("form", ["default", "text", "json"])
def test_secrets_never_reach_the_stream(form: LogFormat) -> None:
    stream = configured(form=form)
    log = structlog.get_logger()
    log.info("typed", key=Secret("other-secret"), nested={"keys": [Secret("other-secret")]})
    log.info("in_text", url=f"http://x/?key={KEY}", deep={"a": ({KEY},), KEY: 1})
    log.info("in_object", carrier=Carrier(f"http://x/{KEY}"), raw=KEY.encode())
    log.info(f"event_with_{KEY}")
    logging.getLogger("lib").warning("GET /?key=%s", KEY)
    try:
        raise ValueError(f"bad key {KEY}")
    except ValueError:
        log.exception("failed")
        logging.getLogger("lib").exception("failed too")
    structlog.contextvars.bind_contextvars(caller=KEY)
    log.info("bound")
    text = stream.getvalue()
    assert KEY not in text
    assert "other-secret" not in text
    assert text.count("***") >= 9
    assert "ValueError: bad key ***" in text


def test_no_form_shows_local_variables_of_a_traceback() -> None:
    stream = configured(form="default")

    def fail() -> None:
        local_password = "in-a-local"
        raise RuntimeError(str(len(local_password)))

    try:
        fail()
    except RuntimeError:
        structlog.get_logger().exception("failed")
    assert "RuntimeError: 10" in stream.getvalue()
    assert "= 'in-a-local'" not in stream.getvalue()


def test_secrets_registered_later_are_masked_too() -> None:
    stream = io.StringIO()
    redactor = configure_logs("info", "json", stream=stream)
    redactor.register([Secret("token-1"), Secret("token-1-and-more"), Secret("ab")])
    structlog.get_logger().info("joined", text="token-1-and-more token-1 ab")
    assert json.loads(stream.getvalue())["text"] == "*** *** ab"


def test_bound_ids_are_on_every_line_of_both_worlds() -> None:
    stream = configured()
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger().info("ours")
        logging.getLogger("lib").error("theirs")
    assert [json.loads(line)["request_id"] for line in lines(stream)] == ["r1", "r1"]


def test_a_second_call_replaces_the_first() -> None:
    first, second = configured(), configured()
    logging.getLogger("lib").error("once")
    structlog.get_logger().info("ours")
    assert lines(first) == []
    assert len(lines(second)) == 2


def test_python_warnings_are_log_lines() -> None:
    stream = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old spelling", UserWarning, stacklevel=1)
    (line,) = lines(stream)
    assert "old spelling" in json.loads(line)["event"]


def test_important_lines_can_be_captured() -> None:
    configured()
    with capture_logs() as captured:
        structlog.get_logger().info("node_ready", port=1)
    assert captured == [{"event": "node_ready", "port": 1, "log_level": "info"}]


def test_the_redactor_stops_at_its_depth_and_keeps_plain_values() -> None:
    redactor = Redactor()
    redactor.register([Secret(KEY)])
    deep: list[object] = [KEY]
    for _ in range(20):
        deep = [deep]
    cleaned = redactor(None, "info", {"n": 1, "f": 1.5, "b": True, "none": None, "deep": deep})
    assert KEY not in repr(cleaned)
    assert (cleaned["n"], cleaned["f"], cleaned["b"], cleaned["none"]) == (1, 1.5, True, None)
