"""The whole life of a line and a run, with workers that are a few lines of Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from rl.config import GrpoTrain, LineConfig, Optimizer, Rollout, RunConfig, SftTrain, TaskSet, digest
from rl.planner import LineState, OpenRound, Result, RunState, VersionState, Want, WindowState, plan, train

HOUR = "2025-01-15T10:00"
VALIDATION = TaskSet(environment="babyai", split="validation", count=100)
HELD_OUT = TaskSet(environment="babyai", split="held_out", count=100)


def config(rounds: int) -> RunConfig:
    return RunConfig(
        name="demo",
        rounds=rounds,
        rollout=Rollout(environment="babyai", scenarios=4, episodes=2),
        train=GrpoTrain(optimizer=Optimizer(learning_rate=0.001)),
        validation=VALIDATION,
        held_out=HELD_OUT,
    )


@dataclass
class Fleet:
    """Does each job once, by its (kind, inputs, config), and changes the state as the real effects do."""

    skill: Callable[[int], int]
    state: LineState
    done: dict[str, Want] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    lose: frozenset[str] = frozenset()

    def tick(self) -> int:
        """One look of the planner; returns how many things it made."""
        made = 0
        for wanted in list(plan(self.state)):
            if isinstance(wanted, OpenRound):
                opened = WindowState(wanted.window, "closed", wanted.run, len(self.rounds()) + 1)
                assert wanted.window not in [window.name for window in self.state.windows]
                self.state = replace(self.state, windows=(*self.state.windows, opened))
                made += 1
            elif (key := digest(wanted.kind, dict(wanted.inputs), dict(wanted.config))) not in self.done:
                self.done[key] = wanted
                made += 1
                self.do(wanted)
        return made

    def rounds(self) -> list[WindowState]:
        return [window for window in self.state.windows if window.run == "demo"]

    def do(self, wanted: Want) -> None:
        getattr(self, wanted.kind)(wanted)
        about = wanted.inputs.get("window") or wanted.inputs.get("version") or wanted.inputs.get("candidate")
        self.order.append(f"{wanted.kind} {about or wanted.inputs['windows'][0]}")

    def move(self, name: str, state: str) -> None:
        moved = tuple(replace(one, state=state) if one.name == name else one for one in self.state.windows)
        self.state = replace(self.state, windows=moved)

    def collect(self, wanted: Want) -> None:
        self.move(wanted.inputs["window"], "skipped" if wanted.inputs["window"] in self.lose else "collected")

    def score(self, wanted: Want) -> None:
        self.move(wanted.inputs["window"], "scored")

    def train(self, wanted: Want) -> None:
        made = VersionState(f"v{len(self.state.versions)}", "candidate", tuple(wanted.inputs["windows"]), {})
        self.state = replace(self.state, versions=(*self.state.versions, made))
        for name in wanted.inputs["windows"]:
            self.move(name, "trained")

    def evaluate(self, wanted: Want) -> None:
        name = wanted.inputs["version"]
        result = Result(self.skill(int(name[1:])), 100, 2.0)
        key = digest(dict(wanted.config))
        self.change(name, lambda one: replace(one, results={**one.results, key: result}))

    def decide(self, wanted: Want) -> None:
        candidate, run = wanted.inputs["candidate"], wanted.inputs["run"]
        if candidate != wanted.inputs["base"]:
            self.change(candidate, lambda one: replace(one, state="ready"))
        if run is not None:
            for one in self.state.versions:
                if one.state == "candidate" and one.name != wanted.inputs["base"]:
                    self.change(one.name, lambda other: replace(other, state="rejected"))
            left = tuple(window for window in self.state.windows if window.run != run)
            self.state = replace(self.state, runs=(), windows=left)

    def change(self, name: str, how: Callable[[VersionState], VersionState]) -> None:
        changed = tuple(how(one) if one.name == name else one for one in self.state.versions)
        self.state = replace(self.state, versions=changed)


def fleet(rounds: int, skill: Callable[[int], int], lose: frozenset[str] = frozenset()) -> Fleet:
    line = LineConfig(
        base_model="/m", source="jsonl:///x", train=SftTrain(optimizer=Optimizer(learning_rate=0.001), steps=5)
    )
    base = VersionState("v0", "ready", (HOUR,), {})
    return Fleet(skill, LineState("main", line, (), (base,), (RunState(config(rounds), "v0"),)), lose=lose)


def settle(one: Fleet) -> None:
    for _ in range(100):
        if not one.tick():
            return
    pytest.fail(f"the planner goes on for ever: {one.order[-5:]}")


def test_a_run_plays_trains_judges_and_ends_with_one_decision() -> None:
    one = fleet(rounds=2, skill=lambda number: 50 + 20 * number)
    settle(one)
    assert one.order == [
        "collect run/demo/0001",
        "evaluate v0",
        "score run/demo/0001",
        "train run/demo/0001",
        "collect run/demo/0002",
        "evaluate v1",
        "score run/demo/0002",
        "train run/demo/0002",
        "evaluate v2",
        "evaluate v0",
        "evaluate v2",
        "decide v2",
    ]
    assert {version.name: version.state for version in one.state.versions} == {
        "v0": "ready",
        "v1": "rejected",
        "v2": "ready",
    }


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_there_is_one_decision_and_nothing_after_it(rounds: int) -> None:
    one = fleet(rounds, skill=lambda number: 50 + number)
    settle(one)
    assert [word for word in one.order if word.startswith("decide")] == one.order[-1:]
    assert [word.split()[0] for word in one.order].count("train") == rounds
    assert one.tick() == 0
    assert list(plan(one.state)) == []


def test_a_run_in_which_nothing_improves_decides_on_its_base() -> None:
    one = fleet(rounds=2, skill=lambda number: 90 - 30 * number)
    settle(one)
    assert one.order[-2:] == ["evaluate v0", "decide v0"]
    assert [version.state for version in one.state.versions] == ["ready", "rejected", "rejected"]


def test_a_round_that_is_skipped_leaves_the_run_with_fewer_versions() -> None:
    one = fleet(rounds=2, skill=lambda number: 50 + 20 * number, lose=frozenset({"run/demo/0001"}))
    settle(one)
    assert one.order[-1] == "decide v1"
    assert "train run/demo/0001" not in one.order


def test_an_hour_that_somebody_asks_for_is_judged_and_decided_outside_runs() -> None:
    one = fleet(rounds=1, skill=lambda number: 50 + 20 * number)
    line = one.state.config.model_copy(update={"validation": VALIDATION})
    one.state = replace(
        one.state, config=line, windows=(WindowState(HOUR, "closed", None, None),), versions=(), runs=()
    )
    settle(one)
    assert one.order == [f"collect {HOUR}", f"score {HOUR}"]
    one.do(train(one.state, one.state.windows[0]))
    settle(one)
    assert one.order[2:] == [f"train {HOUR}", "evaluate v0", "decide v0"]
