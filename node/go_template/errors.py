"""What can be wrong with a template (pure).

    InvalidRequest
    └── BadTemplate         not a template we can run: syntax, an unknown function, over a limit
        └── TemplateFailed  a valid template that does not work on the given values

:class:`Problem` and :class:`OverLimit` are raised where the place in the text is not known. They stay in the package.
"""

from __future__ import annotations

from dataclasses import dataclass

from localai.mesh.errors import InvalidRequest

_MAX_MESSAGE_CHARS = 500


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a template, and what messages call it at the beginning of a sentence."""

    text: str
    name: str = "The prompt template"


class BadTemplate(InvalidRequest):
    """The template cannot be used; the message says where and why."""

    default_code = "invalid_template"


class TemplateFailed(BadTemplate):
    """The template is valid but stops with an error on these values, as Go's would."""


class Problem(Exception):
    """Something a function or a value cannot do. ``reason`` is a clause without a full stop."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class OverLimit(Problem):
    """More work, output or nesting than a template may take."""


def syntax_error(source: Source, at: int, problem: str, advice: str) -> BadTemplate:
    """The error for ``problem`` at offset ``at`` of the template. ``advice`` is a sentence without full stop."""
    return BadTemplate(_message(source, at, problem, advice))


def run_error(source: Source, at: int, problem: Problem) -> BadTemplate:
    """The error for what happened while the node at offset ``at`` ran."""
    if isinstance(problem, OverLimit):
        return BadTemplate(_message(source, at, problem.reason, "Make the template or its input smaller"))
    return TemplateFailed(_message(source, at, problem.reason, "Correct the template, or test the value with if first"))


def _message(source: Source, at: int, problem: str, advice: str) -> str:
    line = source.text.count("\n", 0, at) + 1
    column = at - source.text.rfind("\n", 0, at)
    message = f"{source.name} fails at line {line}, column {column}: {problem}. {advice}."
    if len(message) <= _MAX_MESSAGE_CHARS:
        return message
    return f"{message[: _MAX_MESSAGE_CHARS - 3]}..."
