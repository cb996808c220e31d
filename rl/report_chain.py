"""The report of a chain of checkpoints of the fleet: a run's versions, or the checkpoints of one training.

The choice is that of ``rl.choosing``, so the report says what the fleet does. A checkpoint whose verdicts are too few,
or of another judge, prompt or scenarios than the newest, is drawn hollow and not ranked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from rl.alarms import Alarm
from rl.choosing import Point as ChainPoint
from rl.choosing import Ranking, ranking
from rl.config import TaskSet
from rl.early_stop import PATIENCE, early_stop
from rl.evaluating import compared, coverage
from rl.line_state import AnySet, Result
from rl.report import Point, Report, counted, size_of, total
from rl.selection import MIN_COVERAGE, Selection, vetoes

TRAINED = "the training score of a version is the mean reward of the round that it was trained on"
BATCHED = (
    "the training score of a checkpoint is the mean score of that step's batch, which was played before the training: "
    "a fall of it says little"
)
NOT_EVALUATED = "not evaluated"


def of_chain(
    kind: Literal["run", "version"],
    title: str,
    points: Mapping[int, ChainPoint],
    task_set: AnySet,
    *,
    labels: Mapping[int, str],
    patience: int | None = None,
    patient_from: int = 0,
    decision: str = "",
) -> Report:
    """The report of checkpoints by their place on the axis; 0 is what they started from, where it is among them.

    ``decision`` is what was decided, in words. ``patience`` is that of the early stop; None is the usual one.
    """
    known = _known(points, task_set)
    found = compared({at: (one.subject, known[at]) for at, one in points.items()}, task_set, None).results
    ranked = ranking(points, found, task_set)
    selection = ranked.select() if ranked.candidates else None
    drawn = [_point(at, points[at], labels[at], known[at], task_set, ranked, selection) for at in sorted(points)]
    most = max((one.overall.n for one in drawn if one.overall is not None), default=0)
    return Report(
        title=title,
        kind=kind,
        axis="version" if kind == "run" else "optimizer step",
        judged_on=described(task_set),
        types=sorted({name for one in drawn for name in one.types}),
        points=drawn,
        alarms=_alarms(kind, ranked, labels),
        early_stop=_stopped(kind, ranked, patience or PATIENCE, patient_from),
        pick=selection.pick if selection else None,
        reason=_reason(kind, selection, labels),
        decision=decision,
        notes=[*_notes(kind, drawn, task_set), *ranked.remarks(labels)],
        size=size_of(most),
    )


def _stopped(kind: str, ranked: Ranking, patience: int, patient_from: int) -> int | None:
    """Where patience ran out: a run counts its versions, a training its checkpoints."""
    if kind == "run":
        return ranked.stopped(patience, patient_from)
    return early_stop(((one.step, ranked.by.score(one)) for one in ranked.candidates), patience)


def _reason(kind: str, selection: Selection | None, labels: Mapping[int, str]) -> str:
    if selection is None:
        return "there is nothing to rank: no checkpoint has its verdicts"
    if len(selection.probability) == 1:
        others = ": the others are vetoed" if selection.vetoed else ""
        return _named(kind, f"step {selection.pick} is the only one that can be chosen{others}", labels)
    return _named(kind, selection.reason, labels)


def _alarms(kind: str, ranked: Ranking, labels: Mapping[int, str]) -> list[Alarm]:
    return [one.model_copy(update={"evidence": _named(kind, one.evidence, labels)}) for one in ranked.alarms()]


def _named(kind: str, words: str, labels: Mapping[int, str]) -> str:
    """The words with versions in place of the steps of a run, which count its checkpoints."""
    if kind != "run":
        return words

    words = re.sub(r"the best step so far, (\d+)", lambda found: f"the best so far, {labels[int(found[1])]}", words)
    return re.sub(
        r"\bsteps? (\d+(?:, \d+)*)", lambda found: ", ".join(labels[int(one)] for one in found[1].split(", ")), words
    )


def _known(points: Mapping[int, ChainPoint], task_set: AnySet) -> dict[int, Result | None]:
    """The results. What answers were compared with has none of its own: it ties with itself."""
    known = {at: one.on(task_set) for at, one in points.items()}
    like = next((one for at, one in sorted(known.items()) if at != 0 and one is not None), None)
    if isinstance(task_set, TaskSet) or not task_set.against or like is None or 0 not in known:
        return known
    ties = tuple(None if one is None else task_set.samples for one in like.successes)
    types = {name: (n // 2, n) for name, (_, n) in like.types.items()}
    itself = Result(
        like.n // 2,
        like.n,
        None,
        types,
        judge=like.judge,
        prompt_hash=like.prompt_hash,
        scenarios=like.scenarios,
        successes=ties,
        ids=like.ids,
        kinds=like.kinds,
    )
    return known | {0: itself}


def _point(
    at: int,
    one: ChainPoint,
    label: str,
    result: Result | None,
    task_set: AnySet,
    ranked: Ranking,
    selection: Selection | None,
) -> Point:
    mine = next((found for found in ranked.candidates if found.step == at), None)
    base = ranked.base
    types = mine.types if mine else _counts(one, result, task_set)
    share = 0.0 if result is None else coverage(task_set, result)
    return Point(
        step=at,
        label=label,
        overall=total(types),
        types=counted(types),
        training_score=None if at == 0 else one.training_score,
        coverage=min(share, 1.0),
        tied=selection is not None and at in selection.tie_set,
        picked=selection is not None and at == selection.pick,
        vetoed=tuple(veto.type for veto in vetoes(mine, base)) if mine and base else (),
        left_out="" if mine else _why(result, share),
    )


def _counts(one: ChainPoint, result: Result | None, task_set: AnySet) -> dict[str, tuple[int, int]]:
    """What is known of a checkpoint that is not ranked, counted as if it were."""
    if result is None or result.n == 0:
        return {}
    return ranking({0: one}, {0: result}, task_set).candidates[0].types


def _why(result: Result | None, share: float) -> str:
    if result is None or result.n == 0:
        return NOT_EVALUATED
    if share < MIN_COVERAGE:
        return f"{share:.0%} of the verdicts are there; at least {MIN_COVERAGE:.0%} are needed"
    return "judged by another judge or prompt, or not on all scenarios yet"


def _notes(kind: str, drawn: list[Point], task_set: AnySet) -> list[str]:
    """What the numbers are, and which are missing."""
    notes = []
    if any(one.training_score is not None for one in drawn):
        notes.append(TRAINED if kind == "run" else BATCHED)
    if untold := [one.label for one in drawn if one.training_score is None and one.step != 0]:
        notes.append(f"no training score of {', '.join(untold)}")
    if task_set.samples > 1:
        notes.append(f"each scenario was sampled {task_set.samples} times; counts are of scenarios, rounded down")
    if not isinstance(task_set, TaskSet) and task_set.against:
        rate = f"a rate is that of answers better than those of {task_set.against}"
        notes.append(f"{rate}; a tie is half of one, and counts are rounded down")
    return notes


def described(task_set: AnySet) -> str:
    """The scenarios in words."""
    if isinstance(task_set, TaskSet):
        last = task_set.first_seed + task_set.count - 1
        return f"{task_set.count} {task_set.split} scenarios of {task_set.environment}, {task_set.first_seed} to {last}"
    judge = f"against {task_set.against}" if task_set.against else f"by {task_set.verifier}"
    return f"at most {task_set.count} held-out logged scenarios of {task_set.since} to {task_set.until}, {judge}"
