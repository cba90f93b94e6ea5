from __future__ import annotations

import json
from typing import Any

import pytest

from localai.api.bodies import decode_body
from localai.api.dialects.constraints import MAX_GRAMMAR_CHARS, read_constraint
from localai.api.schemas.openai_requests import GenerationBody
from localai.mesh.errors import InvalidRequest
from localai.node.inference import Constraint, Grammar, JsonSchema

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def read(*, has_tools: bool = False, **fields: Any) -> Constraint | None:
    return read_constraint(decode_body(json.dumps(fields).encode(), GenerationBody), has_tools=has_tools)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"response_format": None},
        {"response_format": ""},
        {"response_format": "text"},
        {"response_format": {"type": "text"}},
        {"grammar": ""},
        {"grammar_json_functions": None},
    ],
)
def test_any_text_will_do(fields: dict[str, Any]) -> None:
    assert read(**fields) is None


def test_json_objects_and_schemas() -> None:
    assert read(response_format="json_object") == read(response_format={"type": "json_object"}) == JsonSchema("{}")
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}
    assert read(response_format=wanted) == JsonSchema(json.dumps(SCHEMA))


def test_localais_grammars() -> None:
    assert read(grammar='root ::= "a"') == Grammar('root ::= "a"')
    assert read(grammar_json_functions=SCHEMA) == JsonSchema(json.dumps(SCHEMA))
    assert read(grammar_json_functions=SCHEMA, has_tools=True) is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "xml"}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": "json_schema"}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": 1}}},
            "response_format.json_schema.schema",
        ),
        ({"grammar_json_functions": [1]}, "grammar_json_functions"),
        ({"grammar": "x" * (MAX_GRAMMAR_CHARS + 1)}, "grammar"),
        ({"grammar": "x", "response_format": "json_object"}, "grammar"),
        ({"grammar": "x", "grammar_json_functions": {}}, "grammar_json_functions"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    assert caught.value.param == param
