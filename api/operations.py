"""What a route declares of itself for the description of the API (pure).

A route file hands an :class:`Operation` to ``add_route``; what it leaves out gets a general description.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["string", "boolean", "integer", "number"]

EVERYWHERE = (400, 401, 403, 408, 413, 415, 429, 503)
"""Statuses of refusals that may meet any request, whatever it asks for."""
ANSWERING = (404, 500, 501, 502, 504)
"""More of them where a model answers: it is not there, is broken, cannot do it, has failed, or took too long."""


@dataclass(frozen=True, slots=True)
class Query:
    """One parameter of the query."""

    name: str
    meaning: str
    kind: Kind = "string"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. ``body`` and ``answer`` are types that msgspec knows; None is nothing in particular.

    ``errors`` are statuses beside :data:`EVERYWHERE`. ``stream`` is the content type of an answer in pieces, where the
    body can ask for one. ``empty`` says that a good answer has no body. Without ``summary`` the first line of the
    handler's docstring counts.
    """

    summary: str = ""
    body: Any = None
    answer: Any = None
    errors: tuple[int, ...] = ()
    query: tuple[Query, ...] = ()
    content: str = "application/json"
    stream: str = ""
    empty: bool = False


UNDECLARED = Operation(errors=(*ANSWERING, 409, 422))
"""What is said of a route that declares nothing."""


@dataclass(frozen=True, slots=True)
class DescribedRoute:
    """A route of the application. ``path`` is written ``/v1/models/{model}``; ``group`` is the file it comes from."""

    method: str
    path: str
    group: str
    summary: str
    operation: Operation
