"""Choosing and deciding on the line's own logs: what the planner wants of small states."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rl.config import LineConfig, digest
from rl.held_out import HeldOut, LoggedSet, sets_of
from rl.line_state import LineState, Part, Result, VersionState, Want, WindowState
from rl.planner import plan
from rl.scoring_config import Judge

HOUR = "2025-01-15T10:00"
HELD = HeldOut(judge=Judge(model="m"), hours=4, scenarios=10)
LOGS = LineConfig(base_model="b", held_out=HELD)
CANDIDATE = VersionState("v1", "candidate", (HOUR,), {})
NONE = Result(0, 0, None, parts=(Part(0, 0, 0),), newest=1)


def on_logs(candidate: VersionState, config: LineConfig = LOGS, first: int = 7) -> LineState:
    """A line with a stable version that has read its hours from ``first`` on."""
    read = tuple(WindowState(f"2025-01-15T{hour:02}:00", "scored", None, None) for hour in range(first, 11))
    windows = (WindowState("2025-01-15T00:00", "skipped", None, None), *read)
    return LineState("main", config, windows, (VersionState("v0", "ready", (HOUR,), {}), candidate), (), "v0")


def wants(line: LineState) -> list[Want]:
    return [one for one in plan(line) if isinstance(one, Want)]


def duel(wins: int, ties: int, losses: int) -> Result:
    n = wins + ties + losses
    successes = (2,) * wins + (1,) * ties + (0,) * losses
    k = (2 * wins + ties) // 2
    return Result(k, n, 1.0, {"logged": (k, n)}, scenarios="s", successes=successes, newest=1)


def several(to_choose: LoggedSet, *found: Result | None) -> VersionState:
    """A candidate with checkpoints at 10, 20, ... and what is known of them on the set."""
    steps = tuple(10 * (place + 1) for place in range(len(found)))
    known = {step: {} if one is None else {digest(to_choose): one} for step, one in zip(steps, found, strict=True)}
    return VersionState("v1", "candidate", (HOUR,), known[steps[-1]], steps, steps[-1], known)


def test_the_later_half_decides_and_the_stable_version_is_what_is_compared_with() -> None:
    (want,) = wants(on_logs(CANDIDATE))
    to_decide = sets_of([HOUR], HELD, "v0")[1]
    assert (dict(want.inputs), want.config) == ({"version": "v1"}, to_decide.model_dump(mode="json"))
    (decision,) = wants(on_logs(replace(CANDIDATE, results={digest(to_decide): duel(5, 5, 0)})))
    assert (decision.kind, decision.inputs["candidate"], decision.inputs["base"]) == ("decide", "v1", "v0")


@pytest.mark.parametrize("held", [HELD, HeldOut(verifier="m:f", hours=4)])
def test_the_first_version_of_logs_is_compared_with_what_they_hold(held: HeldOut) -> None:
    line = replace(on_logs(CANDIDATE, LineConfig(base_model="b", held_out=held)), stable=None)
    (want,) = wants(line)
    assert (want.kind, want.config["against"]) == ("evaluate", "logged")


def test_with_a_verifier_the_stable_version_answers_the_same_points() -> None:
    found = wants(on_logs(CANDIDATE, LineConfig(base_model="b", held_out=HeldOut(verifier="m:f", hours=4))))
    assert [(one.config["split"], one.config["against"], dict(one.inputs)) for one in found] == [
        ("held_out", "", {"version": "v1"}),
        ("held_out", "", {"version": "v0"}),
    ]


def test_the_earlier_half_chooses_among_checkpoints_and_a_tie_counts_half() -> None:
    to_choose, to_decide = sets_of([HOUR], HELD, "v0", chooses=True)
    candidate = several(to_choose, duel(8, 2, 0), duel(1, 8, 1))
    (want,) = wants(on_logs(candidate))
    assert (dict(want.inputs), want.config["split"]) == ({"version": "v1", "step": 10}, "held_out")
    candidate.steps[10][digest(to_decide)] = duel(9, 1, 0)  # type: ignore[index]
    (decision,) = wants(on_logs(candidate))
    assert decision.inputs["step"] == 10
    assert decision.config["evidence"]["validation"] == {"v0": [5, 10], "v1@10": [9, 10], "v1@20": [5, 10]}


def test_a_young_line_halves_the_hours_that_it_has() -> None:
    """Of a week two hours are known: one chooses, one decides."""
    week = LineConfig(base_model="b", held_out=HELD.model_copy(update={"hours": 168}))
    candidate = several(sets_of([HOUR], HELD, "v0")[0], None, None)
    found = wants(on_logs(candidate, week, first=9))
    spans = {(one.config["split"], one.config["since"], one.config["until"]) for one in found}
    assert spans == {("validation", "2025-01-15T09:00", "2025-01-15T10:00")}
    assert {one.config["beside"] for one in found} == {"2025-01-15T11:00"}


def test_without_a_scenario_to_choose_by_the_last_checkpoint_is_decided_on() -> None:
    to_choose, to_decide = sets_of([HOUR], HELD, "v0", chooses=True)
    candidate = several(to_choose, None, NONE)
    (want,) = wants(on_logs(candidate))
    assert (dict(want.inputs), want.config["split"]) == ({"version": "v1"}, "held_out")
    candidate.results[digest(to_decide)] = duel(9, 1, 0)  # type: ignore[index]
    (decision,) = wants(on_logs(candidate))
    assert "step" not in decision.inputs
    assert decision.config["evidence"] == {
        "unchosen": "the logs hold no held-out scenario from 2025-01-15T07:00 to 2025-01-15T09:00:"
        " the last checkpoint is decided on"
    }


def test_one_hour_alone_decides_and_chooses_nothing() -> None:
    candidate = several(sets_of([HOUR], HELD, "v0")[0], None, None)
    (want,) = wants(on_logs(candidate, first=10))
    assert (want.config["split"], want.config["since"], dict(want.inputs)) == ("held_out", HOUR, {"version": "v1"})


def test_another_budget_or_pace_of_the_judge_is_no_other_task_set() -> None:
    to_decide = sets_of([HOUR], HELD, "v0")[1]
    judged = replace(CANDIDATE, results={digest(to_decide): duel(5, 5, 0)})
    paid = Judge(model="m", daily_budget=5, prompt_price=1, timeout_seconds=9, attempts=1, concurrency=1)
    kinds = {}
    for name, judge in {"paid": paid, "other": Judge(model="n"), "rubric": Judge(model="m", rubric="Be kind.")}.items():
        config = LineConfig(base_model="b", held_out=HELD.model_copy(update={"judge": judge}))
        kinds[name] = [one.kind for one in wants(on_logs(judged, config))]
    assert kinds == {"paid": ["decide"], "other": ["evaluate"], "rubric": ["evaluate"]}
