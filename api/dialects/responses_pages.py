"""Lists of items, one page at a time (pure). Source: OpenAI's API reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from localai.api.schemas.responses_objects import InputItemList
from localai.api.schemas.responses_requests import InputItem
from localai.mesh.errors import InvalidRequest

DEFAULT_LIMIT = 20
MAX_LIMIT = 100


def page_of(items: Sequence[InputItem], query: Mapping[str, str]) -> InputItemList:
    """The page that a query asks for with ``order`` (newest first by default), ``limit`` and ``after``, an id.

    Raises:
        InvalidRequest: the query is none.
    """
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("'order' must be asc or desc.", param="order")
    limit = _limit(query.get("limit", str(DEFAULT_LIMIT)))
    ordered = list(items) if order == "asc" else list(reversed(items))
    if after := query.get("after"):
        place = next((place for place, item in enumerate(ordered) if item.id == after), None)
        if place is None:
            raise InvalidRequest(f"'after' names '{after[:100]}', which is not in the list.", param="after")
        ordered = ordered[place + 1 :]
    page = ordered[:limit]
    return InputItemList(
        data=page,
        first_id=page[0].id if page else None,
        last_id=page[-1].id if page else None,
        has_more=len(ordered) > limit,
    )


def read_starting_after(text: str | None) -> int | None:
    """The number of the last event that a client has; None when it has none.

    Raises:
        InvalidRequest: it is no number.
    """
    if text is None or text == "":
        return None
    if not text.removeprefix("-").isdecimal() or len(text) > 18:
        raise InvalidRequest("starting_after must be an integer", param="starting_after")
    return int(text)


def _limit(text: str) -> int:
    limit = int(text) if text.isdecimal() and len(text) < 9 else 0
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"'limit' must be between 1 and {MAX_LIMIT}.", param="limit")
    return limit
