from __future__ import annotations

import pytest

from localai.node.routing.replica import ReplicaLoad, in_flight_now


@pytest.mark.parametrize(
    ("active", "yours", "ours", "expected"),
    [
        (0, 0, 0, 0),
        (5, 0, 0, 5),
        (5, 2, 3, 6),
        (5, 5, 0, 0),
        (1, 4, 2, 2),  # the peer has not counted what has just ended
    ],
)
def test_requests_of_others_as_told_and_ours_as_known(active: int, yours: int, ours: int, expected: int) -> None:
    assert in_flight_now(ReplicaLoad("m", active=active, yours=yours), ours) == expected
