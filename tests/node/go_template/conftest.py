"""What the templates of these tests are given, as Go was when it printed the expected texts."""

from __future__ import annotations

import pytest

from localai.node.go_template.values import Value


@pytest.fixture(scope="session")
def data() -> Value:
    """A value of every kind by a short name."""
    return {
        "Input": "Hi",
        "N": 3,
        "F": 1.5,
        "T": True,
        "L": ["a", "b", "c"],
        "E": [],
        "M": {"b": 1, "a": 2},
        "S": "x y",
        "Nil": None,
        "EmptyS": "",
        "Z": 0,
        "Nest": {"A": {"B": "deep"}},
        "LL": [[1, 2], [3]],
        "U": "é<b>&\"'",
    }
