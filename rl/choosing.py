"""Which checkpoint of a chain goes on, from its verdicts, and what a person should know of the others.

A chain is the checkpoints of a run or of one training in the order they were made, what it started from first, at
place 0. Places are the steps of ``rl.selection`` and ``rl.alarms``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rl import health
from rl.alarms import Alarm, alarms
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
    """The candidates of a chain that have all their verdicts, and how they are compared."""

    points: Mapping[int, Point]
    candidates: list[Candidate]
    by: ByScenario

    @property
    def base(self) -> Candidate | None:
        return next((one for one in self.candidates if one.step == 0), None)

    def select(self) -> Selection:
        """The choice among them, at least one; a chain without a start vetoes nothing."""
        return rank(self.candidates, self.base, self.by)

    def alarms(self) -> list[Alarm]:
        """The alarms at each of them."""
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
            "alarms": [
                {"name": one.name, "version": self.points[one.step].label, "evidence": one.evidence}
                for one in self.alarms()
            ],
            "reason": selection.reason,
        }


def ranking(points: Mapping[int, Point], results: Mapping[int, Result], task_set: AnySet) -> Ranking:
    """The chain with the results that may be compared, by place. Counts are of scenarios, rounded down.

    A type of which one of them has no verdict is left out of all. Where most verdicts of one would be left out, as its
    types had other names then, there is one type of all.
    """
    counts = {place: _counts(result, task_set) for place, result in sorted(results.items())}
    judged = [{name for name, (_, n) in types.items() if n} for types in counts.values()]
    shared = set.intersection(*judged) if judged else set()
    kept = {place: {name: types[name] for name in types if name in shared} for place, types in counts.items()}
    if any(2 * _verdicts(kept[place]) < _verdicts(counts[place]) for place in counts) or not shared:
        kept = {place: {"all": _scenarios(one.k, one.n, task_set)} for place, one in sorted(results.items())}
    candidates = [Candidate(step=place, types=types, turns=results[place].turns) for place, types in kept.items()]
    return Ranking(points, candidates, ByScenario(results))


def _counts(result: Result, task_set: AnySet) -> dict[str, tuple[int, int]]:
    name = getattr(task_set, "environment", "logged")
    types = result.types or {name: (result.k, result.n)}
    return {kind: _scenarios(k, n, task_set) for kind, (k, n) in sorted(types.items())}


def _verdicts(types: Mapping[str, tuple[int, int]]) -> int:
    return sum(n for _, n in types.values())


def _scenarios(k: int, n: int, task_set: AnySet) -> tuple[int, int]:
    """Several samples of a scenario say less than as many scenarios: they count once, in parts."""
    return k // task_set.samples, -(-n // task_set.samples)


def _types(candidate: Candidate) -> dict[str, list[int]]:
    return {name: list(count) for name, count in candidate.types.items()}
