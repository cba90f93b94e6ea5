"""The look at a file that was fetched, before it is used (shell, blocking)."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path

from localai.node.sources.gguf_check import check_gguf
from localai.node.sources.gguf_metadata import MAX_FRONT_BYTES
from localai.node.sources.safety import HEAD_BYTES, Finding, content_findings, is_zip

_FIRST_READ_BYTES = 4 << 20


def check_file(
    path: Path,
    *,
    name: str | None = None,
    allow_pickle: bool = False,
    architectures: Collection[str] | None = None,
) -> tuple[Finding, ...]:
    """Findings of a file by its content; call it in a thread. ``name`` is what it will be called, if not as it is now.

    ``architectures`` are those an engine can run; None to accept all.

    Raises:
        OSError: it cannot be read.
    """
    name = name or path.name
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if not head.startswith(b"GGUF"):
            names = _zip_names(path) if is_zip(head) else ()
            if names is None:
                return (Finding("refuse", f"The file '{name}' is a damaged zip archive."),)
            return content_findings(name, head, names, allow_pickle=allow_pickle)
        size = path.stat().st_size
        data = head + file.read(_FIRST_READ_BYTES - len(head))
        findings = check_gguf(data, size, name, architectures)
        if len(data) < size and any(finding.severity == "refuse" for finding in findings):
            data += file.read(MAX_FRONT_BYTES - len(data))
            findings = check_gguf(data, size, name, architectures)
        return findings


def _zip_names(path: Path) -> list[str] | None:
    """Names in a zip archive; None when it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return None
