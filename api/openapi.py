"""The description of the API as an OpenAPI 3.1 document, from its routes and the types of their bodies (pure).

Source: the OpenAPI Specification 3.1. Schemas come from the types that decode and encode the bodies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, TypeAlias

import msgspec

from localai.api.error_shapes import shape_of
from localai.api.operations import EVERYWHERE, UNDECLARED, DescribedRoute, Operation
from localai.api.schemas.errors import AnthropicError, ElevenLabsError, FlatError, OpenAIError

Json: TypeAlias = dict[str, Any]

_PARAMETER = re.compile(r"\{(\w+)\}")
_ERRORS: dict[str, type[msgspec.Struct]] = {
    "anthropic": AnthropicError,
    "elevenlabs": ElevenLabsError,
    "flat": FlatError,
}
_REF = "#/components/schemas/{name}"
_DESCRIPTION = "Paths may end in a slash. GET answers HEAD too. Fields that are not described are ignored."
_HAS_BODY = frozenset({"POST", "PUT", "PATCH"})


def openapi_document(routes: Sequence[DescribedRoute], version: str) -> Json:
    """The document. A type that several bodies share stands once, under ``components``."""
    schemas = _Schemas(routes)
    paths: Json = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "localai", "version": version, "description": _DESCRIPTION},
        "paths": paths,
        "security": [{}, {"bearer": []}, {"key": []}],
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


class _Schemas:
    """Schemas of all types of the routes."""

    def __init__(self, routes: Iterable[DescribedRoute]) -> None:
        used = [kind for route in routes for kind in (route.operation.body, route.operation.answer)]
        used += [OpenAIError, *_ERRORS.values()]
        kinds = list({repr(kind): kind for kind in used if kind is not None}.values())
        schemas, self.components = msgspec.json.schema_components(kinds, ref_template=_REF)
        self._known = {repr(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}

    def of(self, kind: Any) -> Json:
        """The schema of a type; of any JSON for None."""
        return self._known[repr(kind)] if kind is not None else {}


def _operation(route: DescribedRoute, schemas: _Schemas) -> Json:
    operation = route.operation
    described: Json = {
        "operationId": _identifier(route),
        "summary": route.summary,
        "tags": [route.group],
        "responses": {"200": _success(operation, schemas), **_failures(route, schemas)},
    }
    if parameters := _parameters(route):
        described["parameters"] = parameters
    if operation.body is not None or (operation is UNDECLARED and route.method in _HAS_BODY):
        described["requestBody"] = {"content": {"application/json": {"schema": schemas.of(operation.body)}}}
    return described


def _identifier(route: DescribedRoute) -> str:
    words = re.findall(r"\w+", route.path) or ["root"]
    return "_".join([route.method.lower(), *words])


def _parameters(route: DescribedRoute) -> list[Json]:
    inside = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(route.path)
    ]
    return inside + [
        {"name": query.name, "in": "query", "description": query.meaning, "schema": {"type": query.kind}}
        for query in route.operation.query
    ]


def _success(operation: Operation, schemas: _Schemas) -> Json:
    if operation is UNDECLARED:
        return {"description": "The answer."}
    if operation.empty:
        return {"description": "Done; there is no body."}
    content: Json = {operation.content: {"schema": schemas.of(operation.answer)}}
    if operation.stream:
        content[operation.stream] = {}
    return {"description": "The answer.", "content": content}


def _failures(route: DescribedRoute, schemas: _Schemas) -> Json:
    body = {"application/json": {"schema": schemas.of(_ERRORS.get(shape_of(route.path), OpenAIError))}}
    statuses = sorted({*EVERYWHERE, *route.operation.errors})
    return {str(status): {"description": HTTPStatus(status).phrase, "content": body} for status in statuses}
