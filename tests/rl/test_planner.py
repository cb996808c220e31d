"""What the planner wants of small states, each written down by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rl.config import GrpoTrain, LineConfig, Optimizer, Release, Rollout, RunConfig, SftTrain, TaskSet, digest
from rl.errors import InvalidInput
from rl.planner import (
    LineState,
    OpenRound,
    Result,
    RunState,
    VersionState,
    Want,
    WindowState,
    choose,
    collect,
    evaluate,
    plan,
    score,
    train,
)
from rl.scoring_config import Scoring

OPTIMIZER = Optimizer(learning_rate=0.001)
SFT = SftTrain(optimizer=OPTIMIZER, steps=5)
VALIDATION = TaskSet(environment="babyai", split="validation", count=100)
HELD_OUT = TaskSet(environment="babyai", split="held_out", count=100)
RUN = RunConfig(
    name="demo",
    rounds=2,
    rollout=Rollout(environment="babyai", scenarios=4, episodes=2),
    train=GrpoTrain(optimizer=OPTIMIZER),
    validation=VALIDATION,
    held_out=HELD_OUT,
)
HOUR = "2025-01-15T10:00"
LINE = LineConfig(base_model="/m", source="jsonl:///x", train=SFT, validation=VALIDATION)


def line(
    *windows: WindowState, versions: tuple[VersionState, ...] = (), run: bool = False, config: LineConfig = LINE
) -> LineState:
    runs = (RunState(RUN, "v0"),) if run else ()
    return LineState("main", config, windows, versions, runs)


def hour(state: str) -> WindowState:
    return WindowState(HOUR, state, None, None)


def round_(number: int, state: str) -> WindowState:
    return WindowState(f"run/demo/{number:04d}", state, "demo", number)


def version(
    name: str,
    *windows: str,
    state: str = "candidate",
    validation: tuple[int, float] | None = None,
    held_out: int | None = None,
) -> VersionState:
    results = {}
    if validation is not None:
        results[digest(VALIDATION)] = Result(validation[0], 100, validation[1])
    if held_out is not None:
        results[digest(HELD_OUT)] = Result(held_out, 100, 2.0)
    return VersionState(name, state, windows, results)


def dumped(config: Any) -> dict[str, Any]:
    return dict(config.model_dump(mode="json"))


COLLECT = Want("collect", "collect", {"window": HOUR}, {"source": "jsonl:///x"}, 100)
SCORE = Want("score", "score", {"window": HOUR}, {"method": "reward", "method_version": "1"}, 100)


@pytest.mark.parametrize(
    ("state", "wanted"),
    [("open", []), ("closed", [COLLECT]), ("collected", [SCORE]), ("scored", []), ("trained", []), ("skipped", [])],
)
def test_an_hour_moves_by_itself_up_to_its_scores(state: str, wanted: list[Want]) -> None:
    assert list(plan(line(hour(state)))) == wanted


def test_an_hour_of_a_line_without_a_source_is_left_alone() -> None:
    bare = LineConfig(base_model="/m")
    assert list(plan(line(hour("closed"), config=bare))) == []
    with pytest.raises(InvalidInput, match=r"line.source = None: line 'main' has no source to collect 2025"):
        collect(line(config=bare), hour("closed"))
    with pytest.raises(InvalidInput, match=r"line.train = None: line 'main' does not say how to train"):
        train(line(config=bare), hour("scored"))


def test_a_window_that_is_read_again_is_other_work_than_its_first_reading() -> None:
    read = [collect(line(), hour("scored"), **why) for why in ({}, {"rows": 7}, {"after_hours": 24.0})]
    inputs = [{"window": HOUR}, {"window": HOUR, "rows": 7}, {"window": HOUR, "after_hours": 24.0}]
    assert [[one.inputs for one in wants] for wants in read] == [[one] for one in inputs]
    assert [one.config for one in collect(line(), hour("scored"), rows=7)] == [COLLECT.config]


def test_a_round_is_cut_into_shards_that_cover_it_once() -> None:
    rollout = RUN.rollout.model_copy(update={"scenarios": 7, "shard": 3})
    state = replace(line(), runs=(RunState(RUN.model_copy(update={"rollout": rollout}), "v0"),))
    wants = collect(state, round_(1, "closed"))
    assert [(one.inputs["first"], one.inputs["count"]) for one in wants] == [(0, 3), (3, 3), (6, 1)]
    assert {one.inputs["window"] for one in wants} == {"run/demo/0001"}
    assert {digest(dict(one.config)) for one in wants} == {digest({"rollout": dumped(rollout)})}


def test_late_rows_and_what_became_known_want_scores_of_their_own() -> None:
    added = replace(hour("collected"), again=2)
    assert list(plan(line(added))) == [replace(SCORE, inputs={"window": HOUR, "again": 2})]
    assert score(line(), hour("scored"), known=3) == replace(SCORE, inputs={"window": HOUR, "known": 3})
    assert score(line(), added, known=0).inputs == {"window": HOUR, "known": 0}


def test_training_on_an_hour_is_as_the_line_says_and_comes_first() -> None:
    assert train(line(), hour("scored")) == Want("train", "gpu", {"windows": [HOUR]}, dumped(SFT), 50)


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        (
            "closed",
            Want("collect", "collect", {"window": "run/demo/0001"}, {"rollout": dumped(RUN.rollout)}),
        ),
        (
            "collected",
            Want("score", "score", {"window": "run/demo/0001"}, {"method": "reward", "method_version": "1"}),
        ),
        ("scored", Want("train", "gpu", {"windows": ["run/demo/0001"]}, dumped(RUN.train), 50)),
    ],
)
def test_a_round_moves_by_itself_up_to_its_training(state: str, wanted: Want) -> None:
    base = version("v0", HOUR, state="ready", validation=(50, 2.0))
    assert list(plan(line(round_(1, state), versions=(base,), run=True))) == [wanted]


@pytest.mark.parametrize("state", ["trained", "skipped"])
def test_the_next_round_is_opened_and_played_at_once(state: str) -> None:
    base = version("v0", HOUR, state="ready", validation=(50, 2.0))
    assert list(plan(line(round_(1, state), versions=(base,), run=True))) == [
        OpenRound("demo", "run/demo/0002"),
        Want("collect", "collect", {"window": "run/demo/0002"}, {"rollout": dumped(RUN.rollout)}),
    ]


def test_a_run_begins_with_its_first_round_and_judges_where_it_starts_from() -> None:
    base = version("v0", HOUR, state="ready")
    assert list(plan(line(versions=(base,), run=True))) == [
        OpenRound("demo", "run/demo/0001"),
        Want("collect", "collect", {"window": "run/demo/0001"}, {"rollout": dumped(RUN.rollout)}),
        Want("evaluate", "gpu", {"version": "v0"}, dumped(VALIDATION), 120),
    ]


def test_a_version_outside_a_run_is_judged_and_then_decided_on() -> None:
    fresh = version("v0", HOUR)
    assert list(plan(line(versions=(fresh,)))) == [evaluate("v0", VALIDATION)]
    judged = version("v0", HOUR, validation=(80, 2.0))
    inputs = {"candidate": "v0", "run": None, "base": None}
    config = {"release": dumped(Release()), "task_set": dumped(VALIDATION), "evidence": {}}
    assert list(plan(line(versions=(judged,)))) == [Want("decide", "score", inputs, config, 100)]


@pytest.mark.parametrize("state", ["ready", "rejected"])
def test_a_version_that_was_decided_on_is_done(state: str) -> None:
    assert list(plan(line(versions=(version("v0", HOUR, state=state),)))) == []


def test_without_a_validation_set_nothing_is_judged() -> None:
    config = LineConfig(base_model="/m", source="jsonl:///x", train=SFT)
    assert list(plan(line(versions=(version("v0", HOUR),), config=config))) == []


def test_a_version_of_a_run_waits_for_the_runs_decision() -> None:
    base = version("v0", HOUR, state="ready", validation=(50, 2.0))
    first = version("v1", "run/demo/0001")
    wanted = list(plan(line(round_(1, "trained"), round_(2, "closed"), versions=(base, first), run=True)))
    assert wanted == [
        Want("collect", "collect", {"window": "run/demo/0002"}, {"rollout": dumped(RUN.rollout)}),
        evaluate("v1", VALIDATION),
    ]


def trained_run(*results: tuple[int, float], held_out: dict[int, int] | None = None) -> LineState:
    """Both rounds trained, with validation results of the base, v1 and v2."""
    windows = (HOUR, "run/demo/0001", "run/demo/0002")
    versions = tuple(
        version(f"v{step}", windows[step], validation=result, held_out=(held_out or {}).get(step))
        for step, result in enumerate(results)
    )
    config = LineConfig(base_model="/m")
    return line(round_(1, "trained"), round_(2, "trained"), versions=versions, run=True, config=config)


def test_a_trained_run_judges_its_best_and_its_base_on_held_out_scenarios() -> None:
    assert list(plan(trained_run((50, 2.0), (60, 2.0), (80, 2.0)))) == [
        evaluate("v0", HELD_OUT),
        evaluate("v2", HELD_OUT),
    ]
    half = trained_run((50, 2.0), (60, 2.0), (80, 2.0), held_out={0: 51})
    assert list(plan(half)) == [evaluate("v2", HELD_OUT)]


def test_the_decision_carries_what_it_was_made_from() -> None:
    state = trained_run((50, 2.0), (60, 2.0), (80, 2.0), held_out={0: 51, 2: 79})
    inputs = {"candidate": "v2", "run": "demo", "base": "v0"}
    counts = {"v0": [50, 100], "v1": [60, 100], "v2": [80, 100]}
    evidence = {
        "tie_set": ["v2"],
        "validation": counts,
        "types": {name: {"babyai": count} for name, count in counts.items()},
        "vetoed": [],
        "posterior": {"v0": 0.5, "v1": round(61 / 102, 6), "v2": round(81 / 102, 6)},
        "alarms": [],
        "reason": "step 2 (80/100) is credibly better than every other (P 0.999 or more by the counts)",
        "confirmed": {"v2": [79, 100]},
        "early_stop": None,
    }
    config = {"release": dumped(RUN.release), "task_set": dumped(HELD_OUT), "evidence": evidence}
    assert list(plan(state)) == [Want("decide", "score", inputs, config)]


@pytest.mark.parametrize(
    ("results", "pick"),
    [
        (((80, 2.0), (60, 2.0), (70, 2.0)), 0),
        (((50, 2.0), (80, 2.0), (60, 2.0)), 1),
        (((80, 2.0), (80, 2.0), (80, 2.0)), 0),
        (((80, 2.0), (80, 1.5), (80, 1.5)), 1),
    ],
    ids=["nothing improves", "the first is best", "all are equal", "fewer turns"],
)
def test_the_pick_of_a_run(results: tuple[tuple[int, float], ...], pick: int) -> None:
    state = trained_run(*results)
    assert choose(state.runs[0], list(state.versions)).pick == pick


def test_when_nothing_improves_the_base_is_the_candidate() -> None:
    results = ((80, 2.0), (60, 2.0), (70, 2.0))
    assert list(plan(trained_run(*results))) == [evaluate("v0", HELD_OUT)]
    (wanted,) = plan(trained_run(*results, held_out={0: 81}))
    assert isinstance(wanted, Want)
    assert wanted.inputs == {"candidate": "v0", "run": "demo", "base": "v0"}


def test_a_round_of_an_unknown_run_is_refused() -> None:
    with pytest.raises(InvalidInput, match="run = 'demo': this run has ended; start a new one"):
        train(line(round_(1, "scored")), round_(1, "scored"))


def test_the_same_state_is_planned_the_same_way() -> None:
    state = line(hour("closed"), round_(1, "trained"), versions=(version("v0", HOUR),), run=True)
    assert list(plan(state)) == list(plan(state))
    assert score(state, hour("collected")) == score(state, hour("collected"))


def test_hours_are_scored_as_their_line_says_and_rounds_by_their_reward() -> None:
    state = line(hour("collected"))
    chosen = Scoring(method="heuristic", variant="service")
    asked = replace(state, config=state.config.model_copy(update={"scoring": chosen}))
    plain = {"method": "reward", "method_version": "1"}
    assert score(state, hour("collected")).config == plain
    assert score(asked, round_(1, "collected")).config == plain
    assert Scoring.model_validate(score(asked, hour("collected")).config["scoring"]) == chosen
