"""Ranking checkpoints of a chain: counts in scenarios, pairs by scenario, and where patience ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rl.choosing import Point, Ranking, points_of, ranking
from rl.config import TaskSet, digest
from rl.early_stop import early_stop
from rl.line_state import Result, VersionState
from rl.paired import bootstrap_better
from rl.selection import probability_better

TASKS = TaskSet(environment="grid", split="validation", count=4)
TWICE = TaskSet(environment="grid", split="validation", count=4, samples=2, temperature=1.0)


def version(number: int, **more: object) -> VersionState:
    return replace(VersionState(f"v{number}", "candidate", (), {}), **more)  # type: ignore[arg-type]


def result(*successes: int | None, scenarios: str = "s", samples: int = 1) -> Result:
    """Of one type; successes are in halves, two for each sample that is right."""
    known = [one for one in successes if one is not None]
    n = samples * len(known)
    return Result(sum(known) // 2, n, 1.0, {"grid": (sum(known) // 2, n)}, scenarios=scenarios, successes=successes)


def ranked(*results: Result, task_set: TaskSet = TASKS) -> Ranking:
    points = points_of(version(0), [version(number) for number in range(1, len(results))])
    return ranking(points, dict(enumerate(results)), task_set)


def test_pairs_are_compared_by_scenario_and_others_by_their_counts() -> None:
    found = ranked(result(2, 0, 0, 0), result(2, 2, 2, 0), result(0, 2, 2, 2, scenarios="other"))
    zero, one, two = found.candidates
    assert found.by.better(one, zero) == pytest.approx(1 - 1 / 16 + 1 / 32)
    assert found.by.better(one, two) == probability_better(3, 4, 3, 4) == 0.5


def test_scenarios_without_a_verdict_of_one_side_tell_nothing() -> None:
    found = ranked(result(2, None, 0, 0), result(2, 0, 2, None))
    zero, one = found.candidates
    assert found.by.better(one, zero) == pytest.approx(bootstrap_better([0, 1]))


def test_samples_of_a_scenario_are_one_cluster_and_count_once() -> None:
    found = ranked(result(4, 0, 0, 0, samples=2), result(4, 4, 2, 2, samples=2), task_set=TWICE)
    zero, one = found.candidates
    assert (zero.overall, one.overall) == ((1, 4), (3, 4)), "2 of 8 and 6 of 8 samples"
    assert found.by.better(one, zero) == pytest.approx(bootstrap_better([0, 2, 1, 1]))


@pytest.mark.parametrize("rare", [(1, 1), (0, 0)])
def test_a_rare_type_without_a_verdict_turns_no_veto_off(rare: tuple[int, int]) -> None:
    """The version is credibly worse in one type, whatever is known of the rare one."""
    start = Result(141, 201, 1.0, {"far": (90, 100), "near": (50, 100), "rare": (1, 1)})
    better = {"far": (60, 100), "near": (100, 100), "rare": rare}
    k, n = (sum(one[side] for one in better.values()) for side in (0, 1))
    found = ranked(start, Result(k, n, 1.0, better))
    kept = {"far", "near"} | ({"rare"} if rare[1] else set())
    assert [one.types.keys() for one in found.candidates] == [{"far", "near", "rare"}, kept]
    assert [one.overall for one in found.candidates] == [(141, 201), (k, n)], "every verdict counts"
    said = ["type rare is not compared between all: verdicts of it are 1 at v0, none at v1"]
    assert found.remarks() == found.evidence().get("remarks", []) == ([] if rare[1] else said)
    assert found.select().pick == 0
    assert [(one["version"], one["type"]) for one in found.evidence()["vetoed"]] == [("v1", "far")]


def test_a_chain_has_the_start_at_0_and_each_checkpoint_at_a_place_of_its_own() -> None:
    several = version(1, checkpoints=(10, 20), scores={10: 0.4})
    points = points_of(version(0), [several, version(2, reward=0.7)])
    assert [points[place].label for place in sorted(points)] == ["v0", "v1@10", "v1@20", "v2"]
    assert [points[place].training_score for place in sorted(points)] == [None, 0.4, None, 0.7]
    assert [points[place].is_last for place in sorted(points)] == [True, False, True, True]
    assert (points[1].subject.step, points[2].subject.step) == (10, None)
    assert min(points_of(None, [version(1)])) == 1


def test_once_a_decision_chose_a_checkpoint_the_version_stands_for_it() -> None:
    task_set = digest(TASKS)
    early, late = result(2), result(0)
    chosen = version(1, checkpoints=(10, 20), chosen=10, results={task_set: early}, steps={20: {task_set: late}})
    assert (chosen.on(TASKS), chosen.on(TASKS, 20), chosen.on(TASKS, 10)) == (early, late, early)
    assert Point(chosen).subject.step == 10


SCORES = [(0, 0.4), (1, 0.6), (2, 0.6), (3, 0.5), (4, 0.7)]


@pytest.mark.parametrize(
    ("patience", "since", "stops"), [(1, 0, 2), (2, 0, 3), (3, 0, None), (2, 3, None), (1, 3, 3), (1, 4, None)]
)
def test_patience_counts_from_the_step_it_is_given(patience: int, since: int, stops: int | None) -> None:
    assert early_stop(SCORES, patience, since) == stops


def test_patience_goes_no_further_than_the_first_version_without_verdicts() -> None:
    points = points_of(version(0), [version(number) for number in range(1, 5)])
    half, most = result(2, 2, 0, 0), result(2, 2, 2, 0)
    gap = ranking(points, {0: most, 1: half, 3: half, 4: half}, TASKS)
    assert gap.stopped(2, 0) is None
    assert ranking(points, {0: most, 1: half, 2: half, 3: half}, TASKS).stopped(2, 0) == 2
    assert ranking(points, {0: most, 1: half, 2: half, 3: half}, TASKS).stopped(2, 2) == 3


def test_alarms_take_the_training_scores_that_are_known() -> None:
    points = points_of(version(0), [version(1, reward=0.8), version(2, reward=0.5), version(3)])
    same = result(2, 2, 0, 0)
    found = ranking(points, dict.fromkeys(range(4), same), TASKS)
    (alarm,) = found.alarms()
    assert (alarm.name, alarm.step) == ("COLLAPSE", 2)
    assert alarm.evidence == ("training score 0.5 is 62.5% of its highest so far, 0.8 at step 1; the limit is 80%")
    assert found.evidence()["alarms"] == [{"name": "COLLAPSE", "version": "v2", "evidence": alarm.evidence}]
