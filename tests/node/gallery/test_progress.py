"""What a person sees of an installation."""

from __future__ import annotations

import io

from localai.node.gallery.install_progress import InstallProgress
from localai.node.gallery.progress import shown_install


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _story(stream: io.StringIO) -> str:
    with shown_install(stream) as show:
        show(InstallProgress("tiny", "waiting"))
        for done in range(0, 101, 5):
            show(InstallProgress("tiny", "downloading", "t.gguf", done << 20, 100 << 20))
        show(InstallProgress("tiny", "unpacking", "t.gguf", 50 << 20, 100 << 20))
        show(InstallProgress("tiny", "done"))
    return stream.getvalue()


def test_lines_now_and_then() -> None:
    assert _story(io.StringIO()).splitlines() == [
        "Waiting for another process that installs tiny",
        "Downloading tiny 0 of 100 MiB",
        "Downloading tiny 25 of 100 MiB",
        "Downloading tiny 50 of 100 MiB",
        "Downloading tiny 75 of 100 MiB",
        "Downloading tiny 100 of 100 MiB",
        "Unpacking tiny 50 of 100 MiB",
        "Installed tiny",
    ]


def test_bars_on_a_terminal() -> None:
    shown = _story(_Terminal())
    assert "Downloading tiny" in shown
    assert "Unpacking tiny" in shown
    assert "Installed tiny" in shown
    assert "\x1b[" in shown


def test_standard_error_is_the_default(capsys: object) -> None:
    with shown_install() as show:
        show(InstallProgress("tiny", "done"))
    out, err = capsys.readouterr()  # type: ignore[attr-defined]  # pytest's fixture
    assert (out, err) == ("", "Installed tiny\n")
