from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from localai.node.go_template.nodes import Command, Dot, Pipeline, Text, Tree


def test_a_tree_is_a_value_that_never_changes() -> None:
    pipeline = Pipeline(2, (Command(2, (Dot(2),)),))
    assert pipeline == Pipeline(2, (Command(2, (Dot(2),)),))
    assert pipeline.variables == ()
    tree = Tree((Text(0, "a"),), {})
    with pytest.raises(FrozenInstanceError):
        tree.body = ()  # type: ignore[misc]  # that is the point
