"""Which checkpoint of a chain goes on, from its verdicts, and what a person should know of the others.

A chain is the checkpoints of a run or of one training in the order they were made, what it started from first, at
place 0. Places are the steps of ``rl.selection`` and ``rl.alarms``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rl import health
from rl.alarms import Alarm, alarms
from rl.alike import ALIKE, shared
from rl.comparison import probability_better
from rl.early_stop import early_stop
from rl.evaluating import Subject, subject
from rl.health import Training
from rl.line_state import AnySet, Result, VersionState
from rl.paired import bootstrap_better
from rl.selection import Candidate, Selection, rank, vetoes


@dataclass(frozen=True)
class Point:
    """A checkpoint of a chain: the version's, or one of several that its training wrote."""

    version: VersionState
    step: int | None = None

    @property
    def label(self) -> str:
        """The version's name, and the step where there are several."""
        return self.version.name if self.step is None else f"{self.version.name}@{self.step}"

    @property
    def subject(self) -> Subject:
        return subject(self.version, self.step)

    @property
    def is_last(self) -> bool:
        """Whether it is the last that the version's training wrote."""
        return self.step is None or self.step == self.version.checkpoints[-1]

    @property
    def training_score(self) -> float | None:
        """The mean reward of what it was trained on, where that is known."""
        found = None if self.step is None else self.version.scores.get(self.step)
        return self.version.reward if found is None and self.is_last else found

    @property
    def training(self) -> Training:
        """What is known of the update that wrote it."""
        return self.version.training.get(self.step, Training())

    def on(self, task_set: AnySet) -> Result | None:
        """Its result on the task set."""
        return self.version.on(task_set, self.step)


def points_of(start: VersionState | None, trained: Iterable[VersionState]) -> dict[int, Point]:
    """The chain by place: the start, if there is one, at 0, then each version's checkpoints."""
    points = {} if start is None else {0: Point(start)}
    place = 1
    for version in trained:
        for step in version.checkpoints or (None,):
            points[place] = Point(version, step)
            place += 1
    return points


class ByScenario:
    """Compares candidates by the paired bootstrap over the scenarios that both have all their verdicts on.

    Samples of a scenario are one cluster. Results that are not of the same scenarios are compared by their counts.
    """

    def __init__(self, results: Mapping[int, Result]) -> None:
        self.results = results

    def score(self, candidate: Candidate) -> float:
        return candidate.posterior_mean

    def better(self, one: Candidate, other: Candidate) -> float:
        first, second = self.results[one.step], self.results[other.step]
        if not first.successes or first.scenarios != second.scenarios:
            return probability_better(*one.overall, *other.overall)
        pairs = zip(first.successes, second.successes, strict=True)
        return bootstrap_better([a - b for a, b in pairs if a is not None and b is not None])


@dataclass(frozen=True)
class Ranking:
    """The candidates of a chain that can be ranked, how they are compared, and by place why others cannot be."""

    points: Mapping[int, Point]
    candidates: list[Candidate]
    by: ByScenario
    left_out: Mapping[int, str] = field(default_factory=dict)

    @property
    def base(self) -> Candidate | None:
        return next((one for one in self.candidates if one.step == 0), None)

    def select(self) -> Selection:
        """The choice among them, at least one; a chain without a start vetoes nothing."""
        return rank(self.candidates, self.base, self.by)

    def alarms(self) -> list[Alarm]:
        """The alarms at each point, as far as they can be told: a training's need no verdicts."""
        scores = {place: point.training_score for place, point in self.points.items() if place != 0}
        known = {place: one for place, one in scores.items() if one is not None}
        found = [*alarms(self.candidates, known, self.by), *self._symptoms()]
        return sorted(found, key=lambda alarm: (alarm.step, alarm.name))

    def _symptoms(self) -> Iterator[Alarm]:
        """What is wrong with their trainings and evaluations, of all but the start."""
        start = self.by.results.get(0)
        before = None if start is None else (start.at_limit, start.n)
        for place, point in self.points.items():
            if place == 0:
                continue
            found = list(health.of_training(point.training))
            if (one := self.by.results.get(place)) is not None:
                found += health.of_evaluation(one.n, one.broken, one.at_limit, before)
            yield from (Alarm(name=name, step=place, evidence=evidence) for name, evidence in found)

    def stopped(self, patience: int, since: int) -> int | None:
        """The place at which patience ran out. Versions count up to the first that has not all its verdicts yet."""
        scores = {one.step: self.by.score(one) for one in self.candidates}
        lasts = [place for place, point in sorted(self.points.items()) if point.is_last or place == 0]
        known = next((at for at, place in enumerate(lasts) if place not in scores), len(lasts))
        return early_stop(((place, scores[place]) for place in lasts[:known]), patience, since)

    def evidence(self) -> dict[str, Any]:
        """What a choice rests on, by name, for the row of the decision."""
        selection, base = self.select(), self.base
        return {
            "tie_set": [self.points[place].label for place in selection.tie_set],
            "validation": {self.points[one.step].label: list(one.overall) for one in self.candidates},
            "types": {self.points[one.step].label: _types(one) for one in self.candidates},
            "vetoed": [
                {"version": self.points[veto.step].label, "type": veto.type, "p": round(veto.p, 6)}
                for one in self.candidates
                for veto in ([] if base is None else vetoes(one, base))
            ],
            "posterior": {self.points[place].label: round(mean, 6) for place, mean in selection.posterior.items()},
            "alarms": self.told(),
            "reason": selection.reason,
        } | ({"remarks": remarks} if (remarks := self.remarks()) else {})

    def told(self) -> list[dict[str, str]]:
        """The alarms by name, version and evidence."""
        return [
            {"name": one.name, "version": self.points[one.step].label, "evidence": one.evidence}
            for one in self.alarms()
        ]

    def remarks(self, labels: Mapping[int, str] | None = None) -> list[str]:
        """What is not ranked, and which types are not compared between all, in words; ``labels`` are by place."""
        named = labels or {place: point.label for place, point in self.points.items()}
        judged = {named[one.step]: one.types for one in self.candidates}
        alike = set(shared(list(judged.values()))) if judged else set()
        apart = {name for types in judged.values() for name in types} - alike
        return [
            *(f"{named[place]} is not ranked: {reason}" for place, reason in sorted(self.left_out.items())),
            *(
                _apart(name, {label: types.get(name, (0, 0))[1] for label, types in judged.items()})
                for name in sorted(apart)
            ),
        ]


def ranking(points: Mapping[int, Point], results: Mapping[int, Result], task_set: AnySet) -> Ranking:
    """The chain with the results that may be compared, by place. Counts are of scenarios, rounded down.

    A result with far fewer verdicts than another one is left out, with the reason: a rate of few scenarios says nothing
    beside one of many.
    """
    most = max((one.n for one in results.values()), default=0)
    left_out = {place: _few(one.n, most) for place, one in results.items() if one.n == 0 or one.n < ALIKE * most}
    candidates = [
        Candidate(step=place, types=_counts(one, task_set), turns=one.turns)
        for place, one in sorted(results.items())
        if place not in left_out
    ]
    return Ranking(points, candidates, ByScenario(results), left_out)


def _few(n: int, most: int) -> str:
    return f"{n} verdicts, where another has {most}; evaluate the missing scenarios first"


def _counts(result: Result, task_set: AnySet) -> dict[str, tuple[int, int]]:
    """By type, of those that have verdicts."""
    types = {kind: _scenarios(k, n, task_set) for kind, (k, n) in sorted(result.types.items()) if n}
    return types or {getattr(task_set, "environment", "logged"): _scenarios(result.k, result.n, task_set)}


def _apart(name: str, sizes: Mapping[str, int]) -> str:
    """Which versions have how many verdicts of a type that not all have."""
    by_size = {
        n: [label for label, size in sizes.items() if size == n] for n in sorted({*sizes.values()}, reverse=True)
    }
    counts = ", ".join(f"{n or 'none'} at {', '.join(labels)}" for n, labels in by_size.items())
    return f"type {name} is not compared between all: verdicts of it are {counts}"


def _scenarios(k: float, n: int, task_set: AnySet) -> tuple[int, int]:
    """Several samples of a scenario say less than as many scenarios: they count once, in parts."""
    return int(k // task_set.samples), -(-n // task_set.samples)


def _types(candidate: Candidate) -> dict[str, list[int]]:
    return {name: list(count) for name, count in candidate.types.items()}
