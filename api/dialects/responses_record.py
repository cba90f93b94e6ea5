"""What is kept of a response, and what becomes of it when the node starts again (pure).

===========  =============================================  ==========================================
state        how you get in                                 how you get out
===========  =============================================  ==========================================
queued       it was asked for in the background             its turn; somebody cancels it
in_progress  its turn; once more when the node had ended    it ends; it is cancelled; the node ends
the others   it ended                                       never
===========  =============================================  ==========================================

A response whose node ended while it was made is begun anew once, with other event numbers. The second time it fails.
"""

from __future__ import annotations

import msgspec

from localai.api.schemas.responses_objects import Response, ResponseError
from localai.api.schemas.responses_requests import InputItem
from localai.node.inference import GenerateRequest

MAX_RUNS = 2
"""How often a response is begun at most: one that takes the node with it must not do so for ever."""
RUN_NUMBERS = 1_000_000
"""Event numbers of each run: a client that comes back with one of the run before is told so."""
_FINISHED = frozenset({"completed", "incomplete", "failed", "cancelled"})


class StoredResponse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A response with what it was asked with. Stored in this form: a new field needs a default.

    ``owner`` is the digest of a key, empty when the node has none. ``expires_at`` is in seconds since 1970, 0 for
    never. ``request`` is what is left to do. ``streamed`` means that its events can be asked for. ``mcp_servers`` are
    those whose tools the request has: empty for all of the model, None for no tools.
    """

    response: Response
    owner: str = ""
    expires_at: int = 0
    input: list[InputItem] = []
    streamed: bool = False
    request: GenerateRequest | None = None
    mcp_servers: tuple[str, ...] | None = None
    runs: int = 0


_DECODER = msgspec.json.Decoder(StoredResponse)


def render_record(record: StoredResponse) -> str:
    """A record as it is stored."""
    return msgspec.json.encode(record).decode()


def parse_record(text: str) -> StoredResponse | None:
    """A stored record; None for what another version of this program wrote and this one does not understand."""
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def is_finished(record: StoredResponse) -> bool:
    """Whether nothing more happens."""
    return record.response.status in _FINISHED


def is_expired(record: StoredResponse, now: float) -> bool:
    """Whether its time is over; ``now`` in seconds since 1970."""
    return 0 < record.expires_at <= now


def begun(record: StoredResponse) -> StoredResponse:
    """It is its turn."""
    response = msgspec.structs.replace(record.response, status="in_progress")
    return msgspec.structs.replace(record, response=response, runs=record.runs + 1)


def ended(record: StoredResponse, response: Response) -> StoredResponse:
    """It has become this; nothing is left to do."""
    return msgspec.structs.replace(record, response=response, request=None, mcp_servers=None)


def first_number(record: StoredResponse) -> int:
    """The number of the first event of the run that comes next."""
    return record.runs * RUN_NUMBERS


def taken_up(record: StoredResponse, now: float) -> StoredResponse:
    """A record as a node that starts finds it: to be begun, or ended."""
    if is_finished(record):
        return record
    if record.request is None or record.runs >= MAX_RUNS:
        message = f"The node ended {record.runs} times while it worked on this response. Ask for it again."
        response = msgspec.structs.replace(
            record.response,
            status="failed",
            completed_at=int(now),
            error=ResponseError("server_error", message),
            output=[],
        )
        return ended(record, response)
    response = msgspec.structs.replace(record.response, status="queued", output=[])
    return msgspec.structs.replace(record, response=response)
