"""From a trajectory to a row of scores, without a judge."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from rl.rubrics import DEFAULT, RUBRICS, TRADING, rubric_text
from rl.scoring import NoScore, ScoreRow, by_reward, of_reward, scores
from rl.scoring_config import Judge, Scoring
from tests.rl.test_heuristics import episode, turn


def test_the_reward_is_a_score_row() -> None:
    assert by_reward("t1", 0.25) == {
        "trajectory_id": "t1",
        "method": "reward",
        "method_version": "1",
        # SHA-256 of ["t1",0.25]
        "input_hash": "d9f2ad3f363c37a6f601853a5f0b07e47c374bdb6e285eaa0b5a2efcf199fa92",
        "score": 0.25,
        "explanation": "the reward of the episode",
    }


def test_another_reward_is_another_input() -> None:
    assert by_reward("t1", 0.25)["input_hash"] != by_reward("t1", 0.5)["input_hash"]


def test_a_row_has_every_column_of_its_table() -> None:
    from db.tables import Score

    columns = {column.name for column in Score.__table__.columns}
    assert of_reward("t1", 0.25).row().keys() == columns - {"id", "created_at"}


def only(rows: list[ScoreRow | NoScore]) -> ScoreRow:
    [row] = rows
    assert isinstance(row, ScoreRow), row
    return row


def test_the_default_is_the_reward_of_each() -> None:
    several = [episode([], "t1", reward=0.25), episode([], "t2", reward=-1.0, scenario_id="other")]
    assert scores(several, Scoring()) == [of_reward("t1", 0.25), of_reward("t2", -1.0)]


def test_a_log_without_rewards_has_no_scores() -> None:
    silent = episode([], "t1").model_copy(update={"metadata": {"reward": None}})
    assert scores([silent], Scoring()) == [NoScore("t1", "reward", "its source has no reward")]


def test_a_heuristic_says_what_it_saw() -> None:
    config = Scoring(method="heuristic", variant="agent")
    row = only(scores([episode([turn(kind="BUY", state={"agentPnL": 200})])], config))
    assert (row.method, row.method_version, row.judge, row.compared_in) == ("heuristic:agent", "1", None, None)
    assert row.score == pytest.approx(0.5 * 0.6 + 0.3 + 0.2 / 20)
    assert row.explanation == "profit 0.6, win_rate 1, activity 0.05"


def test_a_late_outcome_is_another_input_and_nothing_else_is() -> None:
    config = Scoring(method="heuristic", variant="service")
    before = episode([turn(kind="BUY", reward=1.0)])
    after = episode([turn(kind="BUY", reward=1.0, outcome={"predictionCorrect": True})])
    rows = [only(scores([one], config)) for one in (before, after, before)]
    assert rows[0] == rows[2]
    assert rows[0].input_hash != rows[1].input_hash
    assert rows[0].score < rows[1].score


def test_missing_data_is_no_score_and_never_zero() -> None:
    [row] = scores([episode([])], Scoring(method="heuristic", variant="agent"))
    assert isinstance(row, NoScore)
    assert row.method == "heuristic:agent"
    assert "agentPnL" in row.reason


def test_a_composite_is_the_mean_by_weights() -> None:
    played = episode(
        [
            turn(0, "BUY", state={"agentPnL": 200}, outcome={"predictionCorrect": True}),
            turn(1, "BUY", state={"agentPnL": 200}, outcome={"predictionCorrect": False}),
        ],
        reward=0.8,
    )
    config = Scoring(method="composite", weights={"reward": 2, "agent": 1, "feedback": 1, "outcome": 4, "service": 0})
    row = only(scores([played], config, {"t": -1.0}))
    agent = 0.5 * 0.6 + 0.3 + 0.2 * 2 / 20
    assert row.score == pytest.approx((2 * 0.8 + agent - 1.0 + 4 * 0.5) / 8)
    assert row.method == "composite"
    assert row.explanation == "0.125 agent 0.62, 0.125 feedback -1, 0.5 outcome 0.5, 0.25 reward 0.8"
    other = only(scores([played], config, {"t": 1.0}))
    assert other.input_hash != row.input_hash


def test_a_composite_without_one_of_its_terms_is_no_score() -> None:
    config = Scoring(method="composite", weights={"reward": 1, "feedback": 1, "outcome": 1})
    [row] = scores([episode([], reward=1.0)], config)
    assert isinstance(row, NoScore)
    assert row.reason == "without feedback (nobody gave any), outcome (no outcome is known)"


def test_lone_trajectories_are_skipped_where_the_rule_says_so() -> None:
    several = [episode([], "t1"), episode([], "t2"), episode([], "t3", scenario_id="alone")]
    rows = scores(several, Scoring(lone="skip"))
    assert [type(row) for row in rows] == [ScoreRow, ScoreRow, NoScore]
    assert scores(several, Scoring(lone="batch_baseline")) == scores(several, Scoring())


def test_scores_of_two_judgements_cannot_be_compared() -> None:
    one = ScoreRow("t1", "judge", "1", "h", 0.5, judge="m", compared_in="a")
    assert one.comparable == ScoreRow("t2", "judge", "1", "i", 0.1, judge="m", cost=1.0, compared_in="a").comparable
    assert one.comparable != ScoreRow("t2", "judge", "1", "i", 0.1, judge="m", compared_in="b").comparable
    assert one.comparable != of_reward("t1", 1.0).comparable


JUDGE = {"model": "m"}


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"method": "heuristic"}, "scoring.variant = None"),
        ({"method": "composite"}, "scoring.weights = None"),
        ({"method": "judge"}, "scoring.judge = None"),
        ({"variant": "agent"}, "scoring.variant = 'agent'"),
        ({"weights": {"reward": 1}}, "scoring.weights"),
        ({"judge": JUDGE}, "scoring.judge"),
        ({"fallback": "heuristic", "variant": "agent"}, "scoring.fallback"),
        ({"method": "judge", "judge": JUDGE, "fallback": "heuristic"}, "scoring.variant = None"),
        ({"method": "composite", "weights": {"reward": 0}}, "must sum to more than 0"),
        ({"method": "composite", "weights": {"rewards": 1}}, "weights"),
        ({"method": "composite", "weights": {"reward": -1}}, "weights"),
        ({"method": "judge", "judge": JUDGE, "lone": "score_alone"}, "a judge only compares"),
        ({"method": "ruler", "judge": JUDGE, "lone": "batch_baseline"}, "a judge only compares"),
        ({"method": "judge", "judge": JUDGE | {"rubric": "tradin"}}, "judge.rubric = 'tradin'"),
        ({"method": "judge", "judge": JUDGE | {"group_min": 4, "group_max": 6}}, "judge.group_max = 6"),
        ({"method": "judge", "judge": JUDGE | {"daily_budget": 1.0}}, "judge.daily_budget = 1.0"),
        ({"method": "judge", "judge": JUDGE | {"tokens": 1}}, "tokens"),
        ({"method": "guess"}, "method"),
    ],
)
def test_a_config_without_a_meaning_is_refused(config: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Scoring.model_validate(config)
    assert named in str(caught.value)


def test_lone_rules_by_default() -> None:
    assert Scoring().lone_rule == "score_alone"
    judged = {"method": "judge", "judge": JUDGE}
    assert Scoring.model_validate(judged).lone_rule == "skip"
    rule = {"lone": "batch_baseline", "fallback": "heuristic", "variant": "service"}
    assert Scoring.model_validate(judged | rule).lone_rule == "batch_baseline"


def test_what_tokens_cost() -> None:
    assert Judge(model="m", prompt_price=2.5, completion_price=10).cost(1_000_000, 50_000) == pytest.approx(3.0)


def test_rubrics_go_by_name_text_or_archetype() -> None:
    assert rubric_text("trading", []) == TRADING
    assert rubric_text("Be strict.", ["trader"]) == "Be strict."
    assert rubric_text("archetype", ["Trader", "trader"]) == RUBRICS["trader"]
    assert rubric_text("archetype", ["trader", "liar"]) == DEFAULT
    assert rubric_text("archetype", [None, None]) == DEFAULT
    assert rubric_text("archetype", ["trader", None]) == DEFAULT
