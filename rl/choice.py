"""The choice among published checkpoints, from lint to confirmation: what ``rlfleet select`` says.

Published numbers become counts (``rl.lint``), rows that were not judged on the same scenarios are left out
(``rl.coverage``), the rest is ranked (``rl.selection``): by weighted rates where there are weights; by the paired
bootstrap where every cell holds verdicts by scenario; else by independent overall rates. Without a usable step 0
nothing is vetoed, and the pick is the best of what is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rl.alarms import Alarm, alarms
from rl.comparison import probability_best
from rl.confirmation import Confirmation, confirmation
from rl.coverage import Coverage, coverage
from rl.early_stop import early_stop
from rl.intervals import beta_interval
from rl.lint import Lint, Linted, lint
from rl.paired import PairedVerdicts
from rl.published import PublishedRow
from rl.records import Record
from rl.selection import INDEPENDENT, Candidate, Comparison, Selection, Veto, rank, vetoes
from rl.weighted import Weighted

MOST_COMPARED = 200
"""With more checkpoints the probability of each to be the best is left out: it takes long and is small."""


class Ranked(Record):
    """One checkpoint with the posterior of its overall rate, weighted where there are weights.

    ``best_better`` is P(the best is better than it) and ``best`` is P(its rate is the highest); None for vetoed ones,
    and ``best`` for all where there are more than 200.
    """

    step: int
    k: int
    n: int
    mean: float
    interval: tuple[float, float]
    types: dict[str, tuple[int, int]]
    coverage: float
    best_better: float | None
    best: float | None


class Choice(Record):
    """What was picked, of what, and what the data do not tell. ``pick`` is None where nothing can be ranked."""

    pick: int | None
    tie_set: list[int]
    reason: str
    vetoed: list[Veto]
    lint: list[Lint]
    unresolved: dict[int, str]
    coverage: dict[int, float]
    early_stop: int | None
    alarms: list[Alarm]
    rows: list[Ranked]
    paired: bool
    weights: dict[str, float] | None
    confirm: Confirmation | None
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        """One object for machines; ``posterior`` holds the posterior means of the overall rates by step."""
        return {
            "schema": 1,
            "pick": self.pick,
            "tie_set": self.tie_set,
            "vetoed": [one.model_dump() for one in self.vetoed],
            "lint": [one.model_dump() for one in self.lint],
            "unresolved": sorted(self.unresolved),
            "early_stop": self.early_stop,
            "alarms": [one.model_dump() for one in self.alarms],
            "posterior": {str(row.step): row.mean for row in self.rows},
            "reason": self.reason,
            "why_unresolved": {str(step): why for step, why in sorted(self.unresolved.items())},
            "rows": [row.model_dump(mode="json") for row in self.rows],
            "paired": self.paired,
            "weights": self.weights,
            "confirm": None if self.confirm is None else self.confirm.model_dump(),
            "notes": self.notes,
        }


def choose(rows: Sequence[PublishedRow], weights: Mapping[str, float] | None = None) -> Choice:
    """Lint, veto, rank, and look for alarms. The order of rows and of types changes nothing.

    Raises:
        InvalidInput: a weight of a type that is not ranked, below 0, or all of them 0.
    """
    by_step = {row.step: row for row in sorted(rows, key=lambda row: row.step)}
    linted = {step: lint(row) for step, row in by_step.items()}
    covered = coverage({step: one.counts for step, one in linted.items() if not one.unresolved}, _asked(rows))
    unresolved = {step: one.unresolved for step, one in linted.items() if one.unresolved} | covered.unresolved
    candidates = [_candidate(by_step[step], linted[step], covered) for step in by_step if step not in unresolved]
    base = next((one for one in candidates if one.step == 0), None)
    by = _comparison(candidates, by_step, weights)
    selection = rank(candidates, base, by) if candidates else None
    training = {row.step: row.training_score for row in by_step.values() if row.training_score is not None}
    ranked = [] if selection is None else _ranked(candidates, selection, covered, by)
    return Choice(
        pick=None if selection is None else selection.pick,
        tie_set=[] if selection is None else selection.tie_set,
        reason=_reason(selection),
        vetoed=[] if base is None else [veto for one in candidates for veto in vetoes(one, base)],
        lint=[flag for one in linted.values() for flag in one.lint],
        unresolved=dict(sorted(unresolved.items())),
        coverage=covered.share,
        early_stop=early_stop((one.step, by.score(one)) for one in candidates),
        alarms=alarms(candidates, training, by),
        rows=ranked,
        paired=isinstance(by, PairedVerdicts),
        weights=None if weights is None else dict(weights),
        confirm=None if selection is None else confirmation(candidates, selection, by),
        notes=_notes(by_step, candidates, selection, training),
    )


def _candidate(row: PublishedRow, linted: Linted, covered: Coverage) -> Candidate:
    types = {name: linted.counts[name] for name in sorted(covered.sizes)}
    return Candidate(step=row.step, types=types, turns=row.turns, tokens=row.tokens)


def _asked(rows: Sequence[PublishedRow]) -> dict[str, int]:
    """Scenarios of each type that some row names, with or without a verdict."""
    named: dict[str, set[str]] = {}
    for row in rows:
        for name, cell in row.types.items():
            named.setdefault(name, set()).update(cell.verdicts or ())
    return {name: len(scenarios) for name, scenarios in named.items()}


def _comparison(
    candidates: Sequence[Candidate], rows: Mapping[int, PublishedRow], weights: Mapping[str, float] | None
) -> Comparison:
    if weights is not None and candidates:
        return Weighted(candidates, weights)
    verdicts = {one.step: {name: rows[one.step].types[name].verdicts for name in one.types} for one in candidates}
    held = {step: {name: one for name, one in types.items() if one is not None} for step, types in verdicts.items()}
    return PairedVerdicts(held) if candidates and held == verdicts else INDEPENDENT


def _ranked(candidates: Sequence[Candidate], selection: Selection, covered: Coverage, by: Comparison) -> list[Ranked]:
    survivors = [one for one in candidates if one.step in selection.probability]
    weighted = by if isinstance(by, Weighted) else None
    highest: dict[int, float] = {}
    if len(survivors) <= MOST_COMPARED:
        best = weighted.best(survivors) if weighted else probability_best([one.overall for one in survivors])
        highest = dict(zip((one.step for one in survivors), best, strict=True))
    return [
        Ranked(
            step=one.step,
            k=one.overall[0],
            n=one.overall[1],
            mean=by.score(one),
            interval=weighted.interval(one) if weighted else beta_interval(*one.overall),
            types=one.types,
            coverage=covered.share[one.step],
            best_better=selection.probability.get(one.step),
            best=highest.get(one.step),
        )
        for one in candidates
    ]


def _reason(selection: Selection | None) -> str:
    if selection is None:
        return "there is nothing to rank"
    if len(selection.probability) == 1:
        others = ": the others are vetoed" if selection.vetoed else ""
        return f"step {selection.pick} is the only one that can be chosen{others}"
    return selection.reason


def _notes(
    rows: Mapping[int, PublishedRow],
    candidates: Sequence[Candidate],
    selection: Selection | None,
    training: Mapping[int, float],
) -> list[str]:
    """What the data do not tell."""
    notes = []
    if selection is not None and 0 not in selection.probability:
        what = "step 0 cannot be ranked" if 0 in rows else "there is no step 0, the version that training started from"
        notes.append(f"{what}: nothing is vetoed, and whether step {selection.pick} improves on it is not told")
    elif selection is not None and selection.pick != 0 and 0 in selection.tie_set:
        notes.append(f"the data do not tell step {selection.pick} from step 0: no improvement is shown")
    if untold := [step for step in rows if step != 0 and step not in training]:
        steps = ", ".join(map(str, untold))
        notes.append(f"no training score at {steps}: COLLAPSE and OVEROPTIMISATION cannot be told there")
    if low := [step for step, score in training.items() if score <= 0]:
        notes.append(f"training scores of 0 or less at {', '.join(map(str, low))}: a fall from there is no COLLAPSE")
    dropped = sorted({name for row in rows.values() for name in row.types} - _types(candidates))
    if candidates and dropped:
        notes.append(f"not ranked by {', '.join(dropped)}: no row that is ranked has verdicts of it")
    return notes


def _types(candidates: Sequence[Candidate]) -> set[str]:
    return {name for one in candidates for name in one.types}
