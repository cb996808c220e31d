"""Confirming a tie set, choosing among checkpoints, stopping early: what the planner wants of small states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from rl.config import EarlyStop, GrpoTrain, LineConfig, Optimizer, Rollout, RunConfig, TaskSet, digest
from rl.line_state import LineState, OpenRound, PauseRun, Result, RunState, VersionState, Want, WindowState
from rl.planner import alarms, plan

VALIDATION = TaskSet(environment="grid", split="validation", count=100)
FRESH = TaskSet(environment="grid", split="held_out", count=100)
HOUR = "2025-01-15T10:00"


def run_config(rounds: int = 2, early_stop: EarlyStop | None = None) -> RunConfig:
    return RunConfig(
        name="r",
        rounds=rounds,
        rollout=Rollout(environment="grid", scenarios=2, episodes=2),
        train=GrpoTrain(optimizer=Optimizer(learning_rate=1e-3)),
        validation=VALIDATION,
        held_out=FRESH,
        early_stop=early_stop,
    )


def counted(k: int, prompt: str = "p") -> Result:
    return Result(k, 100, 2.0, prompt_hash=prompt, newest=1)


def version(number: int, k: int | None, fresh: int | None = None, state: str = "candidate") -> VersionState:
    results = {} if k is None else {digest(VALIDATION): counted(k)}
    results |= {} if fresh is None else {digest(FRESH): counted(fresh)}
    windows = (f"run/r/{number:04d}",) if number else (HOUR,)
    return VersionState(f"v{number}", "ready" if number == 0 else state, windows, results)


def run_of(*versions: VersionState, rounds: int = 2, **more: Any) -> LineState:
    """A run of which as many rounds are trained as there are versions after the first."""
    windows = tuple(WindowState(f"run/r/{n:04d}", "trained", "r", n) for n in range(1, len(versions)))
    run = RunState(run_config(rounds, more.pop("early_stop", None)), "v0", **more)
    return LineState("main", LineConfig(base_model="b"), windows, versions, (run,), "v0")


def wanted(line: LineState) -> list[tuple[str, dict[str, Any]]]:
    return [(one.kind, dict(one.inputs)) for one in plan(line) if isinstance(one, Want)]


def decided(line: LineState) -> list[dict[str, Any]]:
    return [{key: inputs[key] for key in inputs if key in DECIDES} for kind, inputs in wanted(line) if kind == "decide"]


DECIDES = ("candidate", "run", "base", "step")


def evaluated(line: LineState, split: str) -> list[dict[str, Any]]:
    return [
        dict(one.inputs)
        for one in plan(line)
        if isinstance(one, Want) and one.kind == "evaluate" and one.config["split"] == split
    ]


def test_all_that_the_data_do_not_tell_apart_are_confirmed_on_fresh_scenarios() -> None:
    line = run_of(version(0, 40), version(1, 80), version(2, 81))
    assert wanted(line) == [("evaluate", {"version": name}) for name in ("v0", "v1", "v2")]


def test_what_does_best_on_fresh_scenarios_is_decided_on() -> None:
    line = run_of(version(0, 40, 50), version(1, 80, 90), version(2, 81, 70))
    (want,) = plan(line)
    assert isinstance(want, Want)
    assert (want.kind, want.inputs["candidate"], want.inputs["base"]) == ("decide", "v1", "v0")
    evidence = want.config["evidence"]
    assert (evidence["tie_set"], evidence["confirmed"]) == (["v1", "v2"], {"v1": [90, 100], "v2": [70, 100]})


def test_a_start_that_ties_and_does_best_on_fresh_scenarios_stays() -> None:
    line = run_of(version(0, 80, 90), version(1, 80, 70), version(2, 30))
    (want,) = plan(line)
    assert isinstance(want, Want)
    assert (want.inputs["candidate"], want.inputs["base"]) == ("v0", "v0")
    assert [one["version"] for one in want.config["evidence"]["vetoed"]] == ["v2"]


def test_a_start_that_was_rolled_back_is_not_released_again() -> None:
    stable = VersionState("v9", "ready", (HOUR,), {digest(FRESH): counted(50)})
    start = replace(version(0, 90, 95), state="rejected")
    for line in (run_of(start, version(1, 30)), run_of(start, version(1, 88, 80))):
        whole = replace(line, versions=(*line.versions, stable), stable="v9")
        whole = replace(whole, runs=(replace(line.runs[0], config=run_config(1)),))
        (want,) = plan(whole)
        assert isinstance(want, Want)
        assert (want.kind, want.inputs["base"]) == ("decide", "v9")
        assert want.inputs["candidate"] == ("v9" if line.versions[1].on(FRESH) is None else "v1")


def test_while_a_canary_is_live_no_run_ends() -> None:
    line = run_of(version(0, 40, 50), version(1, 80, 90), version(2, 81, 70))
    assert wanted(replace(line, canary="v9")) == []


def test_a_shard_that_lacks_too_many_verdicts_holds_the_choice_up() -> None:
    from rl.line_state import Part

    lacking = Result(70, 90, 2.0, parts=(Part(0, 0, 100, 10),), prompt_hash="p", newest=2)
    second = replace(version(2, None), results={digest(VALIDATION): lacking})
    line = run_of(version(0, 40), version(1, 80), second)
    assert wanted(line) == [("evaluate", {"version": "v2", "missing": 10})]


STOP = EarlyStop(patience=2, then="finish")


def stopped(then: Literal["pause", "finish"] = "pause", *, patience: int = 2, **more: Any) -> LineState:
    """Four of six rounds are trained; the third and fourth version were no better than the second."""
    results = (40, 60, 80, 80, 75)
    versions = [version(number, k) for number, k in enumerate(results)]
    return run_of(*versions, rounds=6, early_stop=EarlyStop(patience=patience, then=then), **more)


def test_a_run_whose_patience_ran_out_waits_for_a_person_with_the_reason() -> None:
    reason = "early stop at v4: 2 evaluated versions in a row did not improve on the best before"
    assert list(plan(stopped())) == [PauseRun("r", reason)]
    assert list(plan(stopped(paused=True))) == []


def test_with_more_patience_the_next_round_is_opened() -> None:
    assert next(iter(plan(stopped(patience=3)))) == OpenRound("r", "run/r/0005")


def test_a_run_that_may_finish_by_itself_concludes_as_if_all_rounds_were_played() -> None:
    tied = [("evaluate", {"version": name}) for name in ("v0", "v2", "v3", "v4")]
    assert wanted(stopped("finish")) == tied
    assert wanted(stopped(finishing=True)) == tied, "a person said so"


def test_patience_counts_anew_once_a_person_had_it_go_on() -> None:
    line = stopped(patient_from=5)
    assert next(iter(plan(line))) == OpenRound("r", "run/r/0005")
    further = replace(
        line,
        versions=(*line.versions, version(5, 79), version(6, 80)),
        windows=(*line.windows, *(WindowState(f"run/r/000{n}", "trained", "r", n) for n in (5, 6))),
        runs=(replace(line.runs[0], config=run_config(8, EarlyStop())),),
    )
    (pause,) = plan(further)
    assert isinstance(pause, PauseRun)
    assert pause.reason.startswith("early stop at v6")


def test_a_round_that_is_being_played_ends_normally_while_the_run_waits() -> None:
    line = stopped(paused=True)
    playing = WindowState("run/r/0005", "collected", "r", 5)
    assert wanted(replace(line, windows=(*line.windows, playing))) == [("score", {"window": "run/r/0005"})]
    scored = replace(playing, state="scored")
    assert wanted(replace(line, windows=(*line.windows, scored))) == [("train", {"windows": ["run/r/0005"]})]
    trained = replace(line, windows=(*line.windows, replace(playing, state="trained")))
    assert wanted(replace(trained, versions=(*line.versions, version(5, None)))) == [("evaluate", {"version": "v5"})]


def test_all_rounds_played_need_no_pause() -> None:
    line = stopped()
    whole = replace(line, runs=(replace(line.runs[0], config=run_config(4, EarlyStop())),))
    assert [kind for kind, _ in wanted(whole)] == ["evaluate"] * 4


def test_versions_are_shown_with_their_alarms() -> None:
    line = run_of(version(0, 80), replace(version(1, 82), reward=0.9), replace(version(2, 50), reward=0.95))
    found = {(one.name, one.version) for one in alarms(line)}
    assert found == {("FORGETTING", "v2"), ("OVEROPTIMISATION", "v2")}
    assert [one for one in plan(line) if not isinstance(one, Want)] == []


CONFIG = LineConfig(base_model="b", validation=VALIDATION, shard=50)


def several(*counts: int | None, fresh: int | None = None) -> VersionState:
    """A candidate with checkpoints at 10, 20, ...; the last count is the last one's. All have the ``fresh`` one too."""
    steps = tuple(10 * (place + 1) for place in range(len(counts)))
    known = {step: {} if k is None else {digest(VALIDATION): counted(k)} for step, k in zip(steps, counts, strict=True)}
    known = {step: one | ({} if fresh is None else {digest(FRESH): counted(fresh)}) for step, one in known.items()}
    return VersionState("v1", "candidate", (HOUR,), known[steps[-1]], steps, steps[-1], known)


def outside(
    candidate: VersionState, stable: int | None = 60, config: LineConfig = CONFIG, fresh: int | None = None
) -> LineState:
    first = version(0, stable, fresh)
    return LineState("main", config, (), (first, candidate), (), "v0")


def test_every_checkpoint_is_evaluated_in_shards_the_newest_first() -> None:
    wants = [one for one in plan(outside(several(None, None))) if isinstance(one, Want)]
    assert [(dict(one.inputs), one.priority) for one in wants] == [
        ({"version": "v1", "count": 50}, 120),
        ({"version": "v1", "first": 50, "count": 50}, 120),
        ({"version": "v1", "step": 10, "count": 50}, 121),
        ({"version": "v1", "step": 10, "first": 50, "count": 50}, 121),
    ]


def test_the_best_checkpoint_is_decided_on_by_its_step() -> None:
    expected = {"candidate": "v1", "run": None, "base": "v0"}
    (first,) = decided(outside(several(90, 61, fresh=70), fresh=60))
    assert first == expected | {"step": 10}
    (last,) = decided(outside(several(61, 90, fresh=70), fresh=60))
    assert last == expected


def test_what_chose_a_checkpoint_does_not_decide_on_it() -> None:
    line = outside(several(90, 61))
    wants = [one for one in plan(line) if isinstance(one, Want)]
    assert [(one.kind, dict(one.inputs)) for one in wants] == [
        ("evaluate", {"version": "v1", "step": 10, "count": 50}),
        ("evaluate", {"version": "v1", "step": 10, "first": 50, "count": 50}),
        ("evaluate", {"version": "v0", "count": 50}),
        ("evaluate", {"version": "v0", "first": 50, "count": 50}),
    ]
    assert [one.config for one in wants] == [FRESH.model_dump(mode="json")] * 4
    (decision,) = plan(outside(several(90, 61, fresh=55), fresh=60))
    assert isinstance(decision, Want)
    assert decision.config["task_set"] == FRESH.model_dump(mode="json")
    config = LineConfig(base_model="b", validation=VALIDATION.model_copy(update={"split": "held_out"}))
    swapped = [one for one in plan(outside(several(None, None), None, config)) if isinstance(one, Want)]
    assert {one.config["split"] for one in swapped} == {"held_out"}


def test_one_checkpoint_is_decided_on_where_it_was_evaluated() -> None:
    (decision,) = plan(outside(replace(several(90), checkpoints=(), chosen=None)))
    assert isinstance(decision, Want)
    assert decision.config["task_set"] == VALIDATION.model_dump(mode="json")


def test_no_improvement_is_an_answer() -> None:
    (want,) = plan(outside(several(30, 40)))
    assert isinstance(want, Want)
    assert want.config["evidence"]["no_improvement"].startswith("step 0 (60/100) is credibly better than every other")


def test_several_candidates_are_evaluated_the_newest_first() -> None:
    line = outside(several(None))
    single = VersionState("v1", "candidate", (HOUR,), {})
    both = replace(line, versions=(version(0, 60), single, replace(single, name="v2")))
    wants = [one for one in plan(both) if isinstance(one, Want)]
    assert [(one.inputs["version"], one.priority) for one in wants if "first" not in one.inputs] == [
        ("v2", 120),
        ("v1", 122),
    ]


@pytest.mark.parametrize("state", ["ready", "rejected"])
def test_what_is_decided_raises_no_alarms(state: str) -> None:
    line = outside(replace(several(30, 40), state=state))
    assert (list(alarms(line)), list(plan(line))) == ([], [])
