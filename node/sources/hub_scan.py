"""What the hub's own scan says of a repository (pure).

Source: ``GET /api/models/<repo>/scan``: ``repositoryId``, ``revision``, ``hasUnsafeFile``, ``clamAVInfectedFiles``,
``dangerousPickles``, ``scansDone``.
"""

from __future__ import annotations

from typing import Any

from localai.node.sources.safety import Finding

_SHOWN = 5


def hub_scan_verdict(value: Any) -> tuple[Finding, ...]:
    """Findings from the decoded answer: refusals for what the hub found unsafe, a note when it has not looked."""
    if not isinstance(value, dict):
        return (Finding("note", "The hub gave no readable scan of this repository."),)
    infected, pickles = _names(value.get("clamAVInfectedFiles")), _names(value.get("dangerousPickles"))
    findings = []
    if infected:
        findings.append(Finding("refuse", f"The hub found malware in {_listed(infected)}."))
    if pickles:
        findings.append(Finding("refuse", f"The hub found code that would run on loading in {_listed(pickles)}."))
    if value.get("hasUnsafeFile") is True and not findings:
        findings.append(Finding("refuse", "The hub says that this repository has an unsafe file."))
    if value.get("scansDone") is not True and not findings:
        findings.append(Finding("note", "The hub has not finished its scan of this repository."))
    return tuple(findings)


def _names(value: Any) -> list[str]:
    return [str(name)[:200] for name in value] if isinstance(value, list) else []


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
