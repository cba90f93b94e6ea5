"""One hash for what a model is made of."""

from __future__ import annotations

from localai.node.content_hash import content_hash
from localai.node.prompt_templates import PromptTemplates

A, B, C = (letter * 32 for letter in (b"a", b"b", b"c"))


def test_the_vector() -> None:
    assert content_hash([A], None).hex() == "0c3adb90effcd0f6a33419ee8a8e41976f8162d30008a5bfa0288a952a789103"


def test_what_matters_and_what_does_not() -> None:
    one = PromptTemplates(roles={"user": "U", "system": "S"})
    other = PromptTemplates(roles={"system": "S", "user": "U"})
    assert content_hash([A, B, C], one) == content_hash([A, C, B], other)
    different = [
        content_hash([A], None),
        content_hash([B], None),
        content_hash([A, B], None),
        content_hash([B, A], None),
        content_hash([A], PromptTemplates()),
        content_hash([A], PromptTemplates(chat="{{.Input}}")),
        content_hash([A], PromptTemplates(system_prompt="Be kind.")),
    ]
    assert len(set(different)) == len(different)
