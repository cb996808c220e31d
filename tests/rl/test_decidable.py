"""Configs that could never lead to a release are refused with the field, the value and the remedy."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rl.config import GrpoTrain, LineConfig, Optimizer, Release, Rollout, RunConfig, TaskSet
from rl.decidable import check_line, check_run, overlap, pairs_left
from rl.errors import InvalidInput
from rl.held_out import HeldOut
from rl.scoring_config import Judge


def tasks(count: int, split: Any = "validation", first_seed: int = 0) -> TaskSet:
    return TaskSet(environment="grid", split=split, count=count, first_seed=first_seed)


def logs(**fields: Any) -> HeldOut:
    return HeldOut(judge=Judge(model="m"), **fields)


def test_the_defaults_on_logs_bear_the_verdicts_that_may_be_missing() -> None:
    config = LineConfig(base_model="b", held_out=logs())
    check_line(config)
    assert config.held_out is not None
    assert math.ceil(0.95 * config.held_out.scenarios) == 285
    check_line(LineConfig(base_model="b", held_out=HeldOut(verifier="a:b")))
    assert pairs_left(300) == 270, "285 of each, and none of the 15 that one lacks is lacked by the other"


def test_as_many_scenarios_as_the_decision_needs_are_too_few() -> None:
    with pytest.raises(InvalidInput, match=r"held_out\.scenarios.*200.*needs 210 or more") as refused:
        check_line(LineConfig(base_model="b", held_out=logs(scenarios=200)))
    assert (refused.value.field, refused.value.value) == ("held_out.scenarios", 200)
    with pytest.raises(InvalidInput, match=r"validation\.count"):
        check_line(LineConfig(base_model="b", validation=tasks(220)))
    with pytest.raises(InvalidInput, match=r"held_out\.scenarios.*verdicts on each version.*needs 222 or more"):
        check_line(LineConfig(base_model="b", held_out=HeldOut(verifier="a:b", scenarios=221)))


@pytest.mark.parametrize("needed", [1, 2, 19, 20, 95, 200, 285, 1000])
def test_the_least_that_is_named_is_the_least_that_passes(needed: int) -> None:
    release = Release(min_scenarios=needed)
    least = next(n for n in range(1, 2000) if math.ceil(0.95 * n) >= needed)
    check_line(LineConfig(base_model="b", held_out=logs(scenarios=least), release=release))
    if least > 1:
        with pytest.raises(InvalidInput, match=f"needs {least} or more"):
            check_line(LineConfig(base_model="b", held_out=logs(scenarios=least - 1), release=release))


@pytest.mark.parametrize(
    ("needed", "least"), [(2, 2), (19, 21), (20, 22), (95, 105), (199, 221), (200, 222), (1000, 1110)]
)
def test_two_results_need_more_since_each_may_lack_others(needed: int, least: int) -> None:
    """Each lacks 5 %, rounded down: of 220 each has 209, and 198 are common; of 221 each has 210, and 199 are."""
    release = Release(min_scenarios=needed)
    for count in range(least, least + 45):
        check_line(LineConfig(base_model="b", validation=tasks(count), release=release))
    failing = max(n for n in range(1, least) if pairs_left(n) < needed)
    with pytest.raises(InvalidInput, match=f"needs {least} or more"):
        check_line(LineConfig(base_model="b", validation=tasks(failing), release=release))


def test_a_line_without_scenarios_decides_nothing() -> None:
    check_line(LineConfig(base_model="b"))


def run(validation: TaskSet, held_out: TaskSet, played: float = 1.0, trained: float = 1.0) -> RunConfig:
    return RunConfig(
        name="r",
        rounds=2,
        rollout=Rollout(environment="grid", scenarios=2, episodes=2, temperature=played),
        train=GrpoTrain(optimizer=Optimizer(learning_rate=1e-3), temperature=trained),
        validation=validation,
        held_out=held_out,
        release=Release(min_scenarios=9),
    )


def test_a_run_needs_enough_held_out_scenarios_and_none_that_choose() -> None:
    check_run(run(tasks(5), tasks(10, "held_out")))
    check_run(run(tasks(10), tasks(10, first_seed=10)))
    with pytest.raises(InvalidInput, match=r"held_out\.count"):
        check_run(run(tasks(10), tasks(8, "held_out")))
    for other in (tasks(10), tasks(10, first_seed=9)):
        with pytest.raises(InvalidInput, match="validation has some of these scenarios"):
            check_run(run(tasks(10), other))


@pytest.mark.parametrize(("played", "trained"), [(0.7, 1.0), (1.0, 0.7), (0.0, 1.0)])
def test_rounds_are_played_at_the_temperature_that_they_are_trained_at(played: float, trained: float) -> None:
    sets = tasks(5), tasks(10, "held_out")
    check_run(run(*sets, played=played or 0.6, trained=played or 0.6))
    told = rf"rollout\.temperature = {played}: train\.temperature is {trained:g}, .*; set both to the same"
    with pytest.raises(InvalidInput, match=told):
        check_run(run(*sets, played=played, trained=trained))


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        (("sat+ded", 0, 10), ("sat", 0, 1), True),
        (("sat+ded", 0, 10), ("sat", 5, 9), False),
        (("sat+ded", 0, 10), ("ded", 4, 1), True),
        (("sat+ded", 0, 10), ("sat+ded", 10, 10), False),
        (("sat+ded", 0, 10), ("ded+sat", 9, 1), True),
        (("sat+ded*2", 0, 6), ("ded", 4, 9), False),
        (("sat", 0, 10), ("ded", 0, 10), False),
    ],
)
def test_scenarios_of_a_mix_are_its_members(
    one: tuple[str, int, int], other: tuple[str, int, int], common: bool
) -> None:
    sets = [TaskSet(environment=name, split="held_out", first_seed=first, count=n) for name, first, n in (one, other)]
    assert overlap(sets[0], sets[1]) is common
    assert overlap(sets[1], sets[0]) is common
