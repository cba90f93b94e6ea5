from __future__ import annotations

from localai.api.errors import STATUS
from localai.api.operations import ANSWERING, EVERYWHERE, UNDECLARED, Operation


def test_statuses_are_ones_that_errors_have() -> None:
    finer = {408, 415}
    assert {*EVERYWHERE, *ANSWERING} <= {*STATUS.values(), *finer}
    assert not set(EVERYWHERE) & set(ANSWERING)


def test_what_declares_nothing_may_fail_in_every_way() -> None:
    assert set(UNDECLARED.errors) > set(ANSWERING)
    assert Operation() != UNDECLARED
