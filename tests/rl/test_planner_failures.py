"""A job that fails stays failed, and what depends on it is never asked for: no other way round is tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.config import GrpoTrain, LineConfig, Optimizer, Rollout, RunConfig, SftTrain, TaskSet, digest
from rl.planner import LineState, OpenRound, Result, RunState, VersionState, Want, WindowState, plan

HOUR = "2025-01-15T10:00"
VALIDATION = TaskSet(environment="babyai", split="validation", count=100)
HELD_OUT = TaskSet(environment="babyai", split="held_out", count=100)
OPTIMIZER = Optimizer(learning_rate=0.001)
LINE = LineConfig(base_model="/m", source="jsonl:///x", train=SftTrain(optimizer=OPTIMIZER, steps=5))
ROUNDS = ["run/demo/0001", "run/demo/0002"]
LIFE = [
    f"collect {ROUNDS[0]}",
    "evaluate v0 validation",
    *(f"{kind} {ROUNDS[0]}" for kind in ("score", "train")),
    f"collect {ROUNDS[1]}",
    "evaluate v1 validation",
    *(f"{kind} {ROUNDS[1]}" for kind in ("score", "train")),
    "evaluate v2 validation",
    "evaluate v0 held_out",
    "evaluate v2 held_out",
    "decide v2",
]
"""The jobs of a run of two rounds in which the second version is the best."""

WITHOUT = {
    "evaluate v0 validation": set(LIFE[9:]),
    "evaluate v1 validation": set(LIFE[9:]),
    "evaluate v2 validation": set(LIFE[9:]),
    "collect run/demo/0001": set(LIFE[2:]),
    "score run/demo/0001": set(LIFE[3:]),
    "train run/demo/0001": set(LIFE[4:]),
    "collect run/demo/0002": set(LIFE[6:]),
    "score run/demo/0002": set(LIFE[7:]),
    "train run/demo/0002": set(LIFE[8:]),
    "evaluate v0 held_out": {"decide v2"},
    "evaluate v2 held_out": {"decide v2"},
    "decide v2": set(),
}
"""For each job that fails: the jobs that are then never asked for."""


def called(wanted: Want) -> str:
    about = wanted.inputs
    name = about.get("window") or about.get("version") or about.get("candidate") or about["windows"][0]
    return f"{wanted.kind} {name}" + (f" {wanted.config['split']}" if wanted.kind == "evaluate" else "")


@dataclass
class Rows:
    """Job rows, once each by (kind, inputs, config), and the state that their effects change."""

    state: LineState
    skill: tuple[int, ...]
    fails: str = ""
    keys: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def settle(self) -> None:
        """Plan and work until nothing is missing."""
        for _ in range(100):
            before = (self.state, len(self.keys))
            for wanted in list(plan(self.state)):
                self._take(wanted)
            if (self.state, len(self.keys)) == before:
                return
        pytest.fail(f"the planner goes on for ever: {self.asked[-5:]}")

    def _take(self, wanted: Want | OpenRound) -> None:
        if isinstance(wanted, OpenRound):
            opened = WindowState(wanted.window, "closed", wanted.run, int(wanted.window[-4:]))
            self.state = replace(self.state, windows=(*self.state.windows, opened))
        elif (key := digest(wanted.kind, dict(wanted.inputs), dict(wanted.config))) not in self.keys:
            self.keys.add(key)
            self.asked.append(called(wanted))
            if called(wanted) != self.fails:
                self._work(wanted)

    def _work(self, wanted: Want) -> None:
        if wanted.kind == "collect":
            self._move(wanted.inputs["window"], "collected")
        elif wanted.kind == "score":
            self._move(wanted.inputs["window"], "scored")
        elif wanted.kind == "train":
            made = VersionState(f"v{len(self.state.versions)}", "candidate", tuple(wanted.inputs["windows"]), {})
            self.state = replace(self.state, versions=(*self.state.versions, made))
            self._move(wanted.inputs["windows"][0], "trained")
        elif wanted.kind == "evaluate":
            name, key = wanted.inputs["version"], digest(dict(wanted.config))
            result = Result(self.skill[int(name[1:])], 100, 2.0)
            self._change(name, lambda one: replace(one, results={**one.results, key: result}))
        else:
            self._change(wanted.inputs["candidate"], lambda one: replace(one, state="ready"))
            rounds = [window.name for window in self.state.windows if window.run]
            left = tuple(window for window in self.state.windows if window.name not in rounds)
            self.state = replace(self.state, runs=(), windows=left)

    def _move(self, name: str, state: str) -> None:
        windows = tuple(replace(one, state=state) if one.name == name else one for one in self.state.windows)
        self.state = replace(self.state, windows=windows)

    def _change(self, name: str, how: Callable[[VersionState], VersionState]) -> None:
        versions = tuple(how(one) if one.name == name else one for one in self.state.versions)
        self.state = replace(self.state, versions=versions)


def rows(*skill: int, fails: str = "", rounds: int = 2) -> Rows:
    run = RunConfig(
        name="demo",
        rounds=rounds,
        rollout=Rollout(environment="babyai", scenarios=4, episodes=2),
        train=GrpoTrain(optimizer=OPTIMIZER),
        validation=VALIDATION,
        held_out=HELD_OUT,
    )
    base = VersionState("v0", "ready", (HOUR,), {})
    return Rows(LineState("main", LINE, (), (base,), (RunState(run, "v0"),)), skill, fails)


def test_the_life_of_a_run_in_which_no_job_fails() -> None:
    one = rows(50, 60, 80)
    one.settle()
    assert one.asked == LIFE


@pytest.mark.parametrize("fails", LIFE)
def test_a_failed_job_stops_what_depends_on_it_and_starts_nothing_else(fails: str) -> None:
    one = rows(50, 60, 80, fails=fails)
    one.settle()
    assert sorted(one.asked) == sorted(set(LIFE) - WITHOUT[fails])


def test_a_failed_hour_leaves_the_other_hours_alone() -> None:
    hours = ("2025-01-15T10:00", "2025-01-15T11:00")
    windows = tuple(WindowState(name, "closed", None, None) for name in hours)
    one = Rows(LineState("main", LINE, windows, (), ()), (), fails=f"collect {hours[0]}")
    one.settle()
    assert one.asked == [f"collect {hours[0]}", f"collect {hours[1]}", f"score {hours[1]}"]


@given(st.integers(1, 4).flatmap(lambda n: st.tuples(*[st.integers(0, 100)] * (n + 1))))
def test_every_run_ends_with_exactly_one_decision(skill: tuple[int, ...]) -> None:
    one = rows(*skill, rounds=len(skill) - 1)
    one.settle()
    assert [job for job in one.asked if job.startswith("decide")] == one.asked[-1:]
    assert len(one.asked) == len(set(one.asked))
    assert list(plan(one.state)) == []


@pytest.mark.parametrize("state", ["open", "closed", "collected", "scored", "trained", "skipped"])
def test_who_opened_an_hour_makes_no_difference_once_it_exists(state: str) -> None:
    window = WindowState(HOUR, state, None, None)
    asked_for = LINE.model_copy(update={"automatic": False})
    automatic = LineState("main", LINE, (window,), (), ())
    assert list(plan(automatic)) == list(plan(replace(automatic, config=asked_for)))


def test_the_evidence_names_every_version_that_the_data_do_not_tell_apart() -> None:
    one = rows(80, 80, 60, fails="decide v0")
    one.settle()
    (wanted,) = plan(one.state)
    assert isinstance(wanted, Want)
    evidence = wanted.config["evidence"]
    assert evidence["tie_set"] == ["v0", "v1"]
    assert evidence["validation"] == {"v0": [80, 100], "v1": [80, 100], "v2": [60, 100]}
    assert evidence["confirmed"] == {"v0": [80, 100], "v1": [80, 100]}
    assert [(one["version"], one["type"]) for one in evidence["vetoed"]] == [("v2", "babyai")]
