from __future__ import annotations

import json
from typing import Any

import pytest

from localai.api.bodies import decode_body
from localai.api.dialects.completions import MAX_PROMPTS, TextForm
from localai.api.dialects.edits import edit_form, parse_edit
from localai.api.schemas.openai_requests import EditBody
from localai.mesh.errors import InvalidRequest
from localai.node.edit_prompt import edit_prompt
from localai.node.inference import GenerateRequest, RequestId, Sampling


def parse(**fields: Any) -> tuple[GenerateRequest, ...]:
    body = decode_body(json.dumps({"instruction": "Correct it.", **fields}).encode(), EditBody)
    return parse_edit(body, RequestId("r"), "m")


def test_one_text_and_several() -> None:
    assert parse(input="wat", n=2, temperature=0) == (
        GenerateRequest(RequestId("r"), "m", edit_prompt("Correct it.", "wat"), Sampling(temperature=0), choices=2),
    )
    several = parse(input=["a", "b"], n=2)
    assert [request.prompt for request in several] == [edit_prompt("Correct it.", text) for text in "ab"]
    assert len({request.id for request in several}) == 2
    assert edit_form(several) == TextForm("edit", shown=2, drawn=2)
    assert parse()[0].prompt == edit_prompt("Correct it.", "")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"instruction": ""}, "instruction"),
        ({"input": []}, "input"),
        ({"input": ["a"] * (MAX_PROMPTS + 1)}, "input"),
        ({"n": 0}, "n"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    assert caught.value.param == param
