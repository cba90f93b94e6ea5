from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from localai.api.error_shapes import Shape
from localai.api.errors import KEY_REQUIRED, OPAQUE, STATUS, error_body, openai_body, render_error, status_of
from localai.mesh.errors import (
    Category,
    InvalidRequest,
    LocalAIError,
    NotFound,
    RateLimited,
    Unauthenticated,
    Unavailable,
    Unsupported,
    error_class,
)


@pytest.mark.parametrize("category", Category)
def test_every_category_has_a_status_and_a_whole_body(category: Category) -> None:
    error = error_class(category)("Sentence.", code="some_code", param="model", detail="secret")
    rendered = render_error(error)
    assert rendered.status == STATUS[category] >= 400
    body = msgspec.to_builtins(rendered.body)
    refused = category is Category.UNAUTHENTICATED
    assert body["error"].keys() == {"code", "message", "type", *(() if refused else ("param",))}
    assert body["error"]["message"] == "Sentence."
    assert body["error"]["type"]
    assert "secret" not in repr(body)


def test_a_refused_key_is_exactly_what_localai_documents() -> None:
    rendered = render_error(Unauthenticated(KEY_REQUIRED))
    assert rendered.status == 401
    assert rendered.headers == {"WWW-Authenticate": "Bearer"}
    assert msgspec.json.encode(rendered.body) == (
        b'{"error":{"code":401,"message":"An authentication key is required","type":"invalid_request_error"}}'
    )


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (3.0, "3"), (3.01, "4")])
def test_when_to_come_back_is_in_whole_seconds(seconds: float, header: str) -> None:
    for error in (RateLimited("Full.", retry_after_s=seconds), Unavailable("Busy.", retry_after_s=seconds)):
        assert render_error(error).headers == {"Retry-After": header}
    assert render_error(RateLimited("Full.")).headers == {}


def test_clients_are_told_not_to_repeat_what_is_not_built() -> None:
    assert render_error(Unsupported("No.")).headers == {"x-should-retry": "false"}
    assert render_error(LocalAIError("No.", code="no_mcp_servers")).headers == {"x-should-retry": "false"}
    assert render_error(LocalAIError("No.")).headers == {}


def test_the_payload_inside_a_stream_is_the_same_body() -> None:
    error = InvalidRequest("No.", param="n")
    assert openai_body(error) == render_error(error).body


ALL_SHAPES: tuple[Shape, ...] = get_args(Shape)


@pytest.mark.parametrize("shape", ALL_SHAPES)
@pytest.mark.parametrize("category", Category)
def test_every_dialect_says_every_error(category: Category, shape: Shape) -> None:
    error = error_class(category)("Sentence.", code="some_code", detail="secret")
    rendered = render_error(error, shape)
    assert rendered.status == STATUS[category]
    text = msgspec.json.encode(rendered.body).decode()
    assert "Sentence." in text
    assert "secret" not in text


def test_the_shapes_of_the_dialects() -> None:
    refused = Unauthenticated(KEY_REQUIRED)
    assert msgspec.to_builtins(error_body(refused, "anthropic")) == {
        "type": "error",
        "error": {"type": "authentication_error", "message": KEY_REQUIRED},
    }
    assert msgspec.to_builtins(error_body(refused, "elevenlabs")) == {
        "detail": {"status": "invalid_api_key", "message": KEY_REQUIRED}
    }
    assert msgspec.to_builtins(error_body(refused, "flat")) == {"error": KEY_REQUIRED}
    assert msgspec.to_builtins(error_body(NotFound("Gone.", code="x", param="id"), "responses")) == {
        "error": {"code": "x", "message": "Gone.", "type": "not_found", "param": "id"}
    }


@pytest.mark.parametrize("shape", ALL_SHAPES)
@pytest.mark.parametrize("category", Category)
def test_an_opaque_error_is_its_status_and_a_fixed_text(category: Category, shape: Shape) -> None:
    first, second = (
        render_error(error_class(category)(text, code=text, param=text, retry_after_s=2.0), shape, opaque=True)
        for text in ("one", "two")
    )
    assert first == second
    assert first.status == STATUS[category]
    body = msgspec.json.encode(first.body).decode()
    assert OPAQUE in body
    assert "one" not in body.replace(OPAQUE, "")
    if category is Category.UNAVAILABLE:
        assert first.headers == {"Retry-After": "2"}


def test_some_errors_have_a_finer_status_also_when_opaque() -> None:
    error = InvalidRequest("Slow.", code="request_too_slow")
    assert status_of(error) == render_error(error, opaque=True).status == 408
