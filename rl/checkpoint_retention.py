"""Which checkpoints of a version's training are kept on disk. Nothing goes before the version's fate is decided.

Of a decided version these stay: its own, the best by every task set that its checkpoints were judged on, the steps
that the data do not tell from it, those that a decision names, the last few, and those that something else needs: a
release, a job that waits or runs, a version that was trained further from it. The last few stay because a training
that is looked at again is looked at from its end.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from rl.coverage import coverage
from rl.errors import InvalidInput
from rl.records import Record
from rl.selection import Candidate, rank

Counts = Mapping[str, tuple[int, int]]
"""Successes and verdicts by type of scenario."""

UNDECIDED, OWN, LAST, NEEDED = "its version is not decided", "the version's own", "one of the last", "needed"
BEST, TIED, NAMED = "the best, or not told from it", "verdicts that cannot be ranked", "named by the decision"


class Training(Record):
    """The checkpoints of one version. ``judged`` holds their verdicts by task set, then by step.

    ``own`` is the step of the version's checkpoint, ``named`` the steps that its decisions name, ``needed`` says of
    others what needs them. ``decided`` is False while the version is a candidate, or a person has to agree.
    """

    steps: tuple[int, ...]
    own: int
    decided: bool
    judged: dict[str, dict[int, dict[str, tuple[int, int]]]] = Field(default_factory=dict)
    named: frozenset[int] = frozenset()
    needed: dict[int, str] = Field(default_factory=dict)


def kept(training: Training, last: int) -> dict[int, str]:
    """The steps that stay, each with the reason. All others may go.

    Raises:
        InvalidInput: ``last`` is below 0.
    """
    if last < 0:
        raise InvalidInput("last", last, "give how many of the last checkpoints stay, 0 or more")
    steps = sorted(training.steps)
    if not training.decided:
        return dict.fromkeys(steps, UNDECIDED)
    found = {training.own: OWN} | dict.fromkeys(steps[len(steps) - min(last, len(steps)) :], LAST)
    for task_set in sorted(training.judged):
        found |= _best(training.judged[task_set])
    found |= dict.fromkeys(training.named, NAMED) | {step: f"{NEEDED}: {why}" for step, why in training.needed.items()}
    return {step: found[step] for step in steps if step in found}


def removable(training: Training, last: int) -> list[int]:
    """The steps whose folders may go."""
    stay = kept(training, last)
    return [step for step in sorted(training.steps) if step not in stay]


def _best(judged: Mapping[int, Counts]) -> dict[int, str]:
    """The tie set among checkpoints that were judged on one task set; all of them where they cannot be ranked."""
    if any(not counts for counts in judged.values()) or coverage(judged).unresolved:
        return dict.fromkeys(judged, TIED)
    candidates = [Candidate(step=step, types=dict(counts)) for step, counts in sorted(judged.items())]
    return dict.fromkeys(rank(candidates, None).tie_set if candidates else [], BEST)
