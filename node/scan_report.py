"""What a scan for dangerous files found, as a table for people and an exit code for scripts (pure)."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from localai.node.sources.safety import Finding

FOUND = 1
NOT_ALL_SEEN = 2
_SHOWN = 20
_MARGIN = 9
_MIN_COLUMNS = 40

Verdict: TypeAlias = Literal["refused", "unknown", "look", "ok"]
"""``refused``: must not be used. ``unknown``: it could not be looked at. ``look``: a person should."""

_SUMMARY: dict[Verdict, str] = {
    "refused": "must not be used",
    "unknown": "could not be looked at",
    "look": "to look at yourself",
    "ok": "without a finding",
}


@dataclass(frozen=True, slots=True)
class ScanRow:
    """One thing that was looked at. ``seen`` is False when it could not be."""

    model: str
    what: str
    """A file, or what was asked about it."""
    findings: tuple[Finding, ...] = ()
    seen: bool = True

    @property
    def verdict(self) -> Verdict:
        """The worst of the findings."""
        severities = {finding.severity for finding in self.findings}
        if "refuse" in severities:
            return "refused"
        if not self.seen:
            return "unknown"
        return "look" if "warn" in severities else "ok"


def exit_code(rows: Sequence[ScanRow]) -> int:
    """0 when all was seen and is fine, :data:`FOUND` when something must not be used, else :data:`NOT_ALL_SEEN`."""
    verdicts = {row.verdict for row in rows}
    if "refused" in verdicts:
        return FOUND
    return NOT_ALL_SEEN if "unknown" in verdicts else 0


def render_scan(rows: Sequence[ScanRow], columns: int) -> str:
    """The table in ``columns`` characters, and a summary; names that are longer are not cut off."""
    if not rows:
        return "There was nothing to look at.\n"
    columns = max(columns, _MIN_COLUMNS)
    model_width = min(max(len("MODEL"), *(len(row.model) for row in rows)), columns // 3)
    lines = [f"{'VERDICT':{_MARGIN}}{'MODEL':{model_width}}  WHAT"]
    for row in rows:
        lines += _row(row, model_width, columns)
    counts = Counter(row.verdict for row in rows)
    summary = ", ".join(f"{counts[verdict]} {words}" for verdict, words in _SUMMARY.items() if counts[verdict])
    closing = f"{summary}. Known kinds of danger are looked for: this is no proof that a file is harmless."
    return "\n".join([*lines, "", *textwrap.wrap(closing, columns)]) + "\n"


def _row(row: ScanRow, model_width: int, columns: int) -> list[str]:
    model, what = _plain(row.model), _plain(row.what)
    line = f"{row.verdict:{_MARGIN}}{model:{model_width}}  {what}"
    lines = [line] if len(line) <= columns else [f"{row.verdict:{_MARGIN}}{model}", f"{'':{_MARGIN}}{what}"]
    sentences = [_plain(finding.sentence) for finding in row.findings[:_SHOWN]]
    if len(row.findings) > _SHOWN:
        sentences.append(f"... and {len(row.findings) - _SHOWN} more.")
    margin = " " * _MARGIN
    for sentence in sentences:
        lines += textwrap.wrap(
            sentence, columns, initial_indent=margin, subsequent_indent=margin, break_long_words=False
        )
    return lines


def _plain(text: str) -> str:
    """Without control characters, so that a name cannot write to the terminal as it likes."""
    return "".join(char if char.isprintable() else "?" for char in text)
