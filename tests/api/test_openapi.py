from __future__ import annotations

from typing import Any

import msgspec
import pytest

from localai.api.openapi import openapi_document
from localai.api.operations import UNDECLARED, DescribedRoute, Operation, Query


class Inner(msgspec.Struct):
    """Something inside."""

    x: int


class Asked(msgspec.Struct):
    """What is asked."""

    inner: Inner | None = None


def route(operation: Operation, method: str = "POST", path: str = "/v1/things/{id}") -> DescribedRoute:
    return DescribedRoute(method, path, "things", "Do it.", operation)


def described(operation: Operation, method: str = "POST", path: str = "/v1/things/{id}") -> tuple[Any, Any]:
    """The operation, and the whole document."""
    document = openapi_document([route(operation, method, path)], "1.2")
    return document["paths"][path][method.lower()], document


def test_bodies_are_schemas_that_stand_once() -> None:
    found, document = described(Operation(body=Asked, answer=list[Inner]))
    assert found["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Asked"}
    answer = found["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"type": "array", "items": {"$ref": "#/components/schemas/Inner"}}
    assert document["components"]["schemas"]["Inner"]["properties"] == {"x": {"type": "integer"}}
    assert (document["openapi"], document["info"]["version"]) == ("3.1.0", "1.2")


def test_parameters_of_path_and_query() -> None:
    found, _ = described(Operation(query=(Query("limit", "At most.", "integer"),)), "GET")
    inside, query = found["parameters"]
    assert (inside["name"], inside["in"], inside["required"]) == ("id", "path", True)
    assert (query["name"], query["in"], query["schema"]) == ("limit", "query", {"type": "integer"})
    assert "requestBody" not in found
    assert found["operationId"] == "get_v1_things_id"


def test_a_route_without_parameters_has_none() -> None:
    found, _ = described(Operation(), "GET", "/")
    assert "parameters" not in found
    assert found["operationId"] == "get_root"


def test_answers_in_pieces_and_without_a_body() -> None:
    found, _ = described(Operation(answer=Inner, stream="text/event-stream"))
    assert found["responses"]["200"]["content"].keys() == {"application/json", "text/event-stream"}
    found, _ = described(Operation(empty=True))
    assert "content" not in found["responses"]["200"]
    found, _ = described(Operation(content="text/html"))
    assert found["responses"]["200"]["content"] == {"text/html": {"schema": {}}}


def test_what_declares_nothing_takes_and_answers_anything() -> None:
    found, _ = described(UNDECLARED)
    assert found["requestBody"]["content"]["application/json"]["schema"] == {}
    assert found["responses"]["200"] == {"description": "The answer."}
    assert "requestBody" not in described(UNDECLARED, "DELETE")[0]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "OpenAIError"),
        ("/v1/messages", "AnthropicError"),
        ("/v1/responses", "OpenAIError"),
        ("/v1/sound-generation", "ElevenLabsError"),
        ("/api/chat", "FlatError"),
    ],
)
def test_errors_have_the_shape_of_the_path(path: str, name: str) -> None:
    found, _ = described(Operation(errors=(404, 501)), path=path)
    assert {"400", "401", "404", "501", "503"} <= found["responses"].keys()
    for status, response in found["responses"].items():
        if status != "200":
            schema = response["content"]["application/json"]["schema"]
            assert schema == {"$ref": f"#/components/schemas/{name}"}
