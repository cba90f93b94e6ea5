"""What may be wrong with a file from outside, judged by its name, first bytes and list of contents (pure).

Formats that run code when they are loaded (pickles, and PyTorch's archives of them) are refused unless they are asked
for. Findings are for people to read: a refusal stops an installation, the others are shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from localai.mesh.errors import Forbidden

HEAD_BYTES = 64
"""How many first bytes :func:`content_findings` wants."""
_PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill")
_GGML_NAME = re.compile(r"(?:.*/)?(?:for-tests-)?ggml-[^/]*\.bin", re.IGNORECASE)
_SAFE_MAGICS = (b"GGUF", b"lmgg", b"tjgg", b"fmgg")
_ZIP_MAGIC = b"PK\x03\x04"
_PICKLE_PROTOCOLS = range(2, 6)

Severity: TypeAlias = Literal["refuse", "warn", "note"]
"""``refuse``: must not be used. ``warn``: a person should look. ``note``: good to know."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found."""

    severity: Severity
    sentence: str


def name_findings(filename: str, *, allow_pickle: bool = False) -> tuple[Finding, ...]:
    """What the name says before anything is fetched. ``ggml-*.bin`` is an old format without code in it."""
    if not filename.lower().endswith(_PICKLE_ENDINGS) or _GGML_NAME.fullmatch(filename):
        return ()
    return (_pickle(filename, "has the name of a Python pickle", allow_pickle=allow_pickle),)


def content_findings(
    filename: str, head: bytes, zip_names: Iterable[str] | None, *, allow_pickle: bool = False
) -> tuple[Finding, ...]:
    """What the first :data:`HEAD_BYTES` say, and the names in it where it is a zip archive (else None)."""
    if is_pickle(head):
        return (_pickle(filename, "is a Python pickle", allow_pickle=allow_pickle),)
    inside = next((name for name in zip_names or () if name.lower().endswith((".pkl", ".pickle"))), None)
    if inside is not None:
        return (_pickle(filename, f"holds the Python pickle {inside[:100]!r}", allow_pickle=allow_pickle),)
    if head.startswith(_SAFE_MAGICS):
        return ()
    if filename.lower().endswith(".gguf"):
        return (Finding("refuse", f"The file '{filename}' is not the GGUF file that its name promises."),)
    return name_findings(filename, allow_pickle=allow_pickle)


def is_pickle(head: bytes) -> bool:
    """True for the first bytes of a pickle of protocol 2 to 5, which PyTorch's old format is too."""
    return len(head) > 1 and head[0] == 0x80 and head[1] in _PICKLE_PROTOCOLS


def is_zip(head: bytes) -> bool:
    """True for the first bytes of a zip archive."""
    return head.startswith(_ZIP_MAGIC)


def raise_if_refused(findings: Sequence[Finding]) -> None:
    """Pass findings that do not forbid the use of a file.

    Raises:
        Forbidden: one does.
    """
    reasons = [finding.sentence for finding in findings if finding.severity == "refuse"]
    if reasons:
        message = f"{' '.join(reasons[:3])} It was not installed; use a copy from a source that you trust."
        raise Forbidden(message, code="unsafe_model_file")


def _pickle(filename: str, problem: str, *, allow_pickle: bool) -> Finding:
    sentence = f"The file '{filename}' {problem}, which can run any program when it is loaded."
    return Finding("warn" if allow_pickle else "refuse", sentence)
