"""The body of a node record. The vectors are in docs/wire.md too."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import WireError
from localai.mesh.records import MAX_BODY_BYTES
from localai.node.inference import Sampling
from localai.node.peers.record import MAX_MODELS, RECORD_VERSION, ModelRecord, NodeRecord, decode_record, encode_record
from localai.node.request_defaults import RequestDefaults
from localai.node.workers.frames import ModelFacts

FACTS = ModelFacts(4096, 4, 32768, 49152, "llama 135M", True)
RECORD = NodeRecord(program="localai-mesh 0.1.0", models=(ModelRecord("m", "llama-cpp", FACTS), ModelRecord("n")))
VECTOR = (
    "82a770726f6772616db26c6f63616c61692d6d65736820302e312e30a66d6f64656c739283a46e616d65a16da76261636b656e64"
    "a96c6c616d612d637070a5666163747396cd100004cd8000cdc000aa6c6c616d61203133354dc381a46e616d65a16e"
)
ENTRY = NodeRecord(serves=False, draining=True)
ENTRY_VECTOR = "82a6736572766573c2a8647261696e696e67c3"


FULL = NodeRecord(models=(ModelRecord("m", defaults=RequestDefaults(Sampling(0.5), 9), content=bytes(32)),))


def test_what_a_model_says_of_itself_travels() -> None:
    assert decode_record(encode_record(FULL)) == FULL


@pytest.mark.parametrize(
    "defaults",
    [
        RequestDefaults(Sampling(temperature=9.0)),
        RequestDefaults(Sampling(top_p=math.nan)),
        RequestDefaults(Sampling(seed=-1)),
        RequestDefaults(max_tokens=0),
        RequestDefaults(choices=0),
    ],
)
def test_what_could_do_harm_is_as_if_not_said(defaults: RequestDefaults) -> None:
    record = NodeRecord(models=(ModelRecord("m", defaults=defaults, content=b"short"),))
    assert decode_record(msgspec.msgpack.encode(record)) == NodeRecord(models=(ModelRecord("m"),))


@pytest.mark.parametrize(("record", "text"), [(RECORD, VECTOR), (ENTRY, ENTRY_VECTOR), (NodeRecord(), "80")])
def test_vectors(record: NodeRecord, text: str) -> None:
    assert encode_record(record).hex() == text
    assert decode_record(bytes.fromhex(text)) == record


def test_a_newer_node_may_say_more() -> None:
    document = msgspec.msgpack.decode(bytes.fromhex(VECTOR))
    document |= {"version": 2, "new": [1, {"deep": True}]}
    document["models"][0]["new"] = "x"
    document["models"][0]["facts"].append("new")
    assert decode_record(msgspec.msgpack.encode(document)) == msgspec.structs.replace(RECORD, version=2)


def test_what_is_not_said_has_its_default() -> None:
    assert decode_record(msgspec.msgpack.encode({"models": [{"name": "m"}]})) == NodeRecord(models=(ModelRecord("m"),))
    assert RECORD_VERSION == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x90",
        b"\xc1",
        b"\x91" * 40_000,
        msgspec.msgpack.encode({"models": [{}]}),
        msgspec.msgpack.encode({"serves": 1}),
    ],
)
def test_what_is_no_record_is_refused(body: bytes) -> None:
    with pytest.raises(WireError, match="cannot be read"):
        decode_record(body)


@given(st.binary(max_size=200))
def test_random_bytes_are_records_or_wire_errors(body: bytes) -> None:
    try:
        decode_record(body)
    except WireError:
        return


def test_absurd_texts_are_cut_and_absurd_models_left_out() -> None:
    hostile = NodeRecord(
        program="p\x1b[31m\n" + "x" * 5000,
        models=(
            ModelRecord("x" * 5000),
            ModelRecord("line\nend"),
            ModelRecord(""),
            ModelRecord("good", "b\0" * 5000, msgspec.structs.replace(FACTS, description="d\n" * 5000)),
        ),
    )
    record = decode_record(msgspec.msgpack.encode(hostile))
    assert record.program.startswith("p [31m x")
    assert len(record.program) == 256
    (model,) = record.models
    assert model.facts is not None
    assert (model.name, len(model.backend), len(model.facts.description)) == ("good", 256, 256)
    assert (model.backend + model.facts.description).isprintable()


def test_too_many_models_are_cut_both_ways() -> None:
    many = NodeRecord(models=tuple(ModelRecord(str(number)) for number in range(1000)))
    assert len(decode_record(msgspec.msgpack.encode(many)).models) == MAX_MODELS
    assert len(msgspec.msgpack.decode(encode_record(many))["models"]) == MAX_MODELS


def test_a_record_always_has_room_for_itself() -> None:
    """What is longer is cut off in the mesh process, and nobody could read the rest."""
    long = tuple(ModelRecord("ü" * 200 + str(number), "b", FACTS) for number in range(MAX_MODELS))
    body = encode_record(NodeRecord(models=long))
    assert MAX_BODY_BYTES // 2 < len(body) <= MAX_BODY_BYTES
    assert decode_record(body).models == long[: len(decode_record(body).models)]


def test_a_name_that_cannot_be_sent_costs_only_its_model() -> None:
    """A file name may hold bytes that are no text; Python gives them as lone surrogates."""
    record = NodeRecord(models=(ModelRecord("bad\udcff"), ModelRecord("good")))
    assert decode_record(encode_record(record)).models == (ModelRecord("good"),)
