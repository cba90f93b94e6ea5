from __future__ import annotations

import pytest

from localai.node.go_template.errors import OverLimit
from localai.node.go_template.limits import (
    MAX_NESTING,
    MAX_STEPS,
    MAX_TEXT_CHARS,
    Budget,
    check_nesting,
    check_text_size,
)


def test_a_budget_ends_with_its_last_step() -> None:
    budget = Budget()
    budget.spend(MAX_STEPS - 1)
    budget.spend()
    with pytest.raises(OverLimit, match="100000 steps"):
        budget.spend()


def test_handling_costs_by_size() -> None:
    budget = Budget(steps=20)
    budget.handle("x" * 640)
    budget.handle([1] * 20)
    budget.handle({str(key): key for key in range(20)})
    budget.handle(12345)
    with pytest.raises(OverLimit):
        budget.handle("x" * 64)


def test_sizes_and_nesting_are_allowed_up_to_their_limit() -> None:
    check_text_size(MAX_TEXT_CHARS)
    check_nesting(MAX_NESTING)
    with pytest.raises(OverLimit, match="1 MiB"):
        check_text_size(MAX_TEXT_CHARS + 1)
    with pytest.raises(OverLimit, match="64 levels"):
        check_nesting(MAX_NESTING + 1)
