"""Every archetype's published weights and thresholds."""

from __future__ import annotations

from typing import Any

import pytest

from rl.archetypes import BANKRUPT, GENERAL, WEIGHTS, archetype_named, composite, profit
from rl.behaviour import STEPS, bonus, counts_of
from rl.reasoning import form_and_reasoning
from rl.records import Call, Message, Trajectory
from tests.rl.test_heuristics import ACTION, episode, said, turn


def form(trajectory: Trajectory) -> float:
    return form_and_reasoning(trajectory)[0]


def reasoning(trajectory: Trajectory) -> float:
    return form_and_reasoning(trajectory)[1]


PUBLISHED = {
    "trader": (0.55, 0.20, 0.15, 0.10),
    "degen": (0.15, 0.15, 0.10, 0.60),
    "social-butterfly": (0.10, 0.20, 0.15, 0.55),
    "researcher": (0.25, 0.25, 0.30, 0.20),
    "scammer": (0.35, 0.15, 0.20, 0.30),
    "information-trader": (0.35, 0.20, 0.20, 0.25),
    "goody-twoshoes": (0.15, 0.25, 0.20, 0.40),
    "ass-kisser": (0.10, 0.20, 0.15, 0.55),
    "perps-trader": (0.50, 0.15, 0.20, 0.15),
    "super-predictor": (0.30, 0.20, 0.25, 0.25),
    "infosec": (0.25, 0.25, 0.30, 0.20),
    "liar": (0.20, 0.15, 0.25, 0.40),
}


def test_the_weights_are_the_published_ones_and_sum_to_one() -> None:
    assert {name: tuple(weights) for name, weights in WEIGHTS.items()} == PUBLISHED
    assert all(sum(weights) == pytest.approx(1.0) for weights in [*WEIGHTS.values(), GENERAL])
    assert STEPS.keys() == WEIGHTS.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_part_counts_by_its_weight(name: str) -> None:
    parts = {"profit": 0.5, "form": 0.7, "reasoning": 0.3, "behaviour": -0.2}
    by_hand = sum(weight * part for weight, part in zip(PUBLISHED[name], parts.values(), strict=True))
    assert composite(name, **parts) == pytest.approx(by_hand)


def test_without_an_archetype_behaviour_does_not_count() -> None:
    assert composite(None, 0.5, 0.7, 0.3, -0.5) == pytest.approx(0.5 * 0.5 + 0.3 * 0.7 + 0.2 * 0.3)


@pytest.mark.parametrize(
    ("start", "end", "archetype", "risky", "value"),
    [
        (1000, 1100, "trader", 0, 1.0),
        (1000, 1050, "trader", 0, 0.5),
        (1000, 2000, "trader", 0, 1.0),
        (1000, 500, "trader", 0, -1.0),
        (1000, 980, "trader", 2, -0.2 - 0.6),
        (1000, 980, None, 2, -0.2 - 1.0),
        (1000, 980, "degen", 2, -0.2 * 0.3),
        (1000, 980, "social-butterfly", 1, -0.2 * 0.5 - 0.3),
        (0, 500, "trader", 0, 0.0),
        (1000, 0, "trader", 0, BANKRUPT),
        (1000, -5, "degen", 0, BANKRUPT * 0.3),
    ],
)
def test_profit(start: float, end: float, archetype: str | None, risky: int, value: float) -> None:
    assert profit(start, end, archetype, risky) == pytest.approx(value)


def test_bankruptcy_outweighs_everything() -> None:
    assert composite("trader", BANKRUPT, 1.0, 1.0, 0.5) == -1.0
    assert composite(None, BANKRUPT, 1.0, 1.0, 0.5) == -1.0
    # A degen's losses count 0.3: 0.15 * -3 + 0.15 + 0.10 + 0.60 * 0.5.
    assert composite("degen", BANKRUPT * 0.3, 1.0, 1.0, 0.5) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("written", "name"),
    [("Trader", "trader"), ("social_butterfly", "social-butterfly"), ("GoodyTwoShoes", "goody-twoshoes"), (None, None)],
)
def test_names_are_known_however_they_are_written(written: str | None, name: str | None) -> None:
    assert archetype_named(written) == name
    assert archetype_named("wizard") is None


@pytest.mark.parametrize(
    ("archetype", "counts", "value"),
    [
        ("degen", {"trades": 20, "pnl_variance": 501, "position": 501, "largest_move": 101}, 0.50),
        ("degen", {"trades": 10, "pnl_variance": 101, "position": 201}, 0.15 + 0.08 + 0.05),
        ("degen", {"trades": 5}, 0.08),
        ("degen", {"trades": 2}, 0.0),
        ("degen", {"trades": 1}, -0.15),
        ("social-butterfly", {"contacts": 15, "groups": 5, "messages": 10, "posts_and_comments": 10}, 0.5),
        ("social-butterfly", {"contacts": 8, "groups": 2, "messages": 3, "posts_and_comments": 3}, 0.29),
        ("social-butterfly", {"contacts": 1, "trades": 6, "social_per_trade": 0.4}, -0.25),
        ("social-butterfly", {"contacts": 3, "trades": 5, "social_per_trade": 0.4}, 0.06),
        ("scammer", {"contacts": 5, "messages": 5, "pnl": 1, "reputation": 1}, 0.45),
        ("scammer", {"contacts": 1, "messages": 2, "pnl": 0, "reputation": -21}, -0.20 + 0.05 - 0.15 - 0.10),
        ("trader", {"win_rate": 0.6, "markets": 4, "trades": 5, "social_per_trade": 1.0}, 0.30),
        ("trader", {"win_rate": 0.5, "markets": 2, "trades": 4, "social_per_trade": 1.1}, 0.03),
        ("trader", {"win_rate": 0.39, "trades": 5}, -0.05),
        ("researcher", {"research": 10, "accuracy": 0.7, "win_rate_of_few": 0.6}, 0.50),
        ("researcher", {"research": 5, "accuracy": 0.5}, 0.22),
        ("researcher", {"research": 2}, 0.06),
        ("researcher", {"research": 1}, 0.0),
        ("researcher", {"research": 0}, -0.15),
        ("information-trader", {"social_per_trade": 1.5, "groups": 3, "messages": 3, "requests": 3, "pnl": 1}, 0.5),
        ("information-trader", {"social_per_trade": 3.1}, -0.10),
        ("information-trader", {"social_per_trade": 2.0}, 0.0),
        ("information-trader", {"social_per_trade": 0.1, "trades": 4}, -0.10),
        ("information-trader", {"social_per_trade": 0.1, "trades": 3}, 0.0),
        ("goody-twoshoes", {"reputation": 30, "shared": 5, "reactions": 10, "followers": 5}, 0.5),
        ("goody-twoshoes", {"reputation": 10, "shared": 2, "reactions": 3, "followers": 4}, 0.26),
        ("goody-twoshoes", {"reputation": 0}, 0.05),
        ("goody-twoshoes", {"reputation": -1}, -0.15),
        ("ass-kisser", {"reputation": 50, "followers": 10, "comments": 10, "messages": 5}, 0.5),
        ("ass-kisser", {"reputation": 20, "followers": 3, "comments": 5}, 0.32),
        ("ass-kisser", {"reputation": 5}, 0.10),
        ("ass-kisser", {"reputation": -1}, -0.20),
        ("perps-trader", {"win_rate": 0.55, "trades": 10, "pnl": 1}, 0.35),
        ("perps-trader", {"win_rate": 0.39, "trades": 5, "pnl_variance": 1001, "pnl": -201}, -0.35),
        ("perps-trader", {"trades": 1}, -0.10),
        ("super-predictor", {"accuracy": 0.75, "research": 3, "predictions": 5, "pnl": 1}, 0.5),
        ("super-predictor", {"accuracy": 0.60, "predictions": 4}, 0.18),
        ("super-predictor", {"accuracy": 0.50}, 0.08),
        ("super-predictor", {"accuracy": 0.44, "predictions": 5}, -0.12),
        ("super-predictor", {"predictions": 0}, -0.15),
        ("infosec", {"shared": 1, "largest_loss": -49, "research": 3, "pnl_variance": 99, "messages": 2}, 0.5),
        ("infosec", {"shared": 5, "largest_loss": -201}, -0.25),
        ("liar", {"spread": 10, "contacts": 8, "reputation": 0, "posts": 5}, 0.5),
        ("liar", {"spread": 3, "contacts": 3, "reputation": -21, "posts": 2}, 0.05),
        ("liar", {"contacts": 1}, -0.15),
        (None, {"trades": 100}, 0.0),
    ],
)
def test_the_behaviour_of_each_archetype(archetype: str | None, counts: dict[str, float], value: float) -> None:
    assert bonus(archetype, counts) == pytest.approx(value)


@pytest.mark.parametrize("archetype", PUBLISHED)
def test_what_nobody_counted_adds_nothing(archetype: str) -> None:
    assert bonus(archetype, {}) == 0.0


def test_what_is_counted() -> None:
    turns = [
        turn(0, "BUY", parameters={"marketId": "m1", "amount": 100, "side": "YES"}, state={"agentPnL": 0}, reward=1.0),
        turn(
            1,
            "SELL",
            parameters={"ticker": "T", "amount": "-300"},
            state={"agentPnL": 30},
            outcome={"perpCorrect": True},
        ),
        turn(2, "CREATE_POST", state={"agentPnL": -30}),
        turn(3, "COMMENT", parameters={"userId": "u1"}),
        turn(4, "SEND_MESSAGE", parameters={"recipientId": ["odd"], "groupId": "g"}),
        turn(5, "RESEARCH_MARKET"),
        turn(6, "SHARE_INFORMATION"),
        turn(7, "REQUEST_INFO"),
    ]
    counts = counts_of(episode(turns, metadata={"reputationDelta": 4, "finalPnL": -30}))
    assert counts == pytest.approx(
        {
            "trades": 2,
            "posts": 1,
            "comments": 1,
            "messages": 1,
            "posts_and_comments": 2,
            "research": 1,
            "shared": 1,
            "requests": 1,
            "contacts": 2,
            "groups": 1,
            "markets": 2,
            "position": 200,
            "social_per_trade": 1.5,
            "pnl": -30,
            # Profit moved by 30 and by -60: the mean is -15, the variance 45 squared.
            "pnl_variance": 2025,
            "largest_loss": -60,
            "largest_move": 60,
            "predictions": 2,
            "accuracy": 1.0,
            "win_rate": 0.5,
            "win_rate_of_few": 0.5,
            "reputation": 4,
        }
    )
    assert counts_of(episode([])) == {}


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (ACTION, 1.0),
        ('```json\n{"action": "wait"}\n```', 0.7),
        ('{"action": "DANCE", "to": "music"}', 0.7),
        ('{"action": "DANCE"}', 0.4),
        ('{"reasoning": "none"}', 0.0),
        ("I buy.", 0.0),
        ("{broken", 0.0),
        ('{"action": {"type": "SELL", "ticker": "T"}}', 1.0),
    ],
)
def test_form(content: str, value: float) -> None:
    assert form(episode([], calls=[said(content)])) == pytest.approx(value)


def test_form_of_tool_calls_and_of_turns() -> None:
    tool: dict[str, Any] = {"function": {"name": "BUY_SHARES", "arguments": '{"amount": 3}'}}
    response = Message(role="assistant", tool_calls=[tool])
    call = Call(call_id="c", turn=0, model="m", messages=[], response=response)
    assert form(episode([], calls=[call])) == pytest.approx(1.0)
    assert form(episode([turn(0, "wait"), turn(1, "BUY", parameters={"a": 1})])) == pytest.approx((0.7 + 1.0) / 2)
    assert form(episode([])) == 0.0


@pytest.mark.parametrize(
    ("content", "thought", "value"),
    [
        ("", None, 0.3),
        ('{"action": "BUY"}', None, 0.3),
        ("Fine.", None, 0.5),
        ("x" * 101, None, 0.7),
        ("The price is low.", None, 0.65),
        ("The price is low, therefore we go." + " x" * 50, None, 1.0),
        ('{"action": "BUY", "reasoning": "because it is cheap"}', None, 0.65),
        ('{"action": "BUY"}', "The market turns.", 0.65),
    ],
)
def test_reasoning(content: str, thought: str | None, value: float) -> None:
    assert reasoning(episode([], calls=[said(content, thought)])) == pytest.approx(value)
    assert reasoning(episode([])) == pytest.approx(0.3)
