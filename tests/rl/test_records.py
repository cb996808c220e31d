from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from rl.records import Call, Message, ScenarioRef, Trajectory, utc


def call(**fields: Any) -> Call:
    values = {"call_id": "c", "turn": 0, "model": "m", "messages": [], "response": Message(role="assistant")} | fields
    return Call(**values)


def trajectory(**fields: Any) -> Trajectory:
    moment = datetime(2025, 1, 15, 10, tzinfo=UTC)
    values = {
        "trajectory_id": "t",
        "scenario_id": "s",
        "agent_id": "a",
        "started_at": moment,
        "ended_at": moment,
        "reward": 1.0,
        "calls": [],
    } | fields
    return Trajectory(**values)


def refused(field: str, **fields: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        trajectory(**fields)
    assert [error["loc"] for error in caught.value.errors()] == [(field,)]


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf, None, "much"])
def test_a_reward_is_a_finite_number(reward: object) -> None:
    refused("reward", reward=reward)


def test_a_moment_has_a_time_zone() -> None:
    refused("ended_at", ended_at=datetime(2025, 1, 15, 10))  # noqa: DTZ001 - that is what is refused
    refused("started_at", started_at="2025-01-15T10:00:00")


def test_unknown_fields_are_refused_and_known_ones_do_not_change() -> None:
    refused("rewrad", rewrad=1.0)
    with pytest.raises(ValidationError):
        trajectory().reward = 2.0  # type: ignore[misc]


@pytest.mark.parametrize("role", ["developer", "", None])
def test_a_message_has_a_role_of_a_chat(role: Any) -> None:
    with pytest.raises(ValidationError):
        Message(role=role)


def test_a_call_trains_on_policy_only_with_tokens_and_logprobs() -> None:
    everything = {"prompt_token_ids": [1], "token_ids": [2], "logprobs": [-0.5]}
    assert call(**everything).has_tokens
    for name in everything:
        assert not call(**everything | {name: None}).has_tokens
    assert not call(**everything | {"token_ids": [], "logprobs": []}).has_tokens


def test_turns_count_from_zero() -> None:
    with pytest.raises(ValidationError):
        call(turn=-1)


def test_a_trajectory_survives_json() -> None:
    one = trajectory(calls=[call(token_ids=[1], prompt_token_ids=[2], logprobs=[-0.25])], metadata={"truncated": True})
    assert Trajectory.model_validate_json(one.model_dump_json()) == one


def test_a_scenario_is_named_by_environment_split_and_seed() -> None:
    assert ScenarioRef(environment="babyai", split="held_out", seed=7).id == "babyai/held_out/7"
    with pytest.raises(ValidationError):
        ScenarioRef(environment="babyai", split="test", seed=7)


def test_people_read_moments_to_the_second() -> None:
    assert utc(datetime(2025, 1, 15, 10, 0, 3, 900_000, tzinfo=UTC)) == "2025-01-15T10:00:03Z"
