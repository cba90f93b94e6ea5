"""The lists of known keys."""

from __future__ import annotations

from localai.node.definition_keys import BLOCKS, PARAMETERS, TOP_LEVEL, WITHOUT_EFFECT, Kind


def test_every_block_is_a_known_key() -> None:
    for path in BLOCKS:
        outer, _, key = path.rpartition(".")
        assert (BLOCKS[outer] if outer else TOP_LEVEL)[key] is Kind.MAPPING
    assert BLOCKS["parameters"] is PARAMETERS


def test_keys_look_like_keys() -> None:
    for keys in (TOP_LEVEL, *BLOCKS.values()):
        assert all(key.replace("_", "").isalnum() and key == key.lower() for key in keys)


def test_every_kind_is_of_use() -> None:
    used = {kind for keys in (TOP_LEVEL, *BLOCKS.values()) for kind in keys.values()}
    assert used == set(Kind)


def test_keys_without_effect_are_known_ones() -> None:
    known = {*TOP_LEVEL, *(f"{path}.{key}" for path, keys in BLOCKS.items() for key in keys)}
    assert known >= WITHOUT_EFFECT
