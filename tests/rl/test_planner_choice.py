"""Which version of a run is chosen, and what it is compared with."""

from __future__ import annotations

import dataclasses
from typing import Any

from rl.config import GrpoTrain, LineConfig, Optimizer, Rollout, RunConfig, TaskSet, digest
from rl.planner import LineState, Result, RunState, VersionState, Want, WindowState, plan

VALIDATION = TaskSet(environment="babyai", split="validation", count=40)
HELD_OUT = TaskSet(environment="babyai", split="held_out", count=40)
RUN = RunConfig(
    name="r",
    rounds=2,
    rollout=Rollout(environment="babyai", scenarios=2, episodes=2),
    train=GrpoTrain(optimizer=Optimizer(learning_rate=1e-3)),
    validation=VALIDATION,
    held_out=HELD_OUT,
)


def version(number: int, k: int, state: str = "candidate", held_out: int | None = None) -> VersionState:
    results = {digest(VALIDATION): Result(k, 40, 2.0)}
    if held_out is not None:
        results[digest(HELD_OUT)] = Result(held_out, 40, 2.0)
    windows = (f"run/r/{number:04d}",) if number else ("2025-01-15T10:00",)
    return VersionState(f"v{number}", state, windows, results)


def finished(*versions: VersionState, stable: str) -> LineState:
    windows = tuple(WindowState(f"run/r/{n:04d}", "trained", "r", n) for n in (1, 2))
    return LineState("main", LineConfig(base_model="b"), windows, versions, (RunState(RUN, "v0"),), stable)


def wanted(line: LineState) -> list[tuple[str, dict[str, Any]]]:
    return [(want.kind, dict(want.inputs)) for want in plan(line) if isinstance(want, Want)]


def test_the_best_and_the_stable_version_are_compared_on_held_out_scenarios() -> None:
    line = finished(version(0, 10, "ready"), version(1, 38), version(2, 20), stable="v0")
    assert wanted(line) == [("evaluate", {"version": "v0"}), ("evaluate", {"version": "v1"})]


def test_a_version_rejected_by_hand_is_not_chosen() -> None:
    line = finished(version(0, 10, "ready"), version(1, 38, "rejected"), version(2, 30), stable="v0")
    assert wanted(line) == [("evaluate", {"version": "v0"}), ("evaluate", {"version": "v2"})]


def test_a_version_released_meanwhile_is_the_one_to_beat() -> None:
    other = VersionState("v9", "ready", ("2025-01-15T11:00",), {digest(HELD_OUT): Result(30, 40, 2.0)})
    line = finished(version(0, 10, "ready"), version(1, 38, held_out=36), version(2, 20), other, stable="v9")
    assert wanted(line) == [("decide", {"candidate": "v1", "run": "r", "base": "v9"})]
    again = dataclasses.replace(line, stable="v0")
    assert wanted(again) == [("evaluate", {"version": "v0"})]
