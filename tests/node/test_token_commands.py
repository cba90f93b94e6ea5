from __future__ import annotations

import os
import pty
import stat
from pathlib import Path

import pytest

from localai.mesh.errors import SetupError
from localai.mesh.network_token import BadNetworkToken, new_network_token, parse_network_token
from localai.node.option_table import TOKEN_NEW, options_of
from localai.node.option_values import Places
from localai.node.options import UsageError, Values, resolve
from localai.node.token_commands import print_inspection, print_new_token, show_code
from localai.node.token_qr import NoCode, render_code, render_picture
from localai.node.token_report import fingerprint

TOKEN = new_network_token(lambda length: "k" * length)


def values(**given: str) -> Values:
    given_texts = {key: [text] for key, text in given.items()}
    return resolve(options_of(TOKEN_NEW), given_texts, {}, Places(Path("/"), Path("/")))


def test_a_new_token_is_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_new_token(values(p2p_dht_interval="60", p2p_otp_interval="600"), "localai") == 0
    out, err = capsys.readouterr()
    token = parse_network_token(out)
    assert out == f"{token.text.reveal()}\n"
    assert (token.dht.interval_s, token.crypto.interval_s) == (60, 600)
    assert err == ""


def test_a_person_gets_a_hint(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    print_new_token(values(), "localai")
    out, err = capsys.readouterr()
    assert fingerprint(parse_network_token(out)) in err


def test_an_interval_that_no_token_takes_is_refused() -> None:
    with pytest.raises(BadNetworkToken, match=r"'otp\.dht\.interval'"):
        print_new_token(values(p2p_dht_interval="1000000000"), "localai")


def test_an_inspection_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_inspection(TOKEN) == 0
    assert fingerprint(TOKEN) in capsys.readouterr().out


def test_without_a_terminal_the_code_is_shown_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_code(TOKEN, None) == 0
    assert capsys.readouterr().out == render_code(TOKEN)


def test_a_narrow_terminal_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal, shown_on = pty.openpty()
    with os.fdopen(terminal, "rb"), os.fdopen(shown_on, "w") as out:
        monkeypatch.setattr("sys.stdout", out)
        with pytest.raises(NoCode, match="this terminal has 40"):
            show_code(TOKEN, None)


@pytest.mark.parametrize(("name", "kind"), [("code.svg", "svg"), ("code.PNG", "png")])
def test_a_picture_is_for_its_owner_only(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    path.write_text("something longer that was there before" * 1000)
    path.chmod(0o644)
    assert show_code(TOKEN, path) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    expected = render_picture(TOKEN, "svg" if kind == "svg" else "png")
    assert path.read_bytes() == expected


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r'must end in \.svg or \.png, not "code\.gif"'):
        show_code(TOKEN, tmp_path / "code.gif")
    with pytest.raises(SetupError, match="cannot be written: no such file or directory"):
        show_code(TOKEN, tmp_path / "gone" / "code.svg")
