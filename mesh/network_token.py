"""The network token: the join secret that is pasted between friends (pure).

Text form: standard base64 of a YAML document, as LocalAI and EdgeVPN write it::

    otp:
      dht:    {interval, key, length}     rotating rendezvous name
      crypto: {interval, key, length}     rotating topic and seal key
    room, rendezvous, mdns: text
    max_message_size: bytes

The text itself identifies the network elsewhere (explorer databases), so a token that somebody gave is kept as it was
given and never written anew. Reading is strict: LocalAI takes nonsense here and divides by zero later.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from localai.mesh.errors import InvalidRequest
from localai.mesh.secrets import Secret

MAX_TOKEN_CHARS = 8192
KEY_CHARS = 43
"""Length of generated keys: 43 characters of 62 are about 256 bits."""
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ1234567890"
DEFAULT_DHT_INTERVAL_S = 360
DEFAULT_CRYPTO_INTERVAL_S = 9000
DEFAULT_MAX_MESSAGE_BYTES = 20 << 20
MIN_MESSAGE_BYTES = 64 << 10
MAX_MESSAGE_BYTES = 64 << 20
MAX_LENGTH = 44
"""Characters in the base64 of one HMAC-SHA256."""
_MAX_INTERVAL_S = 10 * 365 * 24 * 3600
_MAX_TEXT_CHARS = 512
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")

RandomText = Callable[[int], str]
"""Gives that many characters of :data:`ALPHABET`, drawn from a source fit for secrets."""


@dataclass(frozen=True, slots=True)
class OtpSettings:
    """How one rotating value is made: key, seconds it lasts, characters kept."""

    key: Secret[str]
    interval_s: int
    length: int


@dataclass(frozen=True, slots=True)
class NetworkToken:
    """A token that has been read. Its secret parts are masked; ``text`` is the token as it was given."""

    text: Secret[str]
    dht: OtpSettings
    crypto: OtpSettings
    room: Secret[str]
    mdns: Secret[str]
    rendezvous: Secret[str] = field(default_factory=lambda: Secret(""))
    """Used by others only when the DHT key is empty, which we refuse."""
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES


class BadNetworkToken(InvalidRequest):
    """The text is not a usable network token; the message says what is wrong with it."""

    default_code = "bad_network_token"


def parse_network_token(text: str) -> NetworkToken:
    """Read a token. Line ends inside are ignored, as Go's decoder does.

    Raises:
        BadNetworkToken: it cannot be used. The message never shows a part of it.
    """
    text = text.strip()
    if not text:
        raise BadNetworkToken("The network token is empty. Paste the whole token of the network you want to join.")
    if len(text) > MAX_TOKEN_CHARS:
        raise BadNetworkToken(f"The network token has more than {MAX_TOKEN_CHARS} characters. Paste only the token.")
    document = _decode(text.replace("\r", "").replace("\n", ""))
    otp = _mapping(document, "otp", "")
    return NetworkToken(
        text=Secret(text),
        dht=_otp(otp, "dht"),
        crypto=_otp(otp, "crypto"),
        room=_text(document, "room", ""),
        mdns=_text(document, "mdns", ""),
        rendezvous=_text(document, "rendezvous", "", required=False),
        max_message_bytes=_number(document, "max_message_size", "", MIN_MESSAGE_BYTES, MAX_MESSAGE_BYTES),
    )


def new_network_token(
    random_text: RandomText,
    *,
    dht_interval_s: int = DEFAULT_DHT_INTERVAL_S,
    crypto_interval_s: int = DEFAULT_CRYPTO_INTERVAL_S,
) -> NetworkToken:
    """A token for a network of its own, in LocalAI's form."""
    lines = [
        "otp:",
        "  dht:",
        f"    interval: {dht_interval_s}",
        f'    key: "{random_text(KEY_CHARS)}"',
        f"    length: {KEY_CHARS}",
        "  crypto:",
        f"    interval: {crypto_interval_s}",
        f'    key: "{random_text(KEY_CHARS)}"',
        f"    length: {KEY_CHARS}",
        f'room: "{random_text(KEY_CHARS)}"',
        f'rendezvous: "{random_text(KEY_CHARS)}"',
        f'mdns: "{random_text(KEY_CHARS)}"',
        f"max_message_size: {DEFAULT_MAX_MESSAGE_BYTES}",
        "",
    ]
    return parse_network_token(base64.b64encode("\n".join(lines).encode()).decode())


def _decode(text: str) -> Mapping[str, Any]:
    if any(character.isspace() for character in text):
        raise BadNetworkToken("The network token has blanks inside. Paste it as one piece.")
    if "-" in text or "_" in text:
        raise BadNetworkToken("The network token uses the URL form of base64 (- and _). Paste the original one.")
    if not _BASE64.fullmatch(text):
        raise BadNetworkToken("The network token has characters that no token has. Paste only the token.")
    if len(text) % 4:
        raise BadNetworkToken("The network token is cut off: its length is not a multiple of 4. Paste the whole token.")
    try:
        data = base64.b64decode(text, validate=True).decode("utf-8")
        document = yaml.load(data, Loader=_TextLoader)
    except (binascii.Error, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise BadNetworkToken(
            "The network token does not hold a token document. Copy it again from where it was made.",
            detail=type(error).__name__,
        ) from error
    if not isinstance(document, dict):
        raise BadNetworkToken("The network token does not hold a token document. Copy it again from where it was made.")
    return document


class _TextLoader(yaml.BaseLoader):
    """Every scalar is text, so that a key which looks like a number or a date stays what it is; no aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not part of a token")
        return super().compose_node(parent, index)


def _mapping(document: Mapping[str, Any], key: str, path: str) -> Mapping[str, Any]:
    value = document.get(key)
    if not isinstance(value, dict):
        raise BadNetworkToken(f"The network token has no '{path}{key}' part. Copy it again from where it was made.")
    return value


def _otp(otp: Mapping[str, Any], name: str) -> OtpSettings:
    part = _mapping(otp, name, "otp.")
    path = f"otp.{name}."
    return OtpSettings(
        key=_text(part, "key", path),
        interval_s=_number(part, "interval", path, 1, _MAX_INTERVAL_S),
        length=_number(part, "length", path, 1, MAX_LENGTH),
    )


def _text(part: Mapping[str, Any], key: str, path: str, *, required: bool = True) -> Secret[str]:
    value = part.get(key, "")
    if not isinstance(value, str) or len(value) > _MAX_TEXT_CHARS:
        raise BadNetworkToken(f"The network token's '{path}{key}' is not a short text. Make a new token.")
    if required and not value:
        raise BadNetworkToken(f"The network token's '{path}{key}' is missing or empty. Make a new token.")
    return Secret(value)


def _number(part: Mapping[str, Any], key: str, path: str, least: int, greatest: int) -> int:
    value = part.get(key)
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > 12:
        raise BadNetworkToken(f"The network token's '{path}{key}' is not a whole number. Make a new token.")
    number = int(value)
    if not least <= number <= greatest:
        raise BadNetworkToken(
            f"The network token's '{path}{key}' is {number}; it must be between {least} and {greatest}. "
            "Make a new token."
        )
    return number
