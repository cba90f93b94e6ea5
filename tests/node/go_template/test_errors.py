from __future__ import annotations

from localai.mesh.errors import Category
from localai.node.go_template.errors import (
    BadTemplate,
    OverLimit,
    Problem,
    Source,
    TemplateFailed,
    run_error,
    syntax_error,
)


def test_a_message_names_template_place_problem_and_next_step() -> None:
    error = syntax_error(Source("ab\ncd{{", "The chat template"), 5, "an action does not end", "Close it with }}")
    assert error.message == "The chat template fails at line 2, column 3: an action does not end. Close it with }}."
    assert (error.category, error.code) == (Category.INVALID_REQUEST, "invalid_template")


def test_a_failure_on_values_can_be_told_from_a_limit() -> None:
    source = Source("{{.}}")
    failed = run_error(source, 2, Problem("no"))
    assert isinstance(failed, TemplateFailed)
    assert "line 1, column 3: no." in failed.message
    over = run_error(source, 2, OverLimit("too much"))
    assert type(over) is BadTemplate
    assert "smaller" in over.message


def test_messages_have_an_end() -> None:
    message = syntax_error(Source(""), 0, "x" * 1000, "y").message
    assert len(message) == 500
    assert message.endswith("x...")
