"""Our objects beside those of the official client: they have all that it needs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from openai.types import responses as theirs

from localai.api.schemas import responses_objects as ours


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        (ours.Response, theirs.Response),
        (ours.OutputMessage, theirs.ResponseOutputMessage),
        (ours.OutputReasoning, theirs.ResponseReasoningItem),
        (ours.OutputCall, theirs.ResponseFunctionToolCall),
        (ours.OutputText, theirs.ResponseOutputText),
        (ours.ResponseUsage, theirs.ResponseUsage),
        (ours.ResponseError, theirs.ResponseError),
        (ours.InputItemList, theirs.ResponseItemList),
    ],
)
def test_an_object_has_what_the_client_needs(mine: type[msgspec.Struct], other: Any) -> None:
    named = {field.encode_name for field in msgspec.structs.fields(mine)}
    tag = mine.__struct_config__.tag
    needed = {name for name, about in other.model_fields.items() if about.is_required()}
    assert needed <= named | ({"type"} if tag else set())


def test_the_client_reads_a_response_strictly() -> None:
    usage = ours.ResponseUsage(
        input_tokens=1,
        input_tokens_details=ours.InputTokensDetails(),
        output_tokens=1,
        output_tokens_details=ours.OutputTokensDetails(),
        total_tokens=2,
    )
    made = ours.Response(
        id="resp_1",
        created_at=1,
        status="failed",
        model="m",
        output=[
            ours.OutputReasoning(id="a", status="completed", content=[ours.ReasoningText("hm")]),
            ours.OutputMessage(id="b", status="incomplete", content=[ours.OutputText("x")]),
            ours.OutputCall(id="c", status="completed", call_id="1", name="f", arguments="{}"),
        ],
        error=ours.ResponseError("server_error", "It died."),
        incomplete_details=ours.IncompleteDetails(),
        reasoning=ours.ReasoningConfig("low"),
        usage=usage,
    )
    read = theirs.Response.model_validate_json(msgspec.json.encode(made))
    assert [item.type for item in read.output] == ["reasoning", "message", "function_call"]
