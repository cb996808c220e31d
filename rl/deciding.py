"""What a decision still needs: evaluations for choosing a checkpoint, those that confirm it, and then the decision.

A run chooses among its versions on the validation scenarios. All that the data do not tell apart are then evaluated on
the held-out scenarios, which chose nothing before; the one that does best there is decided on. Of a version outside a
run with several checkpoints the best on the validation scenarios goes on, with the stable version as step 0, and it
alone is evaluated on scenarios that chose nothing: the later half of the hours, or as many seeds of the other split.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rl.choosing import Point, Ranking, points_of, ranking
from rl.config import Release, RunConfig, TaskSet
from rl.evaluating import Compared, compared
from rl.evaluation_order import ranks
from rl.held_out import LOGGED, LoggedSet, sets_of
from rl.line_state import Alarmed, AnySet, LineState, Result, RunState, VersionState, Want
from rl.selection import Candidate, best_of


def points_of_run(line: LineState, run: RunState) -> dict[int, Point]:
    """The run's checkpoints by place, but for those that nothing can choose any more; the start is always among them.

    A version that somebody rejected by hand is left out, and so is every checkpoint of a released one but its own:
    what agents are served as one version never changes.
    """
    return _points(line.chain(run))


def _points(chain: list[VersionState]) -> dict[int, Point]:
    points = points_of(chain[0] if chain else None, chain[1:])
    return {place: point for place, point in points.items() if place == 0 or _can_be_chosen(point)}


def _can_be_chosen(point: Point) -> bool:
    state = point.version.state
    return state == "candidate" or (state != "rejected" and _is_own(point, point.version))


def judged_of(line: LineState, run: RunState) -> tuple[Compared, Ranking]:
    """The run's checkpoints on its validation scenarios: what is missing, and those that can be ranked."""
    return judged_in(run, line.chain(run), line.config.shard)


def judged_in(run: RunState, chain: list[VersionState], shard: int | None) -> tuple[Compared, Ranking]:
    """The same of a chain of versions."""
    points = _points(chain)
    judged = on(points, run.config.validation, shard)
    return judged, ranking(points, judged.results, run.config.validation)


def on(points: Mapping[int, Point], task_set: AnySet, shard: int | None) -> Compared:
    """What is known of the points on the task set, and what is missing, the newest first."""
    places = sorted(points)
    found = {place: points[place].on(task_set) for place in places}
    whole = compared({place: (points[place].subject, found[place]) for place in places}, task_set, shard).results
    order = ranks(len(places), [index for index, place in enumerate(places) if place in whole])
    by_place = {places[index]: rank for index, rank in order.items()}
    return compared({place: (points[place].subject, found[place]) for place in places}, task_set, shard, by_place)


def conclude(line: LineState, run: RunState, found: Ranking) -> Iterator[Want]:
    """The held-out evaluations of the tie set and the rival; once they are there, the decision that ends the run."""
    points, config = found.points, run.config
    # The stable version is the one that the run started from, unless something else was released meanwhile.
    rival = line.version(line.stable) or points[0].version
    place_of_rival = next((place for place, point in points.items() if _is_own(point, rival)), max(points) + 1)
    # A start that was rolled back meanwhile may be what others are compared with, and is not released again.
    tied = {place: points[place] for place in found.select().tie_set if points[place].version.state != "rejected"}
    tied = tied or {place_of_rival: Point(rival)}
    held = on_held_out({place_of_rival: Point(rival)} | tied, config.held_out, line.config.shard)
    yield from held.wants
    if not held.complete:
        return
    confirmed = ranking(tied, {place: held.results[place] for place in tied}, config.held_out)
    best = best_of(confirmed.candidates, confirmed.by)
    shown = {tied[one.step].label: list(one.overall) for one in confirmed.candidates}
    evidence = found.evidence() | {"confirmed": shown} | _stopped(run, found)
    yield decide(line, config, rival.name, tied[best.step], config.held_out, config.release, evidence)


def on_held_out(points: Mapping[int, Point], task_set: AnySet, shard: int | None) -> Compared:
    """The same as ``on``, all equally urgent: a decision waits for each of them."""
    return compared({place: (point.subject, point.on(task_set)) for place, point in points.items()}, task_set, shard)


def outside_run(line: LineState, version: VersionState) -> Iterator[Want]:
    """The evaluations of a candidate that no run trained, and the decision on it."""
    sets = _sets(line, version)
    if sets is None:
        return
    points, to_decide = points_of(line.version(line.stable), [version]), sets[1]
    pick, evidence = points[max(points)], _unchosen(points, sets[0])
    if len(version.checkpoints) > 1 and not evidence:
        judged = _against_stable(points, sets[0], line.config.shard)
        yield from judged.wants
        if not judged.complete:
            return
        found = ranking(points, judged.results, sets[0])
        evidence, best = found.evidence(), _best_trained(found)
        if best is None:
            evidence["no_improvement"], to_decide = found.select().reason, sets[0]
        else:
            pick = points[best.step]
    finalists = {place: point for place, point in points.items() if place == 0 or point is pick}
    judged = _against_stable(finalists, to_decide, line.config.shard)
    yield from judged.wants
    if judged.complete and line.canary is None:
        yield decide(line, None, line.stable, pick, to_decide, line.config.release, evidence)


def alarms_outside_run(line: LineState, version: VersionState) -> Iterator[Alarmed]:
    """The alarms of a candidate's checkpoints, with the stable version as what training started from."""
    sets, points = _sets(line, version), points_of(line.version(line.stable), [version])
    if sets is None:
        return
    for task_set in sets[:1] if sets[0] == sets[1] else sets:
        found = ranking(points, _against_stable(points, task_set, None).results, task_set)
        yield from (Alarmed(one.name, points[one.step].label, one.evidence) for one in found.alarms())


def decide(
    line: LineState,
    run: RunConfig | None,
    base: str | None,
    candidate: Point,
    task_set: AnySet,
    release: Release,
    evidence: Mapping[str, Any],
) -> Want:
    """The decision on the candidate against ``base``, with what the choice rests on.

    It names the release that is stable. A decision is not made when another version is stable by then; when that one
    comes back later, by a rollback, it does so by a release of its own, and the decision is asked for anew.
    """
    inputs: dict[str, Any] = {"candidate": candidate.version.name, "run": run.name if run else None, "base": base}
    if (step := candidate.subject.step) is not None:
        inputs["step"] = step
    if line.stable_release is not None:
        inputs["release"] = line.stable_release
    config = {
        "release": release.model_dump(mode="json"),
        "task_set": task_set.model_dump(mode="json"),
        "evidence": dict(evidence),
    }
    return Want("decide", "score", inputs, config)


def _sets(line: LineState, version: VersionState) -> tuple[AnySet, AnySet] | None:
    """What checkpoints are chosen by, and what is decided by; None where the line says neither."""
    if (validation := line.config.validation) is not None:
        return validation, validation if len(version.checkpoints) < 2 else _fresh(validation)
    hours = [name for name in version.windows if not name.startswith("run/")]
    if line.config.held_out is None or not hours:
        return None
    known = [one.name for one in line.windows if one.run is None and one.state != "skipped"]
    several = len(version.checkpoints) > 1
    return sets_of(hours, line.config.held_out, line.stable or LOGGED, known=known, chooses=several)


def _unchosen(points: Mapping[int, Point], task_set: AnySet) -> dict[str, Any]:
    """Of several checkpoints, where the logs hold no scenario to choose one by: the reason; otherwise empty."""
    trained = [point for place, point in points.items() if place != 0]
    if isinstance(task_set, TaskSet) or len(trained) < 2:
        return {}
    found = [point.on(task_set) for point in trained]
    if task_set.since < task_set.until and not any(one is not None and one.n + one.missing == 0 for one in found):
        return {}
    span = f"from {task_set.since} to {task_set.until}"
    return {"unchosen": f"the logs hold no held-out scenario {span}: the last checkpoint is decided on"}


def _fresh(task_set: TaskSet) -> TaskSet:
    """As many seeds of the other split: the best of several on some scenarios seems better there than it is."""
    split = "held_out" if task_set.split == "validation" else "validation"
    return task_set.model_copy(update={"split": split})


def _against_stable(points: Mapping[int, Point], task_set: AnySet, shard: int | None) -> Compared:
    """As ``on``; where answers are compared with the stable version's, its own verdicts are ties with itself."""
    if isinstance(task_set, TaskSet) or not task_set.against:
        return on(points, task_set, shard)
    judged = on({place: point for place, point in points.items() if place != 0}, task_set, shard)
    like = next(iter(judged.results.values()), None)
    if 0 not in points or like is None:
        return judged
    return Compared({0: _all_ties(like, task_set)} | dict(judged.results), judged.wants, judged.places + 1)


def _all_ties(like: Result, task_set: LoggedSet) -> Result:
    samples = tuple(None if one is None else task_set.samples for one in like.successes)
    types = {name: (n // 2, n) for name, (_, n) in like.types.items()}
    return Result(like.n // 2, like.n, None, types, scenarios=like.scenarios, successes=samples)


def _best_trained(found: Ranking) -> Candidate | None:
    """The pick, or where that is the start, the best that the data do not tell from it; None: no improvement."""
    selection = found.select()
    tied = [one for one in found.candidates if one.step in selection.tie_set and one.step != 0]
    picked = [one for one in tied if one.step == selection.pick]
    return best_of(picked or tied, found.by) if tied else None


def _is_own(point: Point, version: VersionState) -> bool:
    return point.version.name == version.name and point.step in (None, version.own)


def _stopped(run: RunState, found: Ranking) -> dict[str, Any]:
    stop = run.config.early_stop
    place = None if stop is None else found.stopped(stop.patience, run.patient_from)
    return {"early_stop": None if place is None else found.points[place].label}
