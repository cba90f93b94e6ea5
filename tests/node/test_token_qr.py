from __future__ import annotations

import base64

import pytest

from localai.mesh.ids import NetworkId
from localai.mesh.network_token import new_network_token, parse_network_token
from localai.node.token_qr import NoCode, invitation, one_line, render_code, render_picture

TOKEN = new_network_token(lambda length: "k" * length)
TEXT = TOKEN.text.reveal()
LONG = parse_network_token(base64.b64encode(base64.b64decode(TEXT) + b"#" * 3000).decode())
NO_NETWORK = NetworkId("")
WIDTH = 77
"""Modules of the code of a token in LocalAI's form: what fits into a terminal of 80 columns."""


def test_the_invitation_has_the_token_on_its_own_line_and_the_command_for_the_next_machine() -> None:
    lines = invitation(TOKEN, NO_NETWORK).splitlines()
    assert TEXT in lines
    assert f"  LOCALAI_P2P_TOKEN={TEXT} localai run --p2p" in lines
    assert not any("█" in line or "QR" in line for line in lines)


def test_the_command_names_the_network_and_the_program() -> None:
    text = invitation(TOKEN, NetworkId("home"), "local-ai")
    assert f"LOCALAI_P2P_TOKEN={TEXT} local-ai run --p2p --p2p-network-id home\n" in text


def test_a_token_pasted_in_pieces_is_shown_in_one() -> None:
    pasted = parse_network_token(f"{TEXT[:76]}\r\n{TEXT[76:]}\n")
    assert one_line(pasted) == TEXT
    assert invitation(pasted, NO_NETWORK, columns=100) == invitation(TOKEN, NO_NETWORK, columns=100)
    assert render_code(pasted) == render_code(TOKEN)


@pytest.mark.parametrize(("columns", "width"), [(None, 85), (200, 85), (85, 85), (84, 83), (80, 79), (79, 79)])
def test_the_rim_is_as_wide_as_the_terminal_allows(columns: int | None, width: int) -> None:
    lines = render_code(TOKEN, columns).splitlines()
    assert {len(line) for line in lines} == {width}
    assert len(lines) == (width + 1) // 2
    assert set("".join(lines)) == set(" ▀▄█")


def test_a_narrow_terminal_gets_a_note() -> None:
    with pytest.raises(NoCode, match=f"needs {WIDTH + 2} columns and this terminal has 78"):
        render_code(TOKEN, 78)
    text = invitation(TOKEN, NO_NETWORK, columns=78)
    assert "(The QR code needs 79 columns" in text
    assert "█" not in text
    assert TEXT in text
    assert render_code(TOKEN, 79).rstrip("\n") in invitation(TOKEN, NO_NETWORK, columns=79)


def test_a_token_too_long_for_a_code_is_still_handed_on() -> None:
    with pytest.raises(NoCode, match="No QR code holds the"):
        render_code(LONG)
    assert "(No QR code holds the" in invitation(LONG, NO_NETWORK, columns=200)


def test_pictures() -> None:
    assert render_picture(TOKEN, "png").startswith(b"\x89PNG")
    assert b"<svg" in render_picture(TOKEN, "svg")
    with pytest.raises(NoCode):
        render_picture(LONG, "png")
