from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

import environments
from environments import careless
from rl.intervals import beta_interval
from rl.records import ScenarioRef, Trajectory

HOUR = datetime(2025, 1, 15, 10, tzinfo=UTC)


class Always:
    """Randomness that always gives ``value``."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def _held_out(seed: int) -> ScenarioRef:
    return ScenarioRef(environment="babyai-goto", split="held_out", seed=seed)


def _fault(row: str) -> str:
    try:
        return "" if Trajectory.model_validate_json(row).calls else "no calls"
    except ValidationError as error:
        return str(error.errors()[0]["type"])


@pytest.mark.parametrize(
    ("value", "seed", "action"),
    [
        (0.39, 7, "go to green box"),
        (0.41, 7, "go to blue box"),  # the nearest: one ahead, one right
        (0.41, 0, "turn right"),  # nothing in view
    ],
)
def test_it_is_the_expert_with_probability_two_fifths(value: float, seed: int, action: str) -> None:
    episode = environments.load("babyai-goto").open(_held_out(seed))
    observation = episode.messages[-1].content or ""
    assert careless.decide(episode, observation, Always(value)) == action  # type: ignore[arg-type]


def test_trajectories_are_other_models_calls_inside_one_hour() -> None:
    trajectories = list(careless.episodes(200, 0, HOUR))
    assert len({t.trajectory_id for t in trajectories}) == 200
    assert [t.scenario_id for t in trajectories[:2]] == ["babyai-goto/train/0", "babyai-goto/train/1"]
    for t in trajectories:
        assert HOUR <= t.started_at < t.ended_at < HOUR + timedelta(hours=1)
        assert t.reward in (0.0, 1.0)
        assert [call.turn for call in t.calls] == list(range(len(t.calls)))
        assert [len(call.messages) for call in t.calls] == [2, 4, 6][: len(t.calls)]
        assert {call.model for call in t.calls} == {"careless-agent-v0"}
        assert not any(call.has_tokens or call.logprobs for call in t.calls)
    ends = [t.ended_at for t in trajectories]
    assert ends == sorted(ends)
    assert ends[-1] - ends[0] > timedelta(minutes=58)


def test_logs_are_repeatable_and_differ_by_seed_and_hour() -> None:
    first = list(careless.episodes(20, 3, HOUR))
    assert first == list(careless.episodes(20, 3, HOUR))
    later = list(careless.episodes(20, 3, HOUR + timedelta(hours=1)))
    other = list(careless.episodes(20, 4, HOUR))
    ids = [{t.trajectory_id for t in logs} for logs in (first, later, other)]
    assert len(set.union(*ids)) == 60
    assert {t.scenario_id for t in first} & {t.scenario_id for t in other} == set()


def test_its_held_out_success_is_about_one_half() -> None:
    k = sum(careless.play(_held_out(seed), seed=0) for seed in range(400))
    low, high = beta_interval(k, 400, mass=0.999)
    assert low < 0.52 < high
    assert k == sum(careless.play(_held_out(seed), seed=0) for seed in range(400))


def test_the_command_writes_one_trajectory_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "logs.jsonl"
    careless.main(["--episodes", "25", "--seed", "1", "--hour", "2025-01-15T10:00", "--out", str(out)])
    rows = out.read_text().splitlines()
    assert [Trajectory.model_validate_json(row) for row in rows] == list(careless.episodes(25, 1, HOUR))
    assert capsys.readouterr().out == f"25 rows, 0 of them bad, in {out}\n"
    assert list(tmp_path.iterdir()) == [out]


def test_bad_rows_are_of_every_kind_and_come_on_top(tmp_path: Path) -> None:
    out = tmp_path / "logs.jsonl"
    careless.main(["--episodes", "10", "--hour", "2025-01-15T10:00", "--out", str(out), "--bad-rows", "23"])
    faults = [_fault(row) for row in out.read_text().splitlines()]
    assert faults.count("") == 10
    kinds = ["no calls", "value_error", "json_invalid", "missing", "timezone_aware"]
    assert [fault for fault in faults if fault] == (kinds * 5)[:23]


def test_a_spoiled_reward_is_not_a_number() -> None:
    line = next(careless.episodes(1, 0, HOUR)).model_dump_json()
    assert math.isnan(json.loads(careless.spoil(line, 1))["reward"])


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "logs.jsonl"
    out.write_text("before\n")

    def rows() -> Iterator[str]:
        yield "one"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        careless.write(out, rows())
    assert out.read_text() == "before\n"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("hour", ["yesterday", "run/demo/0001", "2025-01-15T10:30"])
def test_the_hour_must_be_an_hour(hour: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        careless.main(["--hour", hour, "--out", str(tmp_path / "logs.jsonl")])
    assert "write a UTC hour" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
