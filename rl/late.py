"""What becomes of rows that reach a source after their window was read, and of what became known still later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from rl.scoring_config import Scoring
from rl.training import Config

Policy = Literal["reopen", "extend", "ignore"]

RATING = "rating"
"""The name of the feedback that scores take into account."""


class Late(Config):
    """The source of an automatic line is looked at again for rows that came late.

    ``reopen`` reads a window again whatever its state: what is new in it is trained on by the next version. ``extend``
    does so until the window was trained on, ``ignore`` never. Windows that ended more than ``hours`` ago are left
    alone. ``outcomes_after`` are hours after a window's end at which it is read once more even without new rows,
    because the source learns meanwhile how things turned out; one that was missed is made up for within ``hours``.
    """

    policy: Policy = "reopen"
    hours: float = Field(72.0, gt=0)
    outcomes_after: tuple[Annotated[float, Field(gt=0)], ...] = ()

    @property
    def farthest(self) -> float:
        """Windows that ended more hours ago than this are not looked at."""
        return self.hours + max(self.outcomes_after, default=0.0)


@dataclass(frozen=True)
class Hour:
    """An hour window that was read before, as the look for late rows sees it.

    ``age`` is in hours since it ended, ``rows_read`` how many rows its source was known to have. ``training`` is
    ``live`` where a training job that names it is queued or running, ``done`` where one succeeded.
    """

    name: str
    state: str
    age: float
    rows_read: int = 0
    training: Literal["live", "done"] | None = None


@dataclass(frozen=True)
class Reading:
    """A window that should be read again: ``rows`` were found in its source, or it ended ``after_hours`` ago."""

    window: str
    rows: int | None = None
    after_hours: float | None = None


def admits(policy: Policy, hour: Hour) -> bool:
    """Whether rows that came late may be added to the window."""
    if policy == "extend":
        return hour.state in ("collected", "scored", "skipped") and hour.training is None
    return policy == "reopen" and hour.state in ("collected", "scored", "trained", "skipped")


def countable(late: Late, hours: Iterable[Hour]) -> list[Hour]:
    """Those of the windows whose rows are worth counting in the source."""
    return [one for one in hours if one.training != "live" and one.age < late.hours and admits(late.policy, one)]


def readings(late: Late, hours: Iterable[Hour], held: Mapping[str, int]) -> list[Reading]:
    """What should be read again. ``held`` is how many rows the source has of each window that is ``countable``.

    A window that a training is about to use is left for the next look.
    """
    known = list(hours)
    grown = [one for one in countable(late, known) if held.get(one.name, 0) > one.rows_read]
    due = [(one, _due(late, one)) for one in known if one.training != "live" and one.state != "skipped"]
    return [Reading(one.name, rows=held[one.name]) for one in grown] + [
        Reading(one.name, after_hours=after) for one, after in due if after is not None
    ]


def _due(late: Late, hour: Hour) -> float | None:
    """The latest moment at which outcomes are to be read that has come, unless it is too long ago."""
    passed = [after for after in late.outcomes_after if after <= hour.age < after + late.hours]
    return max(passed, default=None)


@dataclass(frozen=True)
class Heeds:
    """Which of the things that become known later can change a line's scores."""

    feedback: bool
    outcomes: bool

    @property
    def anything(self) -> bool:
        return self.feedback or self.outcomes


def heeds(scoring: Scoring) -> Heeds:
    """What the scoring takes into account: of the heuristics ``service`` alone looks at outcomes."""
    used = {term for term, weight in (scoring.weights or {}).items() if weight}
    shown = scoring.judge is not None and scoring.judge.judge_sees_outcomes
    outcomes = bool(used & {"outcome", "service"}) or scoring.variant == "service" or shown
    return Heeds(feedback="feedback" in used, outcomes=outcomes)
