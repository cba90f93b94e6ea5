"""Makes ``.venv``: packages pinned by hash, llama.cpp's library, the project itself. Standard library only.

``--test`` adds what tests and checks need. A finished environment carries a stamp over everything it was made from, so
a second run only compares. An environment that was interrupted while being made is thrown away and made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from build_libllama import BuildFailed, LlamaBuild, ensure_llama
from setup_steps import Failed, Report, Steps, run_logged

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "localai-setup.json"
UNFINISHED = VENV / "localai-setup.unfinished"
PYTHON = VENV / "bin" / "python"
LIBRARY = VENV / "share" / "localai" / "libllama"
INPUTS = (
    "pyproject.toml",
    "requirements.lock",
    "requirements-dev.lock",
    "requirements-llama.lock",
    "requirements-pip.lock",
    "requirements-build.lock",
    "scripts/setup_env.py",
    "scripts/setup_steps.py",
    "scripts/build_libllama.py",
)
"""What an environment is made from. A change in one of them makes it stale."""
_DEBIAN_PACKAGES = {
    "venv": "python3-venv",
    "c++": "g++",
    "gmp": "libgmp-dev",
    "headers": "python3-dev",
}


def main(arguments: Sequence[str]) -> int:
    """Set up; get the exit code."""
    if unknown := set(arguments) - {"--test"}:
        print(f"scripts/setup knows only --test, not {' '.join(sorted(unknown))}.", file=sys.stderr)
        return 1
    wants_test = "--test" in arguments
    wanted = fingerprint()
    if is_current(wanted, wants_test):
        return 0
    try:
        with only_one():
            if not is_current(wanted, wants_test):
                make(wanted, wants_test)
    except Failed as problem:
        print(f"\n{problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Run it again to go on.", file=sys.stderr)
        return 130
    return 0


def fingerprint() -> str:
    """A hash over everything an environment is made from."""
    digest = hashlib.sha256(sys.version.encode() + str(ROOT).encode())
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def is_current(wanted: str, wants_test: bool) -> bool:
    """True when the environment is finished, made from the same things, and complete enough."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return False
    return bool(stamp.get("fingerprint") == wanted and (stamp.get("test") or not wants_test) and PYTHON.exists())


@contextmanager
def only_one() -> Iterator[None]:
    """Wait until no other set-up of this folder runs."""
    with (ROOT / ".venv.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up of this folder is running; waiting for it.", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make(wanted: str, wants_test: bool) -> None:
    """Make the environment, or bring it up to date.

    Raises:
        Failed: something is missing or went wrong; the message says what to do.
    """
    steps = Steps(5)
    with steps.step("System packages"):
        check_system()
    had_test = STAMP.exists() and bool(json.loads(STAMP.read_text()).get("test"))
    STAMP.unlink(missing_ok=True)
    if UNFINISHED.exists() or not PYTHON.exists():
        shutil.rmtree(VENV, ignore_errors=True)
    with steps.step("Python environment"):
        if not PYTHON.exists():
            VENV.mkdir()
            UNFINISHED.touch()
            run_logged([sys.executable, "-m", "venv", str(VENV)], "The environment could not be made")
        UNFINISHED.touch()
        pip("install", "--require-hashes", "-r", "requirements-pip.lock")
    with steps.step("Python packages"):
        lock = "requirements-dev.lock" if wants_test or had_test else "requirements.lock"
        pip("install", "--require-hashes", "--build-constraint", "requirements-pip.lock", "-r", lock)
        remove_shadowing_stubs()
    with steps.step("llama.cpp") as report:
        install_llama(report)
    with steps.step("localai"):
        pip("install", "--no-deps", "--no-build-isolation", "--editable", ".")
        check_library()
    UNFINISHED.unlink()
    STAMP.write_text(json.dumps({"fingerprint": wanted, "test": wants_test or had_test}))


def pip(*arguments: str, **environment: str) -> None:
    """Run the environment's pip."""
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    run_logged(command, "pip failed", cwd=ROOT, env={**os.environ, **environment})


def check_system() -> None:
    """Make sure that a compiler and headers are there; install them where that is possible without asking.

    Raises:
        Failed: something is missing and only the user can install it.
    """
    missing = [_DEBIAN_PACKAGES[part] for part in missing_parts()]
    if not missing:
        return
    names = " ".join(missing)
    if not shutil.which("apt-get"):
        raise Failed(
            f"localai needs a C++ compiler, GMP and Python's headers and venv. Missing here: {names} (Debian's names)."
        )
    if os.geteuid() != 0:
        raise Failed(f"Some system packages are missing. Install them with: sudo apt-get install {names}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run_logged(["apt-get", "update"], "apt-get update failed", env=environment)
    run_logged(["apt-get", "install", "--yes", "--no-install-recommends", *missing], "apt-get failed", env=environment)
    if still := missing_parts():
        raise Failed(f"These are still missing after apt-get: {' '.join(still)}. Install them and run this again.")


def missing_parts() -> list[str]:
    """Keys of what is not there."""
    parts = [] if importlib.util.find_spec("ensurepip") else ["venv"]
    if not shutil.which("c++"):
        return [*parts, "c++", "gmp", "headers"]
    parts += [] if _has_header("gmp.h") else ["gmp"]
    parts += [] if _has_header("Python.h", sysconfig.get_path("include")) else ["headers"]
    return parts


def _has_header(name: str, folder: str = "") -> bool:
    command = ["c++", "-E", "-x", "c++", "-", *(["-I", folder] if folder else [])]
    result = subprocess.run(command, input=f"#include <{name}>\n".encode(), capture_output=True, check=False)
    return result.returncode == 0


def remove_shadowing_stubs() -> None:
    """trio-typing, which libp2p wants, brings a ``trio-stubs`` folder that hides Trio's own types."""
    for folder in (VENV / "lib").glob("python*/site-packages/trio-stubs"):
        shutil.rmtree(folder)


def install_llama(report: Report) -> None:
    """llama-cpp-python as pure Python with our lean library; the ordinary build where that fails."""
    shutil.rmtree(LIBRARY, ignore_errors=True)
    try:
        built: LlamaBuild = ensure_llama(ROOT, report)
    except BuildFailed as problem:
        print(f"\nThe lean build of llama.cpp failed ({problem}). Building it the ordinary way; this takes longer.")
        pip(
            "install", "--require-hashes", "--no-cache-dir", "--no-deps", "-r", "requirements-llama.lock",
            CMAKE_ARGS="-DGGML_RPC=ON",
        )  # fmt: skip
        return
    pip("install", "--no-deps", "--no-index", "--force-reinstall", str(built.wheel))
    shutil.copytree(built.library, LIBRARY, symlinks=True)


def check_library() -> None:
    """The library loads and its structs are what the program believes."""
    program = "from localai.node.workers.llama.library import import_llama_cpp; import_llama_cpp()"
    run_logged([str(PYTHON), "-c", program], "llama.cpp's library does not work here", cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
