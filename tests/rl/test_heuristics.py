"""The published heuristics, against values computed by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.heuristics import Scored, Unscored, agent, heuristic_scores
from rl.observed import balances, final_pnl, kind_of, number, opens_position, right
from rl.records import Action, Call, Message, Trajectory, Turn
from rl.scoring_config import Variant

MOMENT = datetime(2025, 1, 15, 10, tzinfo=UTC)


def turn(place: int = 0, kind: str | None = None, **values: Any) -> Turn:
    about = {name: values.pop(name) for name in ("parameters", "success", "error") if name in values}
    action = Action(kind=kind, **about) if kind else None
    return Turn(turn=place, action=action, **values)


def episode(turns: list[Turn], name: str = "t", agent_id: str = "a", **values: Any) -> Trajectory:
    given: dict[str, Any] = {"scenario_id": "s", "reward": 0.0, "calls": []} | values
    return Trajectory(trajectory_id=name, agent_id=agent_id, started_at=MOMENT, ended_at=MOMENT, turns=turns, **given)


def said(content: str, reasoning: str | None = None) -> Call:
    response = Message(role="assistant", content=content, reasoning_content=reasoning)
    return Call(call_id="c", turn=0, model="m", messages=[], response=response)


def one(trajectory: Trajectory, variant: Variant) -> Scored:
    [found] = heuristic_scores([trajectory], variant)
    assert isinstance(found, Scored), found
    return found


@pytest.mark.parametrize(
    ("profits", "actions", "score"),
    [
        ([0.0], [0], 0.5 * 0.5 + 0.3 * 0.5),
        ([200.0, -100.0, 0.0], [5, 3, 2], 0.5 * 0.55 + 0.3 * 0.5 + 0.2 * 0.5),
        ([1000.0], [20], 1.0),
        ([5000.0], [400], 1.0),
        ([-3000.0], [0], 0.0),
        ([-500.0, -500.0, 1.0], [10, 0, 0], 0.5 * 0.0005 + 0.3 / 3 + 0.2 * 0.5),
    ],
)
def test_the_agent_heuristic(profits: list[float], actions: list[int], score: float) -> None:
    assert agent(profits, actions).score == pytest.approx(score)


def test_every_trajectory_of_an_agent_has_the_agents_score() -> None:
    rich = episode([turn(kind="BUY"), turn(1, state={"agentPnL": 200})], "t1")
    poor = episode([turn(kind="wait", state={"agentPnL": "-100"})], "t2")
    unknown = episode([turn(kind="BUY")], "t3")
    other = episode([], "t4", agent_id="b", metadata={"finalPnL": -1000})
    found = heuristic_scores([rich, poor, unknown, other], "agent")
    # Profit (200 - 100 + 1000) / 2000 = 0.55; one of two won; two actions of twenty.
    assert [one.score for one in found if isinstance(one, Scored)] == pytest.approx([0.445, 0.445, 0.0])
    assert isinstance(found[2], Unscored)
    assert "agentPnL" in found[2].reason


def test_the_last_state_says_the_profit_and_then_the_metadata() -> None:
    assert final_pnl(episode([turn(state={"agentPnL": 5}), turn(1, state={"agentPnL": 7})])) == 7
    assert final_pnl(episode([turn(state={})], metadata={"finalPnL": 3})) == 3
    assert final_pnl(episode([turn(state={"agentPnL": "n/a"})])) is None
    assert final_pnl(episode([turn(state={"agentPnL": float("inf")})])) is None


def test_the_service_heuristic_is_neutral_without_data() -> None:
    assert one(episode([turn(kind="wait", reward=1.0)]), "service").score == pytest.approx(0.5)
    [found] = heuristic_scores([episode([])], "service")
    assert isinstance(found, Unscored)


def test_the_service_heuristic() -> None:
    turns = [
        turn(0, "BUY_SHARES", reward=0.5, parameters={"side": "YES"}, outcome={"actualOutcome": "YES"}),
        turn(1, "TRADING_SELL", reward=-0.25, parameters={"side": "long"}, outcome={"priceChange": -0.5}),
        turn(2, "CREATE_POST", reward=0.25, success=True),
        turn(3, "COMMENT", success=False, error="no"),
        turn(4, "wait"),
    ]
    found = one(episode(turns), "service")
    # Rewards sum to 0.5: profit (0.5 + 1) / 2 = 0.75. One of two was right. A trade earned 0.25: 0.625.
    trading = 0.4 * 0.75 + 0.4 * 0.5 + 0.2 * 0.625
    social = 0.7 * 0.5 + 0.3 * 0.2
    # One of two trades paid; one market resolved, the other moved by half a per cent.
    strategic = 0.6 * 0.5 + 0.4 * 0.5
    assert found.parts == pytest.approx({"trading": trading, "social": social, "strategic": strategic})
    assert found.score == pytest.approx(0.5 * trading + 0.2 * social + 0.3 * strategic)


def test_a_trade_that_nobody_knows_the_end_of_is_neutral() -> None:
    found = one(episode([turn(kind="BUY", reward=3.0)]), "service")
    trading = 0.4 * 1.0 + 0.4 * 0.5 + 0.2 * 1.0
    assert found.parts["trading"] == pytest.approx(trading)
    assert found.parts["strategic"] == pytest.approx(0.6 * 1.0 + 0.4 * 0.5)


@pytest.mark.parametrize(
    ("parameters", "outcome", "verdict"),
    [
        ({}, {"predictionCorrect": True, "perpCorrect": False}, True),
        ({}, {"perpCorrect": False}, False),
        ({"side": "NO"}, {"actualOutcome": "YES"}, False),
        ({"side": "YES"}, {"actualOutcome": "UNRESOLVED"}, None),
        ({"side": "short"}, {"priceChange": -2}, True),
        ({"side": "long"}, {"priceChange": 0}, False),
        ({"side": "long"}, {}, None),
        ({}, {"predictionCorrect": "yes"}, None),
    ],
)
def test_what_turned_out_right(parameters: dict[str, Any], outcome: dict[str, Any], verdict: bool | None) -> None:
    assert right(turn(kind="BUY", parameters=parameters, outcome=outcome)) is verdict


@pytest.mark.parametrize(
    ("kind", "means"),
    [
        ("BUY_SHARES", "trade"),
        ("SELL", "trade"),
        ("trading_open_position", "trade"),
        ("CREATE_POST", "post"),
        ("COMMENT", "post"),
        ("SEND_MESSAGE", "message"),
        ("DM", "message"),
        ("wait", "other"),
        ("ADMIRE", "other"),
    ],
)
def test_actions_are_told_apart_by_parts_of_their_names(kind: str, means: str) -> None:
    assert kind_of(kind) == means


def test_buying_opens_a_position() -> None:
    assert [opens_position(kind) for kind in ("BUY", "open_perp", "GO_LONG", "SELL")] == [True, True, True, False]


def test_numbers_are_finite_or_missing() -> None:
    values = {"a": True, "b": "nan", "c": [1], "d": "4.5", "e": 10**400}
    assert [number(values, name) for name in "abcdef"] == [None, None, None, 4.5, None, None]
    assert number(values, "a", "d") == 4.5


def test_balances_come_from_states_or_from_the_profit() -> None:
    assert balances(episode([turn(state={"agentBalance": 100}), turn(1, state={"agentBalance": 90})])) == (100, 90)
    assert balances(episode([turn(state={"agentBalance": 100, "agentPnL": -5})])) == (100, 95)
    assert balances(episode([turn(state={"agentBalance": 100})])) == (100, 100)
    assert balances(episode([turn(state={"agentPnL": 3})])) is None
    assert balances(episode([], metadata={"startingBalance": 100, "finalBalance": 120})) == (100, 120)


ACTION = '{"actionType": "BUY", "parameters": {"amount": 5}, "reasoning": "The market price rises, therefore I buy."}'


def test_the_archetype_composite() -> None:
    states = [turn(0, "BUY", state={"agentBalance": 1000}), turn(1, "BUY", state={"agentBalance": 1050})]
    found = one(episode(states, calls=[said(ACTION), said("Hm.")], archetype="Researcher"), "archetype")
    # A return of 5 % is 0.5. Form: a whole action and none. Reasoning: 0.5 + 0.15 + 0.15, and 0.5 for three letters.
    # Behaviour: nothing was researched (-0.15); of two trades none paid, which is not a good share of few.
    assert found.parts == pytest.approx({"profit": 0.5, "form": 0.5, "reasoning": 0.65, "behaviour": -0.15})
    assert found.score == pytest.approx(0.25 * 0.5 + 0.25 * 0.5 + 0.30 * 0.65 + 0.20 * -0.15)


def test_buying_while_exposed_is_risky() -> None:
    def played(archetype: str | None, exposure: float) -> float:
        first = turn(0, "BUY", state={"agentBalance": 1000, "exposure": exposure})
        return one(episode([first], archetype=archetype), "archetype").parts["profit"]

    assert [played("trader", 0.8), played("trader", 0.81)] == pytest.approx([0.0, -0.3])
    assert played(None, 0.81) == pytest.approx(-0.5)
    assert played("degen", 0.81) == 0.0


def test_an_archetype_that_nobody_knows_has_no_score() -> None:
    money = [turn(state={"agentBalance": 1000})]
    [found] = heuristic_scores([episode(money, archetype="wizard")], "archetype")
    assert isinstance(found, Unscored)
    assert "'wizard'" in found.reason
    [found] = heuristic_scores([episode([], archetype="trader")], "archetype")
    assert isinstance(found, Unscored)
    assert "agentBalance" in found.reason


FLOATS = st.floats(-1e6, 1e6)
KINDS = st.sampled_from(["BUY", "SELL", "COMMENT", "DM", "wait", "RESEARCH", "OPEN_PERP"])


@given(
    rewards=st.lists(st.tuples(KINDS, FLOATS, FLOATS, st.booleans()), min_size=1, max_size=6),
    archetype=st.sampled_from([None, "trader", "degen", "liar", "infosec"]),
)
def test_scores_stay_within_their_bounds(rewards: list[tuple[str, float, float, bool]], archetype: str | None) -> None:
    turns = [
        turn(place, kind, reward=reward, success=success, state={"agentPnL": pnl, "agentBalance": pnl + 5})
        for place, (kind, reward, pnl, success) in enumerate(rewards)
    ]
    played = episode(turns, archetype=archetype)
    assert 0 <= one(played, "agent").score <= 1
    assert 0 <= one(played, "service").score <= 1
    assert -1 <= one(played, "archetype").score <= 1
    assert one(played, "archetype") == one(played.model_copy(update={"trajectory_id": "other"}), "archetype")
