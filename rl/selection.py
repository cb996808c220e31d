"""Which checkpoint of one training run, from verdicts on held-out scenarios.

1. A checkpoint is vetoed when some type of scenario is credibly worse than at step 0, the version that training
   started from: P(its rate is lower) > 0.8.
2. The others are ranked by the posterior mean of their overall rate. The tie set is every one that the best is
   better than with a probability below 0.8: the data do not tell its members apart.
3. From the tie set: the highest macro mean (of the types' rates), then the highest weakest type, then fewer
   turns, then fewer tokens, then the earliest step.

Step 0 takes part: "no improvement" is an answer. Rates are independent with uniform priors; where the verdicts
are paired by scenario this is cautious, as it ignores what the pairs have in common: ``rank`` takes another
comparison then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Protocol

from pydantic import Field

from rl.alike import MIN_COVERAGE, shared, sides, total
from rl.comparison import probability_better
from rl.errors import InvalidInput
from rl.intervals import check_count
from rl.records import Record

__all__ = [
    "CREDIBLE",
    "INDEPENDENT",
    "MIN_COVERAGE",
    "Candidate",
    "Comparison",
    "Independent",
    "Selection",
    "Veto",
    "best_of",
    "probability_better",
    "rank",
    "select",
    "shown",
    "vetoes",
    "vetoes_shown",
]

CREDIBLE = 0.8


class Candidate(Record):
    """One checkpoint: successes and verdicts ``(k, n)`` per type of scenario.

    ``turns`` and ``tokens`` are means per episode, where known.
    """

    step: int = Field(ge=0)
    types: dict[str, tuple[int, int]] = Field(min_length=1)
    turns: float | None = None
    tokens: float | None = None

    @property
    def overall(self) -> tuple[int, int]:
        """Successes and verdicts over all types."""
        return total(self.types)

    @property
    def posterior_mean(self) -> float:
        """(k + 1) / (n + 2) of the overall count."""
        k, n = self.overall
        return (k + 1) / (n + 2)


class Selection(Record):
    """What was picked and why. Keys of the dictionaries are steps.

    ``probability`` is P(the best is better than this step), for the steps that were not vetoed.
    """

    pick: int
    tie_set: list[int]
    posterior: dict[int, float]
    probability: dict[int, float]
    vetoed: dict[int, str]
    reason: str


class Veto(Record):
    """A type of scenario in which a step is credibly worse than step 0, with probability ``p``."""

    step: int
    type: str
    p: float


class Comparison(Protocol):
    """How candidates are ranked: a score, and P(the first one's rate is higher than the second's)."""

    def score(self, candidate: Candidate) -> float: ...

    def better(self, one: Candidate, other: Candidate) -> float: ...


class Independent:
    """Overall rates with independent uniform priors; the score is the posterior mean."""

    def score(self, candidate: Candidate) -> float:
        return candidate.posterior_mean

    def better(self, one: Candidate, other: Candidate) -> float:
        return probability_better(*one.overall, *other.overall)


INDEPENDENT = Independent()


def select(candidates: Sequence[Candidate]) -> Selection:
    """The checkpoint to go on with.

    Raises:
        InvalidInput: no step 0 or a step twice, other types than step 0's, a type without verdicts, or one with
            under 95 % of the verdicts that another candidate has.
    """
    return rank(candidates, _comparable(candidates))


def rank(candidates: Sequence[Candidate], base: Candidate | None, by: Comparison = INDEPENDENT) -> Selection:
    """The choice among candidates, at least one, on the same scenarios. Without a base nothing is vetoed.

    Where their types have other names, a veto compares what ``rl.alike`` says, and ties are broken by the types that
    all have.
    """
    vetoed = {} if base is None else {c.step: reason for c in candidates if (reason := _veto(c, base))}
    survivors = [c for c in candidates if c.step not in vetoed]
    best = best_of(survivors, by)
    probability = {c.step: by.better(best, c) for c in survivors}
    tied = [c for c in survivors if c is best or probability[c.step] < CREDIBLE]
    pick = _preferred(tied)
    return Selection(
        pick=pick.step,
        tie_set=sorted(c.step for c in tied),
        posterior={c.step: by.score(c) for c in candidates},
        probability=probability,
        vetoed=vetoed,
        reason=_reason(pick, tied, [c for c in survivors if c is not pick], by),
    )


def best_of(candidates: Sequence[Candidate], by: Comparison = INDEPENDENT) -> Candidate:
    """The one with the highest score; of equal ones the one that a tie is broken for."""
    most = max(by.score(one) for one in candidates)
    return _preferred([one for one in candidates if by.score(one) == most])


def vetoes(candidate: Candidate, base: Candidate) -> list[Veto]:
    """The types in which it is credibly worse than step 0, sorted by name."""
    found = []
    for name, (count, before) in sorted(sides(candidate.types, base.types).items()):
        p = probability_better(*before, *count)
        if p > CREDIBLE:
            found.append(Veto(step=candidate.step, type=name, p=p))
    return found


def _preferred(tied: Sequence[Candidate]) -> Candidate:
    """The one that a tie is broken for."""
    names = shared([one.types for one in tied])
    return max(tied, key=lambda one: _preference(one, [one.types[name] for name in names] or [one.overall]))


def _preference(
    candidate: Candidate, counts: Sequence[tuple[int, int]]
) -> tuple[Fraction, Fraction, float, float, int]:
    """Greater is better. Fractions, because equal means must compare as equal."""
    rates = [Fraction(k, n) for k, n in counts]
    turns, tokens = (math.inf if cost is None else cost for cost in (candidate.turns, candidate.tokens))
    return sum(rates, Fraction(0)) / len(rates), min(rates), -turns, -tokens, -candidate.step


def _veto(candidate: Candidate, base: Candidate) -> str:
    """Why the candidate is out; empty when it is not."""
    return "; ".join(
        f"{worse} against {before} at step 0 (P worse {one.p:.3f})"
        for one, worse, before in vetoes_shown(candidate, base)
    )


def vetoes_shown(candidate: Candidate, than: Candidate) -> list[tuple[Veto, str, str]]:
    """The types that are credibly worse, each with both counts in words: ``update 2/6`` and ``4/6``."""
    counts = sides(candidate.types, than.types)
    found = [(one, *counts[one.type]) for one in vetoes(candidate, than)]
    return [(one, f"{one.type} {shown(worse)}", shown(better)) for one, worse, better in found]


def shown(count: tuple[int, int]) -> str:
    """``(15, 16)`` as ``15/16``."""
    return f"{count[0]}/{count[1]}"


def _reason(pick: Candidate, tied: list[Candidate], others: list[Candidate], by: Comparison) -> str:
    if len(tied) == 1:
        return f"step {pick.step} ({shown(pick.overall)}) is {_better(pick, others, by)}"
    steps = ", ".join(str(step) for step in sorted(c.step for c in tied))
    return (
        f"the data do not tell steps {steps} apart; step {pick.step} ({shown(pick.overall)}) by macro mean, "
        "weakest type, turns, then earliest"
    )


def _better(pick: Candidate, others: list[Candidate], by: Comparison) -> str:
    """Another comparison can tell apart what the exact probability of the overall counts does not: both are said.

    One that has a ``basis`` of its own, in words, is about other rates than those of the counts: it alone is said.
    """
    if not others:
        return "credibly better than every other"
    if basis := getattr(by, "basis", ""):
        least = min(by.better(pick, one) for one in others)
        return f"credibly better than every other (P {least:.3f} or more by {basis})"
    least = min(probability_better(*pick.overall, *one.overall) for one in others)
    if least < CREDIBLE:
        return f"better than every other by the rule, and by the counts alone with P {least:.3f}, below {CREDIBLE:g}"
    return f"credibly better than every other (P {least:.3f} or more by the counts)"


def _comparable(candidates: Sequence[Candidate]) -> Candidate:
    """Step 0, once all candidates are known to have been judged on the same scenarios."""
    by_step = {c.step: c for c in candidates}
    if 0 not in by_step or len(by_step) != len(candidates):
        steps = [c.step for c in candidates]
        raise InvalidInput("candidates", steps, "give each step once, and step 0, which training started from")
    base = by_step[0]
    for candidate in candidates:
        if candidate.types.keys() != base.types.keys():
            raise InvalidInput("types", sorted(candidate.types), f"step 0 was judged on {sorted(base.types)}")
    for name in base.types:
        _check_coverage(name, candidates)
    return base


def _check_coverage(name: str, candidates: Sequence[Candidate]) -> None:
    most = max(c.types[name][1] for c in candidates)
    for candidate in candidates:
        k, n = candidate.types[name]
        check_count(k, n)
        if n == 0 or n < MIN_COVERAGE * most:
            remedy = f"only {n} of {most} verdicts at step {candidate.step}; evaluate the missing scenarios first"
            raise InvalidInput(f"types.{name}", (k, n), remedy)
