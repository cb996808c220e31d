"""What is wrong with a run, at every step at which it holds. Each alarm is judged on the steps up to its own.

COLLAPSE         the training score is below 80 % of its highest so far.
FORGETTING       a type of scenario is credibly worse than at step 0, or than at the best step so far.
OVEROPTIMISATION the training score is at or above its value at the best step so far, while that step's held-out
                 results are better with a probability of at least 0.9.

Of the fleet's own checkpoints, what ``rl.health`` says of their training and evaluation is told too.
They say what has happened; none of them foretells anything. A score of 0 or less cannot collapse: a share of it means
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Literal

from rl import health
from rl.records import Record
from rl.selection import INDEPENDENT, Candidate, Comparison, best_of, shown, vetoes_shown

COLLAPSED = Fraction(4, 5)
OVEROPTIMISED = 0.9


class Alarm(Record):
    """An alarm at a step, and the counts, scores and probabilities that it rests on."""

    name: Literal["COLLAPSE", "FORGETTING", "OVEROPTIMISATION"] | health.Name
    step: int
    evidence: str


def alarms(candidates: Sequence[Candidate], training: Mapping[int, float], by: Comparison = INDEPENDENT) -> list[Alarm]:
    """All alarms, by step, then by name. ``training`` holds the training scores by step, of those that are known."""
    found = [*_collapse(training), *_held_out(sorted(candidates, key=lambda c: c.step), training, by)]
    return sorted(found, key=lambda alarm: (alarm.step, alarm.name))


def _collapse(training: Mapping[int, float]) -> Iterator[Alarm]:
    highest: tuple[float, int] | None = None
    for step, score in sorted(training.items()):
        if highest is None or score > highest[0]:
            highest = score, step
        elif highest[0] > 0 and Fraction(str(score)) < COLLAPSED * Fraction(str(highest[0])):
            evidence = (
                f"training score {score:g} is {score / highest[0]:.1%} of its highest so far, "
                f"{highest[0]:g} at step {highest[1]}; the limit is {float(COLLAPSED):.0%}"
            )
            yield Alarm(name="COLLAPSE", step=step, evidence=evidence)


def _held_out(candidates: Sequence[Candidate], training: Mapping[int, float], by: Comparison) -> Iterator[Alarm]:
    base = candidates[0] if candidates and candidates[0].step == 0 else None
    best: Candidate | None = None
    for candidate in candidates:
        forgotten = [] if base is None else _worse(candidate, base, "step 0")
        if not forgotten:
            best = candidate if best is None else best_of([best, candidate], by)
        if best is not None and best not in (candidate, base):
            forgotten += _worse(candidate, best, f"the best step so far, {best.step}")
        if forgotten:
            yield Alarm(name="FORGETTING", step=candidate.step, evidence="; ".join(forgotten))
        if best is not None and candidate is not base and (evidence := _overoptimised(candidate, best, training, by)):
            yield Alarm(name="OVEROPTIMISATION", step=candidate.step, evidence=evidence)


def _worse(candidate: Candidate, than: Candidate, name: str) -> list[str]:
    return [
        f"{worse} against {better} at {name} (P worse {one.p:.4f})"
        for one, worse, better in vetoes_shown(candidate, than)
    ]


def _overoptimised(candidate: Candidate, best: Candidate, training: Mapping[int, float], by: Comparison) -> str:
    if best is candidate or candidate.step not in training or best.step not in training:
        return ""
    score, before = training[candidate.step], training[best.step]
    p = by.better(best, candidate)
    if score < before or p < OVEROPTIMISED:
        return ""
    return (
        f"training score {score:g} is not below the {before:g} of the best step so far, {best.step}, while held-out "
        f"{shown(candidate.overall)} against {shown(best.overall)} is worse (P {p:.4f})"
    )
