"""Words for what models do."""

from __future__ import annotations

import pytest

from localai.node.usecases import TEXT_USECASES, USECASES, known_usecases


@pytest.mark.parametrize(
    ("words", "usecases"),
    [
        ((), frozenset()),
        (("chat",), {"chat"}),
        (("FLAG_CHAT", "flag_tts"), {"chat", "tts"}),
        (("llm",), TEXT_USECASES),
        (("FLAG_ANY",), USECASES),
        (("knit", "rerank"), {"rerank"}),
    ],
)
def test_words_name_usecases(words: tuple[str, ...], usecases: frozenset[str]) -> None:
    assert known_usecases(words) == usecases
