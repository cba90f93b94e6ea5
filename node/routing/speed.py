"""How fast a model runs here, learnt from finished answers (pure)."""

from __future__ import annotations

from localai.node.inference import Finished
from localai.node.routing.score import slowdown

NEW_SHARE = 0.2
"""Weight of the newest answer in the running mean."""
LEAST_TOKENS = 8
"""Shorter prompts and answers measure the clock."""


class SpeedMeter:
    """Running means of one model; 0 until something was measured."""

    def __init__(self) -> None:
        self.prompt_tps = 0.0
        self.decode_tps = 0.0

    def finished(self, finished: Finished, streams: int) -> None:
        """Learn from an answer that was computed while ``streams`` were in work, itself included."""
        usage, timings = finished.usage, finished.timings
        fresh = usage.prompt_tokens - usage.cached_tokens
        if fresh >= LEAST_TOKENS and timings.prefill_s > 0:
            self.prompt_tps = _mean(self.prompt_tps, fresh / timings.prefill_s)
        each = usage.completion_tokens / len(finished.reasons) if finished.reasons else 0.0
        if each >= LEAST_TOKENS and timings.decode_s > 0:
            alone = each / timings.decode_s * slowdown(max(streams, len(finished.reasons)))
            self.decode_tps = _mean(self.decode_tps, alone)


def _mean(before: float, new: float) -> float:
    return new if before == 0 else before + NEW_SHARE * (new - before)
