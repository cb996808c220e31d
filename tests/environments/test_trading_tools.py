from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import environments
from environments.calling import read, write
from environments.contract import Episode, Step
from environments.episode import MOST_CHARACTERS
from environments.trading.environment import Trading
from environments.trading.tools import TOOLS, TradingTools
from environments.trading.world import HOURS
from rl.errors import InvalidInput
from rl.records import ScenarioRef

CALLED, TEXT = TradingTools(), Trading()
BUY = {"market": "M1", "side": "yes", "amount": 100}


def _open(name: str, split: str, seed: int) -> Episode:
    ref = ScenarioRef.model_validate({"environment": name, "split": split, "seed": seed})
    return environments.load(name).open(ref)


def test_a_call_is_carried_out() -> None:
    episode = _open("trading-tools", "held_out", 5)
    assert [message.role for message in episode.messages] == ["system", "user"]
    assert (
        episode.oracle()
        == '{"name": "open_position", "arguments": {"asset": "COPPER", "side": "short", "amount": 200}}'
    )
    step = episode.step(episode.oracle())
    assert (step.observation or "").startswith("You go short 80 COPPER at $12.46.\nHour 2 of 8. Cash $799.64.\nM1 ")


def test_it_is_trading_without_its_text_form() -> None:
    rules, last = CALLED.system.rsplit("\n", 1)
    assert TEXT.system.startswith(f"{rules}\nReply with one JSON object")
    assert last == "Call one function an hour."
    assert "JSON" not in CALLED.system
    assert not TEXT.tools
    assert (CALLED.success, CALLED.max_turns, CALLED.max_tokens) == (0.5, 8, 512)


@pytest.mark.parametrize("split", ["train", "validation", "held_out"])
def test_scenarios_and_rewards_are_those_of_trading(split: str) -> None:
    for seed in range(20):
        chances = Random(seed), Random(seed)
        one, other = _open("trading-tools", split, seed), _open("trading", split, seed)
        assert (one.content_hash, one.type, one.messages[1]) == (other.content_hash, other.type, other.messages[1])
        for turn in range(HOURS):
            called = one.oracle() if turn % 2 else one.guess(chances[0])
            written = other.oracle() if turn % 2 else other.guess(chances[1])
            name, arguments = read(called, TOOLS)
            assert json.loads(written) == {"action": name, **arguments}
            assert one.step(called) == other.step(written)


def test_the_oracle_solves_what_is_held_out() -> None:
    for seed in range(50):
        episode = _open("trading-tools", "held_out", seed)
        steps = [episode.step(episode.oracle()) for _ in range(HOURS)]
        assert steps[-1] == Step(None, 1.0, done=True, truncated=False)


@pytest.mark.parametrize(
    ("reply", "remark"),
    [
        ("", "Call one of the functions buy_shares(market, side, amount), sell_shares(market, side, amount?), "),
        (json.dumps({"action": "buy_shares", **BUY}), "Call one of the functions buy_shares("),
        (write("hold", {}), "There is no such function. Call one of buy_shares("),
        (json.dumps({"name": "buy_shares", "arguments": "{market: M1"}), "The arguments must be one JSON object. Call"),
        (write("buy_shares", {**BUY, "amount": None}), "The argument amount must be a number above 0. Call buy_shares"),
        (write("buy_shares", {**BUY, "amount": "100"}), "The argument amount must be a number above 0."),
        (write("buy_shares", {**BUY, "side": "long"}), "The argument side must be yes or no."),
        (write("buy_shares", {"market": "M1", "side": "yes"}), "The argument amount is missing."),
        (write("wait", {"hours": 1}), "There is an argument too many. Call wait()."),
        (write("sell_shares", {**BUY, "amount": 1.5}), "The argument amount must be a whole number of 1 or more."),
        (write("buy_shares", {**BUY, "market": "M9"}), "The markets are M1, M2, M3."),
        (write("buy_shares", {**BUY, "amount": 1e15}), "You do not have that much cash."),
        (write("open_position", {"asset": "COPPER", "side": "long", "amount": 1e15}), "At most $200 of margin"),
        (write("sell_shares", {**BUY, "amount": 10**15}), "You hold 0 shares of that side."),
        ("x" * (MOST_CHARACTERS + 1), "The reply is longer than"),
    ],
)
def test_what_is_no_order_is_answered_and_takes_the_hour(reply: str, remark: str) -> None:
    episode, other = _open("trading-tools", "held_out", 5), _open("trading-tools", "held_out", 5)
    step, waited = episode.step(reply), other.step(CALLED.idle)
    first, *rest = (step.observation or "").split("\n")
    assert first.startswith(f"Nothing is traded. {remark}")
    assert rest == (waited.observation or "").split("\n")[1:]
    assert (step.reward, step.done, step.truncated) == (0.0, False, False)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["M1", "yes", "long"])
arguments = st.dictionaries(st.sampled_from(["market", "asset", "side", "amount"]), scalars | st.lists(scalars))
names = st.sampled_from([tool["function"]["name"] for tool in TOOLS])
calls = st.builds(write, names, arguments)


@given(
    reply=st.text()
    | calls
    | st.builds(lambda name, said: json.dumps({"name": name, "arguments": said}), names, scalars)
)
def test_any_reply_is_a_step(reply: str) -> None:
    step = _open("trading-tools", "train", 0).step(reply)
    assert (step.reward, step.done, step.truncated) == (0.0, False, False)
    assert "Hour 2 of 8." in (step.observation or "")


@given(market=st.text(), asset=st.text(), amount=st.floats(1e-9, 1e15) | st.integers(1, 10**15))
def test_any_call_that_fits_is_a_step(market: str, asset: str, amount: float) -> None:
    said: list[tuple[str, dict[str, Any]]] = [
        ("buy_shares", {"market": market, "side": "yes", "amount": amount}),
        ("sell_shares", {"market": "M1", "side": "yes", "amount": round(amount) + 1}),
        ("open_position", {"asset": asset, "side": "short", "amount": amount}),
        ("open_position", {"asset": "COPPER", "side": "short", "amount": amount}),
        ("close_position", {"asset": asset}),
        ("buy_shares", {"market": " m1 ", "side": "no", "amount": amount}),
    ]
    episode = _open("trading-tools", "held_out", 5)
    assert not any(episode.step(write(name, values)).done for name, values in said)


def test_another_environments_scenario_is_refused() -> None:
    with pytest.raises(InvalidInput, match="trading/train/1"):
        CALLED.open(ScenarioRef(environment="trading", split="train", seed=1))
