"""Node records as they travel: signed by their author, sealed for the members of one network (pure).

What a record says is opaque here: its body belongs to the layer above. Two wrappings, each a label followed by one
msgpack array, so that no two meanings have the same bytes:

    signed message    "localai-mesh/record/1" [network id, author, epoch, seq, body]
    associated data   "localai-mesh/sealed-record/1" [author, epoch, seq]
    sealed record     [version, author, epoch, seq, nonce ‖ ciphertext ‖ tag]; what is encrypted is body ‖ signature

Relays see who wrote a record and which one it is, but not what it says. Key and topic rotate with the crypto interval
of the token, so that what was recorded on the wire cannot be replayed for long.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from localai.mesh.envelope import open_record, record_key, seal_record
from localai.mesh.errors import WireError
from localai.mesh.ids import SIGNATURE_BYTES, NetworkId, PeerId, parse_peer_id, verify
from localai.mesh.network_token import NetworkToken

VERSION = 1
KNOWN_VERSIONS = (1,)
MAX_BODY_BYTES = 48 << 10
MAX_RECORD_BYTES = 64 << 10
"""Bytes of one sealed record. More than a full body needs: room for fields of later versions."""
MAX_NUMBER = (1 << 63) - 1
"""Of epoch and seq: what every language can hold."""
TOPIC_CHARS = 32
DEFAULT_TOLERANCE_S = 30
"""How far clocks may differ around a rotation. LocalAI's gossip is read with the same tolerance."""

_SIGNED_LABEL = b"localai-mesh/record/1"
_SEALED_LABEL = b"localai-mesh/sealed-record/1"
_KEY_PURPOSE = "records"
_TOPIC_PURPOSE = "records-topic"

Sign = Callable[[bytes], bytes]
"""Gives the 64-byte Ed25519 signature of a message, as ``Identity.sign`` does."""
Position = tuple[int, int]
"""Epoch and seq: of two records of one author, the one with the greater position is the newer."""


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """One record of one node. Trust it only after :func:`verify_record`."""

    author: PeerId
    epoch: int
    """Milliseconds since 1970 at the author's start, 0 to :data:`MAX_NUMBER`."""
    seq: int
    """Grows by one with each new record of that epoch, 0 to :data:`MAX_NUMBER`."""
    body: bytes = field(repr=False)
    """At most :data:`MAX_BODY_BYTES`."""
    signature: bytes = field(repr=False)
    version: int = VERSION

    @property
    def position(self) -> Position:
        """Where this record stands among those of its author."""
        return self.epoch, self.seq


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """What every version begins with."""

    version: int


class _Sealed(msgspec.Struct, frozen=True, array_like=True):
    version: int
    author: str
    epoch: int
    seq: int
    sealed: bytes


_HEAD = msgspec.msgpack.Decoder(_Head)
_SEALED = msgspec.msgpack.Decoder(_Sealed)


def sign_record(author: PeerId, epoch: int, seq: int, body: bytes, network_id: NetworkId, sign: Sign) -> SignedRecord:
    """A record that verifies in this network only. ``sign`` must hold the key of ``author``.

    Raises:
        WireError: the body is too long, a number is out of range, or the author is no peer id.
    """
    unsigned = SignedRecord(author, epoch, seq, body, b"")
    _check(unsigned)
    return SignedRecord(author, epoch, seq, body, sign(_signed_message(unsigned, network_id)))


def verify_record(record: SignedRecord, network_id: NetworkId) -> None:
    """Make sure that the author wrote this record, as it is, for this network.

    Raises:
        WireError: it did not, or the record is over a limit or of a version that this node does not know.
    """
    _check(record)
    verify(record.author, record.signature, _signed_message(record, network_id))


def seal(record: SignedRecord, key: bytes, nonce: bytes) -> bytes:
    """The bytes that travel. ``key`` is of :func:`records_key`; ``nonce``: 12 bytes, never used twice with one key.

    Raises:
        WireError: the record is over a limit.
    """
    _check(record)
    sealed = seal_record(record.body + record.signature, key, nonce, _bound_to(record.author, *record.position))
    return msgspec.msgpack.encode(_Sealed(record.version, record.author, record.epoch, record.seq, sealed))


def open_sealed(data: bytes, key: bytes) -> SignedRecord:
    """The record that somebody who has the key sealed. Not verified: :func:`verify_record` comes next.

    Unknown fields at the end are ignored.

    Raises:
        WireError: not a sealed record, over a limit, of an unknown version, or not sealed with this key.
    """
    if len(data) > MAX_RECORD_BYTES:
        raise WireError(f"A node record of {len(data)} bytes is over the limit of {MAX_RECORD_BYTES} bytes.")
    try:
        _check_version(_HEAD.decode(data).version)
        outer = _SEALED.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise WireError("A node record could not be decoded.", detail=repr(error)[:300]) from error
    inner = open_record(outer.sealed, key, _bound_to(outer.author, outer.epoch, outer.seq))
    if len(inner) < SIGNATURE_BYTES:
        raise WireError("A node record has no signature.")
    body, signature = inner[:-SIGNATURE_BYTES], inner[-SIGNATURE_BYTES:]
    record = SignedRecord(PeerId(outer.author), outer.epoch, outer.seq, body, signature, outer.version)
    _check(record)
    return record


def records_key(token: NetworkToken, network_id: NetworkId, now: float) -> bytes:
    """The 32-byte key to seal with at an instant, seconds since 1970. Only members of this network id can make it."""
    return records_keys(token, network_id, now, 0)[0]


def records_keys(
    token: NetworkToken, network_id: NetworkId, now: float, tolerance_s: float = DEFAULT_TOLERANCE_S
) -> tuple[bytes, ...]:
    """Keys to open with at an instant: the current one first, then of windows within the tolerance, nearest first."""
    return _rotated(record_key(token, network_id, _KEY_PURPOSE), token, now, tolerance_s)


def records_topic(token: NetworkToken, network_id: NetworkId, now: float) -> str:
    """The topic on which records travel at an instant: 32 lower-case hex characters, never LocalAI's own topic."""
    return records_topics(token, network_id, now, 0)[0]


def records_topics(
    token: NetworkToken, network_id: NetworkId, now: float, tolerance_s: float = DEFAULT_TOLERANCE_S
) -> tuple[str, ...]:
    """Topics to listen on at an instant, in the order of :func:`records_keys`."""
    values = _rotated(record_key(token, network_id, _TOPIC_PURPOSE), token, now, tolerance_s)
    return tuple(value.hex()[:TOPIC_CHARS] for value in values)


def _rotated(key: bytes, token: NetworkToken, now: float, tolerance_s: float) -> tuple[bytes, ...]:
    interval_s = token.crypto.interval_s
    current, first, last = (
        int(max(0.0, instant) // interval_s) for instant in (now, now - tolerance_s, now + tolerance_s)
    )
    counters = sorted(range(first, last + 1), key=lambda counter: abs(counter - current))
    return tuple(hmac.digest(key, counter.to_bytes(8, "big"), hashlib.sha256) for counter in counters)


def _signed_message(record: SignedRecord, network_id: NetworkId) -> bytes:
    fields = (network_id, record.author, record.epoch, record.seq, record.body)
    return _SIGNED_LABEL + msgspec.msgpack.encode(fields)


def _bound_to(author: str, epoch: int, seq: int) -> bytes:
    return _SEALED_LABEL + msgspec.msgpack.encode((author, epoch, seq))


def _check_version(version: int) -> None:
    if version not in KNOWN_VERSIONS:
        known = ", ".join(map(str, KNOWN_VERSIONS))
        raise WireError(f"A node record has version {version}; this node knows {known}. Update the older node.")


def _check(record: SignedRecord) -> None:
    _check_version(record.version)
    if parse_peer_id(record.author) != record.author:
        raise WireError("A peer id is not in its usual form.")  # else one author could be two in a ledger
    if not (0 <= record.epoch <= MAX_NUMBER and 0 <= record.seq <= MAX_NUMBER):
        raise WireError(f"A node record's epoch or sequence number is not between 0 and {MAX_NUMBER}.")
    if len(record.body) > MAX_BODY_BYTES:
        raise WireError(f"A node record's body of {len(record.body)} bytes is over the limit of {MAX_BODY_BYTES}.")
