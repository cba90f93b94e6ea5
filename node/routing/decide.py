"""Who gets a request (pure)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from localai.node.routing.replica import Candidate, Work
from localai.node.routing.score import Estimate, estimates

NEAR_TIE = 0.25
"""Candidates within this share of the best are as good as the best: measured speeds are no more exact than that."""
NEAR_TIE_S = 0.05

Draw = Callable[[int], int]
"""A random number from 0 to n - 1."""


@dataclass(frozen=True, slots=True)
class Considered:
    """A candidate and what spoke for or against it."""

    candidate: Candidate
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Choice:
    """Who answers, and beside whom it was chosen."""

    chosen: Considered
    considered: tuple[Considered, ...]


def decide(candidates: Sequence[Candidate], work: Work, draw: Draw, *, at_random: bool = False) -> Choice | None:
    """The candidate that will finish first; None when there is none.

    Among near ties the one with the least requests for its slots wins, then chance. One that refuses requests for now
    is taken only when all do. ``at_random`` takes any.
    """
    willing = [candidate for candidate in candidates if not candidate.load.refuses] or list(candidates)
    if not willing:
        return None
    considered = tuple(map(Considered, willing, estimates(willing, work)))
    if at_random:
        return Choice(considered[draw(len(considered))], considered)
    best_s = min(each.estimate.total_s for each in considered)
    near = [each for each in considered if each.estimate.total_s <= best_s * (1 + NEAR_TIE) + NEAR_TIE_S]
    least = min(map(_fullness, near))
    first = [each for each in near if _fullness(each) == least]
    return Choice(first[draw(len(first))], considered)


def _fullness(considered: Considered) -> float:
    return considered.candidate.in_flight / max(1, considered.candidate.load.slots)
