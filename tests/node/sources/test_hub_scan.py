"""The hub's scan."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.sources.hub_scan import hub_scan_verdict

CLEAN = {
    "repositoryId": "models/o/r",
    "revision": "x",
    "hasUnsafeFile": False,
    "clamAVInfectedFiles": [],
    "dangerousPickles": [],
    "scansDone": True,
}


def test_a_clean_repository() -> None:
    assert hub_scan_verdict(CLEAN) == ()


@pytest.mark.parametrize(
    ("change", "severity", "words"),
    [
        ({"hasUnsafeFile": True, "clamAVInfectedFiles": ["a.bin"]}, "refuse", "malware in a.bin."),
        (
            {"dangerousPickles": list("abcdefg")},
            "refuse",
            "code that would run on loading in a, b, c, d, e and 2 more.",
        ),
        ({"hasUnsafeFile": True}, "refuse", "has an unsafe file"),
        ({"scansDone": False}, "note", "has not finished"),
        ({"clamAVInfectedFiles": ["a"], "scansDone": False}, "refuse", "malware"),
    ],
)
def test_what_the_hub_found(change: dict[str, Any], severity: str, words: str) -> None:
    (finding,) = hub_scan_verdict(CLEAN | change)
    assert finding.severity == severity
    assert words in finding.sentence


@given(
    st.none()
    | st.integers()
    | st.lists(st.integers())
    | st.dictionaries(st.sampled_from(sorted(CLEAN)), st.none() | st.text())
)
def test_an_unreadable_scan_refuses_nothing(value: Any) -> None:
    assert [finding.severity for finding in hub_scan_verdict(value)] == ["note"]
