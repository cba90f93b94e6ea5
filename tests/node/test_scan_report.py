from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.scan_report import FOUND, NOT_ALL_SEEN, ScanRow, exit_code, render_scan
from localai.node.sources.safety import Finding

REFUSED = Finding("refuse", "The file 'a.bin' has the name of a Python pickle, which can run any program.")
OK = ScanRow("tiny", "tiny.gguf")
BAD = ScanRow("org/repo", "names of 3 files", (Finding("note", "Good to know."), REFUSED))
ODD = ScanRow("odd", "odd.gguf", (Finding("warn", "Look at it."),))
GONE = ScanRow("gone", "gone.gguf", (Finding("note", "It is not here."),), seen=False)

findings = st.builds(Finding, st.sampled_from(["refuse", "warn", "note"]), st.text(max_size=40))
names = st.text(max_size=60)
rows = st.lists(st.builds(ScanRow, names, names, st.lists(findings, max_size=3).map(tuple), st.booleans()))


@pytest.mark.parametrize(
    ("row", "verdict"),
    [(OK, "ok"), (BAD, "refused"), (ODD, "look"), (GONE, "unknown"), (ScanRow("m", "f", (REFUSED,), False), "refused")],
)
def test_the_worst_finding_is_the_verdict(row: ScanRow, verdict: str) -> None:
    assert row.verdict == verdict


def test_a_script_learns_what_to_do_from_the_code() -> None:
    assert exit_code([]) == 0
    assert exit_code([OK, ODD]) == 0
    assert exit_code([OK, GONE]) == NOT_ALL_SEEN == 2
    assert exit_code([GONE, BAD, OK]) == FOUND == 1


def test_the_table_fits_a_terminal() -> None:
    assert render_scan([OK, BAD, ODD, GONE], 80) == (
        "VERDICT  MODEL     WHAT\n"
        "ok       tiny      tiny.gguf\n"
        "refused  org/repo  names of 3 files\n"
        "         Good to know.\n"
        "         The file 'a.bin' has the name of a Python pickle, which can run any\n"
        "         program.\n"
        "look     odd       odd.gguf\n"
        "         Look at it.\n"
        "unknown  gone      gone.gguf\n"
        "         It is not here.\n"
        "\n"
        "1 must not be used, 1 could not be looked at, 1 to look at yourself, 1 without a\n"
        "finding. Known kinds of danger are looked for: this is no proof that a file is\n"
        "harmless.\n"
    )


def test_long_names_are_not_cut_off() -> None:
    text = render_scan([ScanRow("m" * 60, "f" * 60)], 80)
    assert f"ok       {'m' * 60}\n         {'f' * 60}\n" in text


def test_many_findings_are_counted() -> None:
    text = render_scan([ScanRow("m", "f", (REFUSED,) * 23)], 80)
    assert text.count("Python pickle") == 20
    assert "... and 3 more." in text


def test_nothing_at_all() -> None:
    assert render_scan([], 80) == "There was nothing to look at.\n"


@given(rows, st.integers(-1, 200))
def test_no_name_reaches_the_terminal_with_control_characters(made: list[ScanRow], columns: int) -> None:
    text = render_scan(made, columns)
    assert text.replace("\n", "").isprintable()
    assert exit_code(made) in (0, 1, 2)
