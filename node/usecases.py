"""What models are for, in the words of definitions (pure).

Source: LocalAI's use-cases. ``FLAG_CHAT`` is the same as ``chat``; ``llm`` stands for three of them.
"""

from __future__ import annotations

from collections.abc import Iterable

USECASES = frozenset(
    [
        "chat",
        "completion",
        "edit",
        "embeddings",
        "rerank",
        "image",
        "transcript",
        "tts",
        "sound_generation",
        "tokenize",
        "vad",
        "video",
        "detection",
        "vision",
        "face_recognition",
        "speaker_recognition",
        "audio_transform",
        "diarization",
        "realtime_audio",
        "score",
        "depth",
        "token_classify",
        "sound_classification",
        "3d",
    ]
)
TEXT_USECASES = frozenset({"chat", "completion", "edit"})
_PREFIX = "flag_"
_SEVERAL = {"llm": TEXT_USECASES, "any": USECASES}


def known_usecases(words: Iterable[str]) -> frozenset[str]:
    """The use-cases that the words name; unknown words give nothing."""
    names = {word.lower().removeprefix(_PREFIX) for word in words}
    return frozenset(usecase for name in names for usecase in _SEVERAL.get(name, {name} & USECASES))
