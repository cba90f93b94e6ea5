"""What a node says of itself to the whole swarm: the body of its record (pure).

A msgpack map, so that a newer node may add keys and an older one ignores them. Load is not in it: that changes every
second and rides on the heartbeats of sessions.
"""

from __future__ import annotations

import msgspec

from localai.mesh.errors import WireError
from localai.mesh.records import MAX_BODY_BYTES
from localai.node.peers.received import believed_defaults, is_model_name, shown_text
from localai.node.request_defaults import RequestDefaults
from localai.node.sharing.chunks import HASH_BYTES
from localai.node.workers.frames import ModelFacts

RECORD_VERSION = 1
MAX_MODELS = 256


class ModelRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model that the node offers."""

    name: str
    backend: str = ""
    facts: ModelFacts | None = None
    """What its worker learnt; None while it is not loaded."""
    defaults: RequestDefaults | None = None
    """What its definition says for fields that requests leave out; None if nothing."""
    content: bytes = b""
    """SHA-256 of what it is made of, see ``content_hash.py``; empty while the node does not know it."""


class NodeRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One node."""

    version: int = RECORD_VERSION
    program: str = ""
    serves: bool = True
    """Answers requests of other members."""
    draining: bool = False
    models: tuple[ModelRecord, ...] = ()
    files: tuple[bytes, ...] = ()
    """SHA-256 of the files that the node gives to members."""


MAX_SHARED = 256
"""Files whose hashes others are told."""

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(NodeRecord)


def encode_record(record: NodeRecord) -> bytes:
    """The body. Models that others cannot name, or for which a record has no room, are left out."""
    record = _shown(record)
    while len(body := _ENCODER.encode(record)) > MAX_BODY_BYTES:
        record = msgspec.structs.replace(record, models=record.models[: len(record.models) * 3 // 4])
    return body


def decode_record(body: bytes) -> NodeRecord:
    """The record in a body, with texts that can be shown.

    Raises:
        WireError: it is no node record.
    """
    try:
        return _shown(_DECODER.decode(body))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise WireError("A node's record cannot be read.", detail=repr(error)[:300]) from error


def _shown(record: NodeRecord) -> NodeRecord:
    models = [_shown_model(model) for model in record.models if is_model_name(model.name)]
    files = tuple(digest for digest in record.files if len(digest) == HASH_BYTES)[:MAX_SHARED]
    return msgspec.structs.replace(
        record, program=shown_text(record.program), models=tuple(models[:MAX_MODELS]), files=files
    )


def _shown_model(model: ModelRecord) -> ModelRecord:
    facts = model.facts
    if facts is not None:
        facts = msgspec.structs.replace(facts, description=shown_text(facts.description))
    return ModelRecord(
        name=model.name,
        backend=shown_text(model.backend),
        facts=facts,
        defaults=believed_defaults(model.defaults),
        content=model.content if len(model.content) == HASH_BYTES else b"",
    )
