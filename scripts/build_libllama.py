"""Builds what is needed of llama.cpp from llama-cpp-python's own source package. Standard library only.

The ordinary build compiles tools, a server and multimodal parts that nothing here loads: 1,147 CPU-seconds against
about 300 for the library alone. The result, with llama-cpp-python as a pure Python wheel, is kept per user, by version,
processor and build flags, so that the next clone does not build again. A kept build is used only if every file has its
recorded hash.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from setup_steps import Failed, Report, held_locks, run_logged

CMAKE_FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DGGML_RPC=ON",
    "-DGGML_NATIVE=ON",
    "-DGGML_CCACHE=OFF",
    "-DLLAMA_BUILD_COMMON=OFF",
    "-DLLAMA_BUILD_TOOLS=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN",
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
)
TARGETS = ("llama", "ggml-rpc")
MANIFEST = "manifest.json"
_NINJA_STEP = re.compile(r"^\[(\d+)/(\d+)\]")
_PINNED = re.compile(r"^llama-cpp-python==([\w.]+)", re.MULTILINE)


class BuildFailed(Exception):
    """The lean build did not work here."""


@dataclass(frozen=True)
class LlamaBuild:
    """A finished build."""

    wheel: Path
    library: Path


def ensure_llama(root: Path, report: Report) -> LlamaBuild:
    """The kept build for this machine, built now if there is none.

    Raises:
        BuildFailed: it cannot be built in the lean way.
        Failed: nothing can be downloaded, or there is no place to keep it.
    """
    version = pinned_version((root / "requirements-llama.lock").read_text())
    cache = cache_folder()
    target = cache / f"{version}-{machine_key()}"
    if is_intact(target):  # also where the cache can only be read
        return finished(target)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "build.lock").open("w") as lock:
            report("waiting for another build")
            fcntl.flock(lock, fcntl.LOCK_EX)
            held_locks.add(lock.fileno())
            try:
                if not is_intact(target):
                    shutil.rmtree(target, ignore_errors=True)
                    build(root, cache, target, report)
            finally:
                held_locks.discard(lock.fileno())
    except OSError as error:
        reason = f"{error.strerror or error}: {error.filename or cache}"
        raise Failed(f"The cache folder cannot be used ({reason}). Set XDG_CACHE_HOME to a folder that can.") from error
    return finished(target)


def pinned_version(lock: str) -> str:
    """The version that the lock names."""
    found = _PINNED.search(lock)
    if found is None:
        raise Failed("requirements-llama.lock does not name llama-cpp-python. Restore it from the repository.")
    return found[1]


def cache_folder() -> Path:
    """Where builds are kept for this user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "localai-mesh" / "libllama"


def machine_key() -> str:
    """A name for what the compiled code depends on: processor features, libc, build flags."""
    features = processor_features(Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else "")
    parts = [platform.machine(), *platform.libc_ver(), features, *CMAKE_FLAGS, *TARGETS]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def processor_features(cpuinfo: str) -> str:
    """The sorted features of the first processor in the text of ``/proc/cpuinfo``."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return " ".join(sorted(value.split()))
    return ""


def is_intact(target: Path) -> bool:
    """True when the folder holds a finished build and every file is what it was."""
    try:
        manifest = json.loads((target / MANIFEST).read_text())
    except (OSError, ValueError):
        return False
    return bool(manifest) and manifest == file_hashes(target)


def file_hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below, links by what they point to."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.name == MANIFEST or not (path.is_symlink() or path.is_file()):
            continue
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        hashes[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return hashes


def finished(target: Path) -> LlamaBuild:
    """The parts of a build."""
    (wheel,) = target.glob("*.whl")
    return LlamaBuild(wheel, target / "lib")


def build(root: Path, cache: Path, target: Path, report: Report) -> None:
    """Build in a temporary folder beside ``target`` and move the result there at the end."""
    for leftover in cache.glob("building-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="building-", dir=cache) as temporary:
        work = Path(temporary)
        try:
            report("build tools")
            tools = build_environment(root, work)
            report("source package")
            source = fetch_source(root, work, tools)
            result = work / "result"
            result.mkdir()
            report("Python part")
            build_wheel(source, result, tools)
            compile_library(source / "vendor" / "llama.cpp", work, result, tools, report)
        except Failed as problem:
            raise BuildFailed(str(problem)) from problem
        (result / MANIFEST).write_text(json.dumps(file_hashes(result)))
        result.rename(target)


def build_environment(root: Path, work: Path) -> Path:
    """A throw-away environment with cmake, ninja and the build backend, pinned by hash; the path of its programs."""
    folder = work / "tools"
    run_logged([sys.executable, "-m", "venv", str(folder)], "The build environment could not be made")
    python = str(folder / "bin" / "python")
    lock = str(root / "requirements-build.lock")
    run_logged([python, "-m", "pip", "install", "--require-hashes", "-r", lock], "pip failed")
    return folder / "bin"


def fetch_source(root: Path, work: Path, tools: Path) -> Path:
    """The unpacked source package, its hash checked by pip."""
    folder = work / "source"
    arguments = ["--no-deps", "--no-build-isolation", "--require-hashes", "--no-binary", ":all:", "--no-cache-dir"]
    lock = str(root / "requirements-llama.lock")
    _pip(tools, "download", *arguments, "--dest", str(folder), "-r", lock)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4; before it the pinned hash alone vouches for the archive
            tar.extraction_filter = tarfile.data_filter
        tar.extractall(folder)
    archive.unlink()
    (source,) = folder.iterdir()
    return source


def build_wheel(source: Path, result: Path, tools: Path) -> None:
    """llama-cpp-python without any library in it. It must never get into pip's cache, where others would find it."""
    arguments = ["--no-deps", "--no-build-isolation", "--no-cache-dir", "--wheel-dir", str(result)]
    _pip(tools, "wheel", *arguments, str(source), CMAKE_ARGS="-DLLAMA_BUILD=OFF")


def _pip(tools: Path, *arguments: str, **environment: str) -> None:
    path = f"{tools}:{os.environ.get('PATH', os.defpath)}"
    command = [str(tools / "python"), "-m", "pip", "--disable-pip-version-check", *arguments]
    run_logged(command, "pip failed", env={**os.environ, "PATH": path, **environment})


def compile_library(source: Path, work: Path, result: Path, tools: Path, report: Report) -> None:
    """Configure and compile with ninja; collect the shared libraries."""
    path = f"{tools}:{os.environ.get('PATH', os.defpath)}"
    environment = {**os.environ, "PATH": path}
    folder = work / "build"
    configure = [str(tools / "cmake"), "-G", "Ninja", "-S", str(source), "-B", str(folder), *CMAKE_FLAGS]
    run_logged(configure, "cmake failed", env=environment)
    run_ninja([str(tools / "ninja"), "-C", str(folder), *TARGETS], environment, report)
    (result / "lib").mkdir()
    for library in (folder / "bin").glob("*.so*"):
        shutil.copy2(library, result / "lib" / library.name, follow_symlinks=False)


def run_ninja(command: Sequence[str], environment: dict[str, str], report: Report) -> None:
    """Run ninja with its count of steps shown.

    Raises:
        Failed: a step failed.
    """
    last: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = [*last[-24:], line.rstrip()]
            if step := _NINJA_STEP.match(line):
                report("compiling", int(step[1]), int(step[2]))
    if process.returncode != 0:
        raise Failed("\n".join([*last, "", "Compiling llama.cpp failed; the last lines are above."]))
