"""What pip prints and what we make of it."""

from __future__ import annotations

import pytest

from localai.mesh.errors import LocalAIError, SetupError, Unavailable, UpstreamFailed
from localai.node.gallery.pip_output import error_from_pip, parse_pip_progress, pip_lacks_raw_progress


@pytest.mark.parametrize(
    ("line", "progress"),
    [
        ("Progress 0 of 92871040", (0, 92871040)),
        ("Progress 262144\n", (262144, 0)),
        ("Progress", None),
        ("Progress x of y", None),
        ("Saved ./a.whl", None),
        ("Progress " + "9" * 30, None),
    ],
)
def test_progress_lines(line: str, progress: tuple[int, int] | None) -> None:
    assert parse_pip_progress(line) == progress


def test_an_old_pip_is_recognised() -> None:
    usage = "option --progress-bar: invalid choice: 'raw' (choose from 'on', 'off')"
    assert pip_lacks_raw_progress(["Usage:", usage])
    assert not pip_lacks_raw_progress(["ERROR: no such option: --progress-bat"])


@pytest.mark.parametrize(
    ("line", "kind", "code", "says"),
    [
        ("/venv/bin/python: No module named pip", SetupError, "no_pip", "Run '/py -m ensurepip' and try again."),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", UpstreamFailed, "hash_mismatch",
         "was thrown away"),
        ("OSError: [Errno 28] No space left on device", SetupError, "disk_full", "Free some space"),
        ("PermissionError: [Errno 13] Permission denied: 'x'", SetupError, "models_path", "permissions"),
        ("SSLError(SSLCertVerificationError(1, 'certificate verify failed'))", Unavailable, "offline", "certificate"),
        ("WARNING: Retrying after connection broken by 'NewConnectionError'", Unavailable, "offline", "network"),
        ("ERROR: No matching distribution found for a==1", Unavailable, "offline", "Check the network"),
        ("ReadTimeoutError: Read timed out.", Unavailable, "offline", "Check the network"),
        ("ERROR: something new", UpstreamFailed, "download_failed", "could not download a==1: ERROR: something new."),
        ("Traceback", UpstreamFailed, "download_failed", "could not download a==1: it gave no reason."),
    ],
)  # fmt: skip
def test_every_failure_names_the_next_step(line: str, kind: type[LocalAIError], code: str, says: str) -> None:
    error = error_from_pip("a==1", "/py", ["Collecting a==1", line])
    assert type(error) is kind
    assert error.code == code
    assert says in error.message
    assert line in error.detail
