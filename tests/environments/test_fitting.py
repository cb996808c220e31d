from __future__ import annotations

from typing import Any

import pytest

import environments
from environments.fitting import check_fits, check_line, check_run, sized, train_seeds
from rl.config import LineConfig, RunConfig, TaskSet
from rl.errors import InvalidInput, MissingDependency
from rl.records import ScenarioRef

HELD = environments.load("sciworld").scenarios("held_out") or 0


def _set(count: int, first_seed: int = 0, environment: str = "sciworld") -> TaskSet:
    return TaskSet(environment=environment, split="held_out", count=count, first_seed=first_seed)


def _run(**changes: Any) -> RunConfig:
    tasks = {"environment": "sat", "split": "validation", "count": 300}
    config = {
        "name": "demo",
        "rounds": 1,
        "rollout": {"environment": "sat", "scenarios": 8, "episodes": 8},
        "train": {
            "objective": "grpo",
            "token_budget": 3072,
            "optimizer": {"learning_rate": 1e-4},
            "lora": {"rank": 16},
        },
        "validation": tasks,
        "held_out": tasks | {"split": "held_out"},
    }
    return RunConfig.model_validate(config | changes)


def test_sizes_are_those_of_the_splits() -> None:
    assert sized("sat", "held_out") is None
    assert sized("sciworld", "held_out") == HELD > 50
    assert sized("sat+sciworld", "held_out") == 2 * HELD + 1


def test_as_many_as_there_are_fit() -> None:
    check_fits("held_out", _set(HELD))
    check_fits("held_out", _set(HELD - 10, first_seed=10))
    check_fits("held_out", _set(10**6, environment="sat"))


def test_more_than_there_are_are_refused_with_how_many_there_are() -> None:
    with pytest.raises(InvalidInput, match=rf"^held_out.count = {HELD + 1}: sciworld has {HELD} .* at most {HELD}$"):
        check_fits("held_out", _set(HELD + 1))
    with pytest.raises(InvalidInput, match=rf"at most {HELD - 10} from first_seed = 10 on"):
        check_fits("held_out", _set(HELD, first_seed=10))
    with pytest.raises(InvalidInput, match=rf"^validation.first_seed = {HELD}: .* begin below {HELD}$"):
        check_fits("validation", _set(1, first_seed=HELD))


def test_what_cannot_be_counted_here_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def scenarios(split: str) -> int:
        raise MissingDependency("no games here")

    monkeypatch.setattr(environments.load("sciworld"), "scenarios", scenarios)
    check_fits("held_out", _set(10**6))


def test_a_run_is_refused_before_it_starts() -> None:
    check_run(_run())
    big = {"environment": "sciworld", "split": "held_out", "count": 10**6}
    with pytest.raises(InvalidInput, match=r"^held_out\.count = 1000000"):
        check_run(_run(held_out=big))
    with pytest.raises(InvalidInput, match=r"^environment = 'chess'"):
        check_run(_run(rollout={"environment": "chess", "scenarios": 8, "episodes": 8}))


def test_a_line_is_refused_before_it_is_written() -> None:
    check_line(LineConfig(base_model="m"))
    with pytest.raises(InvalidInput, match=r"^validation\.count = 1000000"):
        check_line(LineConfig(base_model="m", validation=_set(10**6)))


@pytest.mark.parametrize("name", ["sciworld", "sat-small+sciworld"])
def test_a_run_is_refused_whose_environment_has_nothing_to_train_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(environments.load("sciworld"), "scenarios", lambda split: 0)
    with pytest.raises(InvalidInput, match=r"^rollout\.environment = .*sciworld has no scenarios in train"):
        check_run(_run(rollout={"environment": name, "scenarios": 8, "episodes": 8}))


def test_training_seeds_begin_anew_after_the_last() -> None:
    there = environments.load("sciworld").scenarios("train")
    assert there is not None
    seed_of = train_seeds(environments.load("sciworld"))
    assert [seed_of(number) for number in (0, there - 1, there, 3 * there + 5)] == [0, there - 1, 0, 5]
    assert train_seeds(environments.load("sat"))(10**9) == 10**9


def test_an_endless_member_of_a_mix_does_not_repeat_beside_a_small_one() -> None:
    """sat-small has nine seeds of each ten, and sciworld so few that it begins anew within these."""
    mix = environments.load("sciworld+sat-small*9")
    there = environments.load("sciworld").scenarios("train")
    assert there is not None
    seed_of = train_seeds(mix)
    seeds = [seed_of(number) for number in range(20 * there)]
    assert [seed for seed in seeds if seed % 10] == [seed for seed in range(20 * there) if seed % 10]
    assert [seed for seed in seeds if seed % 10 == 0] == [10 * own for own in range(there)] * 2
    mix.open(ScenarioRef(environment=mix.name, split="train", seed=seeds[-1])).close()
