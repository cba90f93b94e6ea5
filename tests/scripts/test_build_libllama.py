"""The cache of builds: what is trusted and what is built again. The build itself is what set-up does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

import build_libllama  # noqa: E402  # scripts are not a package
from setup_steps import Failed, Steps, run_logged  # noqa: E402


def fake_build(target: Path) -> None:
    (target / "lib").mkdir(parents=True)
    (target / "lib" / "libllama.so.0").write_bytes(b"code")
    (target / "lib" / "libllama.so").symlink_to("libllama.so.0")
    (target / "llama_cpp_python-1-py3-none-any.whl").write_bytes(b"wheel")
    (target / build_libllama.MANIFEST).write_text(json.dumps(build_libllama.file_hashes(target)))


def test_a_finished_build_is_used(tmp_path: Path) -> None:
    fake_build(tmp_path / "build")
    assert build_libllama.is_intact(tmp_path / "build")
    built = build_libllama.finished(tmp_path / "build")
    assert built.wheel.suffix == ".whl"
    assert (built.library / "libllama.so").read_bytes() == b"code"


@pytest.mark.parametrize("damage", ["changed", "missing", "added", "relinked", "no manifest", "garbage manifest"])
def test_a_damaged_build_is_not(tmp_path: Path, damage: str) -> None:
    target = tmp_path / "build"
    fake_build(target)
    library = target / "lib" / "libllama.so.0"
    match damage:
        case "changed":
            library.write_bytes(b"c0de")
        case "missing":
            library.unlink()
        case "added":
            (target / "lib" / "evil.so").write_bytes(b"")
        case "relinked":
            (target / "lib" / "libllama.so").unlink()
            (target / "lib" / "libllama.so").symlink_to("elsewhere")
        case "no manifest":
            (target / build_libllama.MANIFEST).unlink()
        case _:
            (target / build_libllama.MANIFEST).write_text("{")
    assert not build_libllama.is_intact(target)


def test_a_folder_that_is_not_there_is_no_build(tmp_path: Path) -> None:
    assert not build_libllama.is_intact(tmp_path / "none")


def test_the_pinned_version_is_read() -> None:
    lock = (SCRIPTS.parent / "requirements-llama.lock").read_text()
    assert build_libllama.pinned_version(lock) == "0.3.36"
    with pytest.raises(Failed):
        build_libllama.pinned_version("nothing")


def test_processor_features_do_not_depend_on_their_order() -> None:
    one = "processor : 0\nflags\t\t: fma avx2\nprocessor : 1\nflags : other\n"
    assert build_libllama.processor_features(one) == "avx2 fma"
    assert build_libllama.processor_features("Features : asimd fp\n") == "asimd fp"
    assert build_libllama.processor_features("") == ""
    assert len(build_libllama.machine_key()) == 16


def test_the_cache_follows_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert build_libllama.cache_folder() == Path("/somewhere/localai-mesh/libllama")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert build_libllama.cache_folder().parent == Path.home() / ".cache" / "localai-mesh"


def test_ninja_progress_is_shown(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []

    def report(text: str, done: int = 0, total: int = 0) -> None:
        seen.append((text, done, total))

    program = "print('[1/2] a'); print('noise'); print('[2/2] b')"
    build_libllama.run_ninja([sys.executable, "-c", program], {}, report)
    assert seen == [("compiling", 1, 2), ("compiling", 2, 2)]
    with pytest.raises(Failed, match="why it broke"):
        build_libllama.run_ninja([sys.executable, "-c", "print('why it broke'); raise SystemExit(1)"], {}, report)


def test_a_program_that_fails_shows_the_end_of_its_output() -> None:
    with pytest.raises(Failed, match=r"(?s)line 99.*It broke \(exit code 3\)"):
        run_logged([sys.executable, "-c", "[print('line', i) for i in range(100)]; raise SystemExit(3)"], "It broke")
    with pytest.raises(Failed, match="could not be started"):
        run_logged(["/does/not/exist"], "It broke")


def test_steps_are_told_in_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    steps = Steps(1)
    with steps.step("Something") as report:
        report("half", 1, 2)
    assert capsys.readouterr().err.splitlines()[0] == "[1/1] Something ..."


def test_a_kept_build_is_used_without_writing_to_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    target = build_libllama.cache_folder() / f"0.3.36-{build_libllama.machine_key()}"
    fake_build(target)
    built = build_libllama.ensure_llama(SCRIPTS.parent, lambda text, done=0, total=0: None)
    assert built.library == target / "lib"
    assert list(target.parent.iterdir()) == [target]
