from __future__ import annotations

import base64
import json
import random
from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.network_token import (
    ALPHABET,
    DEFAULT_MAX_MESSAGE_BYTES,
    KEY_CHARS,
    BadNetworkToken,
    new_network_token,
    parse_network_token,
)

EXAMPLE = {
    "otp": {
        "dht": {"interval": 360, "key": "Tb4YqWm9ZkRx7NcV2LhPs5GdJf8UaEo3KiMt6QnXrC1", "length": 43},
        "crypto": {"interval": 9000, "key": "Hv8LcXr3QbNm5ZtKs9WyPd2GfJa7UeRo4TiMk6VxYn1", "length": 43},
    },
    "room": "pQ7mZr2VxKc9LbT4nWd8HsYf6GjA3uEoRi5CkXqMvB1",
    "rendezvous": "aN3xUe8TkSv5BqLw2ZcRm9YhPd7GfJo4Hi6MtVyKr1Q",
    "mdns": "Kz5WbQ8rTnX2cVm7LsYd4HgPf9JuAe3RoNi6MkGxUv1",
    "max_message_size": 20971520,
}


def encoded(document: object) -> str:
    text = document if isinstance(document, str) else yaml.safe_dump(document, sort_keys=False)
    return base64.b64encode(text.encode()).decode()


def changed(path: str, value: object) -> str:
    document = yaml.safe_load(yaml.safe_dump(EXAMPLE))
    *parents, last = path.split(".")
    part = document
    for name in parents:
        part = part[name]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return encoded(document)


def test_a_token_of_localai_is_read_and_its_text_kept() -> None:
    text = encoded(EXAMPLE)
    token = parse_network_token(f"  {text[:80]}\r\n{text[80:]}\n")
    assert token.dht.key.reveal() == EXAMPLE["otp"]["dht"]["key"]  # type: ignore[index]  # a literal above
    assert (token.dht.interval_s, token.crypto.interval_s, token.crypto.length) == (360, 9000, 43)
    assert token.room.reveal() == EXAMPLE["room"]
    assert token.mdns.reveal() == EXAMPLE["mdns"]
    assert token.max_message_bytes == DEFAULT_MAX_MESSAGE_BYTES
    assert parse_network_token(text).text.reveal() == text


def test_json_is_yaml_and_unknown_keys_are_for_later() -> None:
    assert parse_network_token(encoded(json.dumps({**EXAMPLE, "new": [1, {"x": 2}]}))).room


def test_keys_that_look_like_something_else_stay_text() -> None:
    for value in ("1234567890", "1e5", "0x10", "true", "null", "2026-11-24", "~"):
        assert parse_network_token(encoded(f"{yaml_head()}\nroom: {value}\nmdns: {value}\n")).room.reveal() == value


def yaml_head() -> str:
    return yaml.safe_dump({"otp": EXAMPLE["otp"], "max_message_size": 65536})


def test_nothing_secret_is_shown() -> None:
    token = parse_network_token(encoded(EXAMPLE))
    shown = repr(token) + str(token)
    for secret in (encoded(EXAMPLE), EXAMPLE["room"], EXAMPLE["mdns"], "Tb4Yq"):
        assert str(secret) not in shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (" \n ", "is empty"),
        ("a" * 8193, "more than 8192"),
        ("abcd efgh", "blanks inside"),
        ("ab-_", "URL form"),
        ("abc!", "characters that no token has"),
        (encoded(EXAMPLE)[:-3], "cut off"),
        (encoded("just text"), "token document"),
        (encoded("- a\n- b\n"), "token document"),
        (encoded("a: [unclosed"), "token document"),
        (base64.b64encode(b"\xff\xfe\x00\x01").decode(), "token document"),
        (encoded("a: &x 1\nb: *x\n"), "token document"),
        (encoded("[" * 3000), "token document"),
        (changed("otp", None), "'otp'"),
        (changed("otp.dht", None), "'otp.dht'"),
        (changed("otp.crypto", "x"), "'otp.crypto'"),
        (changed("otp.dht.key", ""), "'otp.dht.key'"),
        (changed("otp.crypto.key", None), "'otp.crypto.key'"),
        (changed("otp.dht.key", {"a": 1}), "'otp.dht.key'"),
        (changed("otp.dht.interval", 0), "'otp.dht.interval'"),
        (changed("otp.dht.interval", -5), "'otp.dht.interval'"),
        (changed("otp.dht.interval", 1.5), "'otp.dht.interval'"),
        (changed("otp.crypto.interval", None), "'otp.crypto.interval'"),
        (changed("otp.crypto.interval", 10**13), "'otp.crypto.interval'"),
        (changed("otp.dht.length", 0), "'otp.dht.length'"),
        (changed("otp.crypto.length", 45), "'otp.crypto.length'"),
        (changed("room", ""), "'room'"),
        (changed("room", "x" * 513), "'room'"),
        (changed("mdns", None), "'mdns'"),
        (changed("max_message_size", 1000), "'max_message_size'"),
        (changed("max_message_size", 1 << 30), "'max_message_size'"),
    ],
)
def test_what_is_wrong_is_said_without_showing_the_token(text: str, words: str) -> None:
    with pytest.raises(BadNetworkToken) as caught:
        parse_network_token(text)
    message = caught.value.message
    assert words in message
    assert message.endswith(".")
    assert "Tb4Yq" not in message


def test_a_new_token_is_different_each_time_and_reads_back() -> None:
    drawn = random.Random(1)

    def random_text(length: int) -> str:
        return "".join(drawn.choices(ALPHABET, k=length))

    first, second = new_network_token(random_text), new_network_token(random_text, dht_interval_s=60)
    assert first.text != second.text
    assert len(first.room.reveal()) == KEY_CHARS
    assert (first.dht.interval_s, first.crypto.interval_s, second.dht.interval_s) == (360, 9000, 60)
    assert parse_network_token(first.text.reveal()) == first


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: base64.b64encode(data).decode()))
def test_any_text_is_a_token_or_our_error(text: str) -> None:
    with suppress(BadNetworkToken):
        parse_network_token(text)
