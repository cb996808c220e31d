"""Reports of chains of the fleet: the choice is that of the chain's ranking, whatever the axis."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rl.choosing import Point, points_of, ranking
from rl.config import TaskSet, digest
from rl.held_out import LoggedSet
from rl.line_state import Part, Result, VersionState
from rl.report import Report
from rl.report_chain import BATCHED, TRAINED, described, of_chain

TASKS = TaskSet(environment="grid", split="validation", first_seed=5, count=40)
TWICE = TaskSet(environment="grid", split="validation", count=20, samples=2, temperature=1.0)
LOGGED = LoggedSet(
    split="validation", since="2025-01-15T00:00", until="2025-01-16T00:00", share=0.1, salt="", count=40, verifier="m:f"
)


def result(k: int, n: int = 40, missing: int = 0, judge: str = "environment", newest: int = 1) -> Result:
    types = {"go": (k // 2, n // 2), "open": (k - k // 2, n - n // 2)}
    return Result(k, n, 2.0, types, (Part(0, 0, n + missing, missing),), judge=judge, newest=newest)


def chain(
    *results: Result | None, rewards: tuple[float | None, ...] = (), task_set: TaskSet = TASKS
) -> dict[int, Point]:
    """Versions that were judged so, the first of them what the run started from."""
    versions = []
    for number, found in enumerate(results):
        known = {} if found is None else {digest(task_set): found}
        reward = rewards[number] if number < len(rewards) else None
        versions.append(VersionState(f"shop-v1.0.{number}", "ready", (), known, reward=reward))
    return points_of(versions[0], versions[1:])


def reported(points: dict[int, Point], task_set: TaskSet = TASKS, **more: object) -> Report:
    labels = {at: one.label for at, one in points.items()}
    return of_chain("run", "a run", points, task_set, labels=labels, **more)  # type: ignore[arg-type]


def test_the_choice_is_that_of_the_ranking() -> None:
    results = [result(k) for k in (10, 30, 31, 12)]
    points = chain(*results, rewards=(None, 0.5, 0.6, 0.3))
    expected = ranking(points, dict(enumerate(results)), TASKS)
    found, selection = reported(points), expected.select()
    assert (found.pick, found.tie_set) == (selection.pick, selection.tie_set)
    assert found.tie_set == [1, 2]
    assert [(one.name, one.step) for one in found.alarms] == [(one.name, one.step) for one in expected.alarms()]
    assert {one.name for one in found.alarms if one.step == 3} == {"COLLAPSE", "FORGETTING"}
    assert [one.training_score for one in found.points] == [None, 0.5, 0.6, 0.3]
    assert [one.overall and one.overall.k for one in found.points] == [10, 30, 31, 12]
    assert found.size is not None
    assert found.size.n == 40


def test_places_may_be_optimizer_steps() -> None:
    points = dict(zip((0, 100, 250), chain(result(10), result(30), result(12)).values(), strict=True))
    found = of_chain("version", "a version", points, TASKS, labels={0: "v1.0.0", 100: "100", 250: "250"})
    assert [one.step for one in found.points] == [0, 100, 250]
    assert (found.pick, found.tie_set) == (100, [100])
    assert "step 100 (30/40)" in found.reason
    assert {one.step for one in found.alarms} == {250}


@pytest.mark.parametrize(("patience", "since", "stop"), [(None, 0, 3), (1, 0, 2), (3, 0, None), (1, 3, 3)])
def test_a_run_has_its_own_patience(patience: int | None, since: int, stop: int | None) -> None:
    points = chain(result(10), result(30), result(29), result(28))
    assert reported(points, patience=patience, patient_from=since).early_stop == stop


def test_a_training_counts_its_checkpoints() -> None:
    points = chain(result(10), result(30), result(29), result(28))
    labels = {at: str(at) for at in points}
    assert of_chain("version", "a version", points, TASKS, labels=labels).early_stop == 3


def test_too_few_verdicts_and_other_judges_are_hollow() -> None:
    points = chain(result(10, newest=5), result(20, 30, missing=10, newest=5), result(39, judge="another"), None)
    found = reported(points)
    assert [one.hollow for one in found.points] == [False, True, True, True]
    assert [one.coverage for one in found.points] == [1.0, 0.75, 1.0, 0.0]
    assert found.points[1].left_out == "75% of the verdicts are there; at least 95% are needed"
    assert found.points[2].left_out.startswith("judged by another judge")
    assert found.points[2].overall is not None
    assert found.points[2].overall.k == 39
    assert (found.pick, found.tie_set) == (0, [0])


def test_one_missing_verdict_of_forty_is_hollow_and_ranked() -> None:
    found = reported(chain(result(10), result(38, 39, missing=1)))
    assert (found.points[1].hollow, found.points[1].left_out, found.pick) == (True, "", 1)


def test_samples_count_as_scenarios() -> None:
    found = reported(chain(result(10), result(31), task_set=TWICE), TWICE)
    # 15 of 20 samples of one type and 16 of 20 of the other: 7 and 8 of 10 scenarios.
    assert [one.overall and (one.overall.k, one.overall.n) for one in found.points] == [(4, 20), (15, 20)]
    assert "each scenario was sampled 2 times; counts are of scenarios, rounded down" in found.notes


def test_nothing_was_judged_yet() -> None:
    found = reported(chain(None, None, rewards=(None, 0.4)))
    assert (found.pick, found.tie_set, found.alarms, found.size) == (None, [], [], None)
    assert [one.training_score for one in found.points] == [None, 0.4]


def test_alarms_of_trainings_are_told_before_anything_is_judged() -> None:
    found = reported(chain(None, None, None, rewards=(None, 0.8, 0.4)))
    assert ([(one.name, one.step) for one in found.alarms], found.pick) == ([("COLLAPSE", 2)], None)
    assert "its highest so far, 0.8 at shop-v1.0.1" in found.alarms[0].evidence


def test_types_that_have_other_names_are_shown_and_noted() -> None:
    renamed = replace(result(31), types={"go": (15, 20), "shut": (16, 20)})
    found = reported(chain(result(10), renamed))
    assert found.types == ["go", "open", "shut"]
    assert [sorted(one.types) for one in found.points] == [["go", "open"], ["go", "shut"]]
    said = "type shut is not compared between all: verdicts of it are 20 at shop-v1.0.1, none at shop-v1.0.0"
    assert said in found.notes


def test_notes_say_what_a_training_score_is_and_whose_is_missing() -> None:
    points = chain(result(10), result(20), result(21), rewards=(None, 0.4))
    assert reported(points).notes == [TRAINED, "no training score of shop-v1.0.2"]
    of_version = of_chain("version", "a version", points, TASKS, labels={at: str(at) for at in points})
    assert BATCHED in of_version.notes


def test_task_sets_in_words() -> None:
    assert described(TASKS) == "40 validation scenarios of grid, 5 to 44"
    assert described(LOGGED).endswith("of 2025-01-15T00:00 to 2025-01-16T00:00, by m:f")
    assert described(replace_against("shop-v1.0.0")).endswith("against shop-v1.0.0")


def replace_against(name: str) -> LoggedSet:
    return LOGGED.model_copy(update={"against": name, "verifier": None})


def test_duels_put_what_they_were_fought_against_at_one_half() -> None:
    duels = replace_against("shop-v1.0.0")
    first, second = VersionState("shop-v1.0.0", "ready", (), {}), VersionState("shop-v1.0.1", "candidate", (), {})
    judged = replace(second, results={digest(duels): result(31, 40)})
    found = of_chain("run", "a run", points_of(first, [judged]), duels, labels={0: "a", 1: "b"})
    assert [one.overall and (one.overall.k, one.overall.n) for one in found.points] == [(20, 40), (31, 40)]
    assert (found.pick, found.points[0].hollow) == (1, False)


def test_a_run_names_versions_where_the_rule_says_steps() -> None:
    points = chain(result(10), result(30), result(31), result(12), rewards=(None, 0.5, 0.6, 0.3))
    labels = dict(enumerate(["v1.0.0", "v1.0.1", "v1.0.2", "v1.0.3"]))
    found = of_chain("run", "a run", points, TASKS, labels=labels)
    assert found.reason.startswith("the data do not tell v1.0.1, v1.0.2 apart; v1.0.2 (31/40) by macro mean")
    collapse, forgetting = (one.evidence for one in found.alarms)
    assert "its highest so far, 0.6 at v1.0.2; the limit" in collapse
    assert "at the best so far, v1.0.2 (P worse" in forgetting
    alone = of_chain("run", "a run", chain(result(10), None), TASKS, labels={0: "v1.0.0", 1: "v1.0.1"})
    assert alone.reason == "v1.0.0 is the only one that can be chosen"
