"""Assessments of small logs, whose numbers were counted by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl import assess_counts
from rl.assess import Assessment
from rl.assess_report import Report
from rl.objectives import OBJECTIVES, is_on_policy
from rl.records import Call, Message, Quarantined, Trajectory, Turn

AT = datetime(2025, 1, 15, 10, 5, tzinfo=UTC)
OWN = "babylon-agent-v1.0.3"
ON_POLICY = [
    name for one in OBJECTIVES if is_on_policy(name := str(one.model_fields["objective"].default)) and name != "ppo"
]


def call(model: str = "gpt-4o", *, logprobs: bool = False, **fields: Any) -> Call:
    tokens = {"prompt_token_ids": [1, 2, 3], "token_ids": [4], "logprobs": [-0.5]} if logprobs else {}
    sent = [Message(role="user", content="12345678")]
    said = Message(role="assistant", content="1234", **fields)
    return Call.model_validate(
        {"call_id": "c", "turn": 0, "model": model, "messages": sent, "response": said, **tokens}
    )


def row(scenario: str = "s", reward: float = 0.0, at: datetime = AT, **fields: Any) -> Trajectory:
    return Trajectory(
        **{
            "trajectory_id": "t",
            "scenario_id": scenario,
            "agent_id": "a",
            "started_at": at,
            "ended_at": at,
            "reward": reward,
            "calls": [call()],
            **fields,
        }
    )


def own(scenario: str = "s", reward: float = 0.0, **fields: Any) -> Trajectory:
    return row(scenario, reward, calls=[call(OWN, logprobs=True)], **fields)


def bad(reason: str = "missing", field: str = "calls.3.turn", number: int = 1) -> Quarantined:
    return Quarantined(source="jsonl", row=f"a.jsonl:{number}", field=field, reason=reason, excerpt="{")


def assess(*rows: Trajectory | Quarantined, rate: float | None = None) -> Report:
    found = Assessment()
    for one in rows:
        found.add(one)
    return found.report(rate)


def allowed(report: Report) -> set[str]:
    return {one.objective for one in report.objectives if one.allowed}


def why(report: Report, objective: str) -> str:
    return next(one.reason for one in report.objectives if one.objective == objective)


def test_rows_are_counted_by_reason_with_the_first_examples() -> None:
    report = assess(row(), *[bad(field=f"calls.{n}.turn", number=n) for n in range(5)], bad("not JSON", "line", 9))
    rows = report.rows
    assert (rows.read, rows.trajectories, rows.usable, rows.quarantined) == (7, 1, 1, 6)
    first, second = rows.reasons
    assert (first.source, first.field, first.reason, first.count) == ("jsonl", "calls.*.turn", "missing", 5)
    assert [one["row"] for one in first.examples] == ["a.jsonl:0", "a.jsonl:1", "a.jsonl:2"]
    assert (second.reason, second.count, second.examples) == ("not JSON", 1, [{"row": "a.jsonl:9", "excerpt": "{"}])


def test_time_is_in_hour_windows_and_days() -> None:
    late = datetime(2025, 1, 16, 0, 30, tzinfo=UTC)
    time = assess(row(), row(), row(at=late, started_at=datetime(2025, 1, 15, 23, 59, tzinfo=UTC))).time
    assert (time.first, time.last, time.days) == ("2025-01-15T10:05:00Z", "2025-01-16T00:30:00Z", 2)
    assert time.hours == {"2025-01-15T10:00": 2, "2025-01-16T00:00": 1}


def test_calls_are_counted_by_model_and_by_what_they_carry() -> None:
    thinking = call("deepseek", reasoning_content="hm", tool_calls=[{"id": "1"}])
    report = assess(
        row(calls=[call(), thinking], turns=[Turn(turn=0)]), row(calls=[call(logprobs=True)]), own(archetype="trader")
    )
    calls = report.calls
    assert (calls.total, calls.by_model) == (4, {"gpt-4o": 2, OWN: 1, "deepseek": 1})
    assert calls.per_trajectory is not None
    assert (calls.per_trajectory.mean, calls.per_trajectory.least, calls.per_trajectory.most) == (4 / 3, 1, 2)
    assert calls.turns_per_trajectory is not None
    assert calls.turns_per_trajectory.most == 1
    assert (calls.with_tokens_share, calls.with_logprobs_share) == (0.5, 0.5)
    assert (calls.tool_calls_share, calls.reasoning_share, calls.own) == (0.25, 0.25, 1)
    assert (calls.on_policy_trajectories, calls.on_policy_hours) == (1, 0)
    assert report.archetypes == {"trader": 1}


def test_groups_are_of_one_scenario_in_one_hour() -> None:
    later = datetime(2025, 1, 15, 11, 5, tzinfo=UTC)
    groups = assess(
        row("a", 1.0), row("a", 3.0), row("a", 1.0, at=later), row("b", 5.0), row("b", 5.0), row("c", 7.0)
    ).groups
    assert (groups.count, groups.sizes, groups.differing) == (4, {1: 2, 2: 2}, 1)
    assert (groups.variance, groups.lone_share) == (1.0, 2 / 6)


def test_missing_rewards_are_told_from_zero() -> None:
    report = assess(row("a", 0.0), row("a", 2.0), row("a", metadata={"reward": None}), row("b", 2.0))
    assert vars(report.rewards) == {
        "missing": 1,
        "distinct": 2,
        "distinct_most": 1000,
        "zero_share": 1 / 3,
        "mean": 4 / 3,
        "least": 0.0,
        "most": 2.0,
    }
    assert (report.groups.sizes, report.groups.differing) == ({1: 1, 3: 1}, 1)


def test_what_an_owner_refused_is_counted_and_nothing_else() -> None:
    report = assess(row(), row("x", 9.0, consent=False), row(consent=True))
    assert (report.rows.trajectories, report.rows.usable) == (3, 2)
    assert report.consent == {"yes": 1, "no": 1, "unknown": 1}
    assert (report.groups.sizes, report.rewards.most, report.calls.total) == ({2: 1}, 0.0, 2)


def test_tokens_and_a_day() -> None:
    tomorrow = datetime(2025, 1, 16, 10, 5, tzinfo=UTC)
    report = assess(row(), row(), row(at=tomorrow), rate=2.0)
    tokens = report.tokens  # each: 8 characters read, 4 spoken; the second begins like the first
    assert (tokens.read, tokens.spoken, tokens.exact_share, tokens.characters_a_token) == (6, 3, 0.0, 4.0)
    assert (tokens.repeated_share, tokens.group_share, tokens.prefix_share) == (0.0, 2 / 9, 2 / 9)
    assert tokens.computed == 7
    day = report.day
    assert (day.tokens, day.computed, day.seconds, day.seconds_unshared) == (4, 4, 2.0, 2.0)
    assert assess(row()).day.seconds is None
    assert assess(own()).tokens.exact_share == 1.0


def test_foreign_logs_with_groups_that_differ_allow_what_compares() -> None:
    report = assess(row("a", 1.0), row("a", 0.0))
    assert allowed(report) == {"sft", "weighted_sft", "dpo"}
    assert report.trainable
    assert why(report, "grpo") == "no call has token ids and log-probabilities"
    assert why(report, "dpo") == "groups that differ: 1, each gives one pair"


def test_lone_trajectories_can_only_be_cloned() -> None:
    report = assess(row("a", 1.0), row("b", 0.0))
    assert allowed(report) == {"sft"}
    assert why(report, "weighted_sft").endswith("every weight would be 1, which is sft")
    assert why(report, "dpo") == "no scenario has two different rewards in an hour: there is no pair"
    assert any("100% of the trajectories are alone" in one for one in report.unlock)


def test_no_rewards_are_not_equal_rewards() -> None:
    unsaid = assess(*[row(metadata={"reward": None}) for _ in range(2)])
    assert why(unsaid, "dpo") == why(unsaid, "weighted_sft") == "no rewards"
    assert any("2 of 2 have none" in one for one in unsaid.unlock)
    assert (unsaid.rewards.mean, unsaid.rewards.distinct, unsaid.groups.variance) == (None, 0, None)
    equal = assess(row(), row())
    assert why(equal, "dpo") == "all rewards are equal"
    assert any("rewards that tell good from bad" in one for one in equal.unlock)


def test_log_probabilities_of_another_model_are_not_ours() -> None:
    foreign = [row("a", reward, calls=[call(logprobs=True)]) for reward in (0.0, 1.0)]
    report = assess(*foreign)
    assert allowed(report) == {"sft", "weighted_sft", "dpo"}
    assert why(report, "ppo") == "the calls with log-probabilities are of no version of ours"
    named = Assessment(own=["gpt-4o"])
    for one in foreign:
        named.add(one)
    assert len(allowed(named.report())) == len(OBJECTIVES)


def test_hours_wholly_of_our_own_versions_allow_everything() -> None:
    report = assess(own("a", 1.0), own("a", 0.0))
    assert allowed(report) == {str(one.model_fields["objective"].default) for one in OBJECTIVES}
    assert why(report, "gspo") == "hours wholly of our own versions: 1; groups that differ: 1"
    assert not any("through the gateway" in one for one in report.unlock)


def test_one_foreign_call_spoils_its_hour() -> None:
    report = assess(own("a", 1.0), own("a", 0.0), row("b", 1.0))
    assert allowed(report) == {"sft", "weighted_sft", "dpo"}
    assert why(report, "rloo").startswith("every hour has a call of another model")
    half = row("a", 1.0, calls=[call(OWN, logprobs=True), call(OWN)])
    assert assess(half).calls.on_policy_trajectories == 0


def test_a_call_that_says_nothing_takes_no_part() -> None:
    silent = call("gpt-4o", logprobs=True).model_copy(update={"token_ids": [], "logprobs": []})
    assert assess(row(calls=[call(OWN, logprobs=True), silent])).calls.on_policy_trajectories == 1
    assert assess(row(calls=[silent])).calls.on_policy_trajectories == 0


@pytest.mark.parametrize("objective", ON_POLICY)
def test_own_trajectories_that_are_alone_are_pooled(objective: str) -> None:
    pooled = why(assess(own("a", 1.0), own("b", 0.0)), objective)
    assert pooled.endswith('only with lone = "pooled": no group differs, trajectories alone: 2')
    together = [own("a", 1.0), own("a", 1.0), own("b", 0.0), own("b", 0.0)]
    assert allowed(assess(*together)) == {"sft", "ppo"}
    assert allowed(assess(own("a", 1.0), own("a", 1.0))) == {"sft"}


def test_nothing_usable_is_not_trainable() -> None:
    for report in (assess(), assess(bad()), assess(row(consent=False))):
        assert not report.trainable
        assert allowed(report) == set()
        assert {one.reason for one in report.objectives} == {"no usable trajectory"}
        assert json.dumps(report.as_json(), allow_nan=False)


def test_what_would_unlock_more_is_said() -> None:
    said = assess(row(metadata={"scenario_id": None}), bad())
    assert [one.split(":")[0].split(" ")[0] for one in said.unlock] == [
        "Mend",
        "Say",
        "Log",
        "Log",
        "Let",
        "Send",
        "Log",
    ]
    assert said.unlock[0].endswith("1 of 2 are quarantined (most often calls.*.turn: missing).")
    quiet = assess(*[own("a", reward, consent=True, turns=[Turn(turn=0)]) for reward in (0.0, 1.0)])
    assert quiet.unlock == []


def test_json_has_text_for_keys_and_no_objects() -> None:
    found = assess(row(), row(), bad(), rate=10.0).as_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["groups"]["sizes"] == {"2": 1}


def test_names_beyond_the_first_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assess_counts, "MOST_KEYS", 2)
    report = assess(*[row(calls=[call(model)]) for model in "abcca"], *[bad(reason) for reason in "xyzz"])
    assert report.calls.by_model == {"a": 2, "b": 1, "(others)": 2}
    assert [(one.reason, one.count) for one in report.rows.reasons] == [
        ("x", 1),
        ("y", 1),
        ("more reasons than are told apart", 2),
    ]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.booleans()), max_size=30))
def test_counts_add_up_in_any_order(drawn: list[tuple[str, int, bool]]) -> None:
    rows = [own(scenario, reward) if ours else row(scenario, reward) for scenario, reward, ours in drawn]
    forward, backward = assess(*rows), assess(*reversed(rows))
    assert sum(size * count for size, count in forward.groups.sizes.items()) == len(rows)
    assert sum(forward.calls.by_model.values()) == sum(forward.time.hours.values()) == len(rows)
    assert allowed(forward) == allowed(backward)
    assert (forward.groups.sizes, forward.groups.differing) == (backward.groups.sizes, backward.groups.differing)
    rewards = [{reward for one, reward, _ in drawn if one == scenario} for scenario in "abc"]
    assert forward.groups.differing == sum(len(found) > 1 for found in rewards)
