"""The lists of known keys."""

from __future__ import annotations

from localai.node.definition_keys import BLOCKS, PARAMETERS, TOP_LEVEL


def test_every_block_is_a_known_key() -> None:
    assert set(BLOCKS) <= TOP_LEVEL
    assert BLOCKS["parameters"] is PARAMETERS


def test_keys_look_like_keys() -> None:
    for keys in (TOP_LEVEL, *BLOCKS.values()):
        assert all(key.replace("_", "").isalnum() and key == key.lower() for key in keys)
