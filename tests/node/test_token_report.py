from __future__ import annotations

from localai.mesh.network_token import new_network_token, parse_network_token
from localai.mesh.otp import rendezvous_at, window_at
from localai.node.token_report import fingerprint, render_inspection, render_new_token_hint

TOKEN = new_network_token(lambda length: "k" * length, dht_interval_s=60, crypto_interval_s=600)
OTHER = new_network_token(lambda length: "j" * length)
NOW = 1_750_000_000.5


def test_the_fingerprint_tells_tokens_apart_and_not_how_they_were_pasted() -> None:
    text = TOKEN.text.reveal()
    assert fingerprint(parse_network_token(f" {text[:10]}\n{text[10:]}\n")) == fingerprint(TOKEN)
    assert fingerprint(TOKEN) != fingerprint(OTHER)
    assert len(fingerprint(TOKEN)) == 8
    int(fingerprint(TOKEN), 16)


def test_the_inspection_says_everything_but_secrets() -> None:
    text = render_inspection(TOKEN, NOW)
    rendezvous, topic = rendezvous_at(TOKEN, NOW), window_at(TOKEN, NOW).topic
    assert text.splitlines() == [
        "usable:       yes",
        f"fingerprint:  {fingerprint(TOKEN)} (the same on every machine that has this token)",
        f"rendezvous:   {rendezvous[:8]}..., new every 60 s",
        f"topic:        {topic[:8]}..., new every 600 s",
        "next topic:   in 200 s",
        "max message:  20971520 bytes",
    ]
    assert "kkk" not in text
    assert TOKEN.text.reveal() not in text


def test_the_hint_for_a_new_token_does_not_repeat_it() -> None:
    text = render_new_token_hint(TOKEN, "local-ai")
    assert fingerprint(TOKEN) in text
    assert "LOCALAI_P2P_TOKEN=<token> local-ai run --p2p\n" in text
    assert TOKEN.text.reveal() not in text
