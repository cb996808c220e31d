"""Which checkpoint of one training run, from verdicts on held-out scenarios.

1. A checkpoint is vetoed when some type of scenario is credibly worse than at step 0, the version that training
   started from: P(its rate is lower) > 0.8.
2. The others are ranked by the posterior mean of their overall rate. The tie set is every one that the best is
   better than with a probability below 0.8: the data do not tell its members apart.
3. From the tie set: the highest macro mean (of the types' rates), then the highest weakest type, then fewer
   turns, then the earliest step.

Step 0 takes part: "no improvement" is an answer. Rates are independent with uniform priors; where the verdicts
are paired by scenario this is cautious, as it ignores what the pairs have in common.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from pydantic import Field
from scipy.special import betaln

from rl.errors import InvalidInput
from rl.intervals import check_count
from rl.records import Record

CREDIBLE = 0.8
MIN_COVERAGE = 0.95


class Candidate(Record):
    """One checkpoint: successes and verdicts ``(k, n)`` per type of scenario, and mean turns per episode if known."""

    step: int = Field(ge=0)
    types: dict[str, tuple[int, int]] = Field(min_length=1)
    turns: float | None = None

    @property
    def overall(self) -> tuple[int, int]:
        """Successes and verdicts over all types."""
        return sum(k for k, _ in self.types.values()), sum(n for _, n in self.types.values())

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


def probability_better(k1: int, n1: int, k2: int, n2: int) -> float:
    """P(p1 > p2) for independent p ~ Beta(1 + k, 1 + n - k), exact.

    The closed sum over i = 0 .. k1 of B(a2 + i, b1 + b2) / ((b1 + i) B(1 + i, b1) B(a2, b2)), every term of
    which is positive (Evan Miller, "Formulas for Bayesian A/B testing").

    Raises:
        InvalidInput: not 0 <= k <= n.
    """
    check_count(k1, n1)
    check_count(k2, n2)
    i = np.arange(k1 + 1, dtype=np.float64)
    b1, a2, b2 = 1 + n1 - k1, 1 + k2, 1 + n2 - k2
    terms = betaln(a2 + i, b1 + b2) - np.log(b1 + i) - betaln(1 + i, b1) - betaln(a2, b2)
    return min(float(np.exp(terms).sum()), 1.0)


def select(candidates: Sequence[Candidate]) -> Selection:
    """The checkpoint to go on with.

    Raises:
        InvalidInput: no step 0 or a step twice, other types than step 0's, a type without verdicts, or one with
            under 95 % of the verdicts that another candidate has.
    """
    base = _comparable(candidates)
    vetoed = {c.step: reason for c in candidates if (reason := _veto(c, base))}
    survivors = [c for c in candidates if c.step not in vetoed]
    best = max(survivors, key=lambda c: (c.posterior_mean, _preference(c)))
    probability = {c.step: probability_better(*best.overall, *c.overall) for c in survivors}
    tied = [c for c in survivors if probability[c.step] < CREDIBLE]
    pick = max(tied, key=_preference)
    return Selection(
        pick=pick.step,
        tie_set=sorted(c.step for c in tied),
        posterior={c.step: c.posterior_mean for c in candidates},
        probability=probability,
        vetoed=vetoed,
        reason=_reason(pick, tied),
    )


def _preference(candidate: Candidate) -> tuple[Fraction, Fraction, float, int]:
    """Greater is better. Fractions, because equal means must compare as equal."""
    rates = [Fraction(k, n) for k, n in candidate.types.values()]
    turns = math.inf if candidate.turns is None else candidate.turns
    return sum(rates, Fraction(0)) / len(rates), min(rates), -turns, -candidate.step


def _veto(candidate: Candidate, base: Candidate) -> str:
    """Why the candidate is out; empty when it is not."""
    worse = []
    for name, (k, n) in sorted(candidate.types.items()):
        k0, n0 = base.types[name]
        if (p := probability_better(k0, n0, k, n)) > CREDIBLE:
            worse.append(f"{name} {k}/{n} against {k0}/{n0} at step 0 (P worse {p:.3f})")
    return "; ".join(worse)


def _reason(pick: Candidate, tied: list[Candidate]) -> str:
    k, n = pick.overall
    if len(tied) == 1:
        return f"step {pick.step} ({k}/{n}) is credibly better than every other"
    steps = ", ".join(str(step) for step in sorted(c.step for c in tied))
    return (
        f"the data do not tell steps {steps} apart; step {pick.step} ({k}/{n}) by macro mean, weakest type, "
        "turns, then earliest"
    )


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
