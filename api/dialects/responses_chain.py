"""Conversations that are continued by the id of their last response (pure).

Each response is stored with what is new in it. A chain is walked from its end to its beginning, within limits.
"""

from __future__ import annotations

from localai.api.dialects.responses_input import input_from_output
from localai.api.dialects.responses_record import StoredResponse, is_finished
from localai.api.schemas.responses_objects import OutputCall
from localai.api.schemas.responses_requests import InputItem
from localai.mesh.errors import InvalidRequest, NotFound

MAX_RESPONSES = 512
"""Responses of one chain."""
MAX_BYTES = 32 << 20
"""Of all their records."""
_PARAM = "previous_response_id"


class ChainWalk:
    """Takes the responses of a chain, the newest first."""

    def __init__(self, last_id: str, max_responses: int = MAX_RESPONSES, max_bytes: int = MAX_BYTES) -> None:
        self.wanted: str | None = last_id
        """The id of the response to give next; None when the chain is complete."""
        self._max_responses = max_responses
        self._left_bytes = max_bytes
        self._records: list[StoredResponse] = []

    def take(self, record: StoredResponse | None, size: int) -> None:
        """Take the wanted response, None when there is none for this client; ``size`` in bytes.

        Raises:
            NotFound: there is none.
            InvalidRequest: it is not finished, or the chain is too long.
        """
        if record is None:
            raise NotFound(f"previous response not found: {(self.wanted or '')[:100]}", param=_PARAM)
        if not is_finished(record):
            message = f"The response '{record.response.id}' is not finished yet. Wait for it, or cancel it."
            raise InvalidRequest(message, code="previous_response_unfinished", param=_PARAM)
        self._records.append(record)
        self._left_bytes -= size
        self.wanted = record.response.previous_response_id
        if self._left_bytes < 0 or (self.wanted and len(self._records) >= self._max_responses):
            message = "The conversation before this request is too long. Send what is needed of it as 'input'."
            raise InvalidRequest(message, code="chain_too_long", param=_PARAM)

    def items(self) -> list[InputItem]:
        """The conversation of the whole chain, the oldest item first."""
        return [item for record in reversed(self._records) for item in items_of(record)]


def items_of(record: StoredResponse) -> list[InputItem]:
    """What a response was asked with, and what it said; calls that were cut off have no use."""
    said = record.response.output
    whole = [item for item in said if not (isinstance(item, OutputCall) and item.status != "completed")]
    return [*record.input, *map(input_from_output, whole)]
