"""Our events beside those of the official client: each of ours is one of theirs, with all that they need."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from openai.types.responses import ResponseStreamEvent

from localai.api.schemas import responses_events
from localai.api.schemas.responses_events import ResponseEvent

OURS_ALONE = {"response.cancelled"}
THEIRS: dict[str, Any] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(get_args(ResponseStreamEvent)[0])
}
OURS: dict[str, type[ResponseEvent]] = {
    str(kind.__struct_config__.tag): kind
    for kind in vars(responses_events).values()
    if isinstance(kind, type) and issubclass(kind, ResponseEvent) and kind.__struct_config__.tag != kind.__name__
}


def test_only_one_event_is_ours_alone() -> None:
    assert set(OURS) - set(THEIRS) == OURS_ALONE


@pytest.mark.parametrize("name", sorted(set(OURS) - OURS_ALONE))
def test_an_event_has_what_the_client_needs(name: str) -> None:
    ours = {field.encode_name for field in msgspec.structs.fields(OURS[name])} | {"type"}
    needed = {field for field, about in THEIRS[name].model_fields.items() if about.is_required()}
    assert needed <= ours
