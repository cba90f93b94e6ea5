"""What holds an answer in form: ``response_format`` and LocalAI's grammars (pure).

Source: OpenAI's API reference for ``response_format``; LocalAI's ``grammar`` (GBNF) and ``grammar_json_functions`` (a
JSON schema, which counts only when there are no tools).
"""

from __future__ import annotations

from localai.api.dialects.raw_json import is_given, object_text
from localai.api.schemas.openai_requests import GenerationBody, ResponseFormat
from localai.mesh.errors import InvalidRequest
from localai.node.inference import Constraint, Grammar, JsonSchema

MAX_GRAMMAR_CHARS = 200_000
_PLAIN = ("", "text")


def read_constraint(body: GenerationBody, *, has_tools: bool = False) -> Constraint | None:
    """What the answer must look like; None for any text.

    Raises:
        InvalidRequest: it is no format that there is, or there are several.
    """
    found: dict[str, Constraint] = {}
    if (wanted := _format(body.response_format)) is not None:
        found["response_format"] = wanted
    if body.grammar:
        if len(body.grammar) > MAX_GRAMMAR_CHARS:
            message = f"'grammar' has more than {MAX_GRAMMAR_CHARS} characters. Write a shorter one."
            raise InvalidRequest(message, param="grammar")
        found["grammar"] = Grammar(body.grammar)
    if is_given(body.grammar_json_functions) and not has_tools:
        found["grammar_json_functions"] = JsonSchema(object_text(body.grammar_json_functions, "grammar_json_functions"))
    if len(found) > 1:
        first, second, *_ = found
        raise InvalidRequest(f"'{first}' and '{second}' both say what the answer is. Send one of them.", param=second)
    return next(iter(found.values()), None)


def _format(wanted: str | ResponseFormat | None) -> Constraint | None:
    if wanted is None:
        return None
    kind = wanted if isinstance(wanted, str) else wanted.type
    if kind in _PLAIN:
        return None
    if kind == "json_object":
        return JsonSchema()
    if kind != "json_schema":
        message = f"'response_format' is '{kind[:50]}'. Use text, json_object or json_schema."
        raise InvalidRequest(message, param="response_format")
    path = "response_format.json_schema"
    if isinstance(wanted, str) or wanted.json_schema is None:
        raise InvalidRequest(f"'{path}' is missing. Send {{'name': ..., 'schema': ...}} there.", param=path)
    return JsonSchema(object_text(wanted.json_schema.schema, f"{path}.schema"))
