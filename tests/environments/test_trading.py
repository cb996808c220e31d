from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.contract import Step
from environments.dealing import split_of
from environments.trading.environment import LEAST_PROFIT_CENTS, Trading, TradingEpisode, reward
from environments.trading.game import Game
from environments.trading.orders import FORM, Order, read
from environments.trading.trader import profit
from environments.trading.world import HOURS
from rl.errors import InvalidInput
from rl.records import ScenarioRef

ENVIRONMENT = Trading()
SPLITS = ("train", "validation", "held_out")
BUY = '{"action": "buy_shares", "market": "M1", "side": "yes", "amount": 100}'
BOUGHT = Order("buy_shares", "M1", "yes", 100.0)


def _open(split: str, seed: int) -> TradingEpisode:
    ref = ScenarioRef.model_validate({"environment": "trading", "split": split, "seed": seed})
    episode = ENVIRONMENT.open(ref)
    assert isinstance(episode, TradingEpisode)
    return episode


def _play(episode: TradingEpisode, act: Callable[[TradingEpisode], str]) -> tuple[float, list[Step]]:
    """The episode's reward and its steps."""
    steps = [episode.step(act(episode))]
    while not steps[-1].done:
        steps.append(episode.step(act(episode)))
    return sum(step.reward for step in steps), steps


def test_the_start_of_a_transcript() -> None:
    episode = _open("held_out", 5)
    assert episode.messages[1].content == (
        "Hour 1 of 8. Cash $1000.00.\n"
        "M1 Will the two airlines merge? Resolves in hour 9. yes 27.1, no 72.9.\n"
        "M2 Will the film win the grand prize? Resolves in hour 10. yes 27.5, no 72.5.\n"
        "M3 Will the bridge reopen in time? Resolves in hour 10. yes 72.6, no 27.4.\n"
        "SUGAR $15.25.\n"
        "COPPER $12.46.\n"
        "Report: buses run over the bridge again.\n"
        "Report: warehouses are full of COPPER."
    )
    assert episode.oracle() == '{"action": "open_position", "asset": "COPPER", "side": "short", "amount": 200}'
    step = episode.step(episode.oracle())
    assert (step.reward, step.done, step.truncated) == (0.0, False, False)
    assert (step.observation or "").startswith(
        "You go short 80 COPPER at $12.46.\nHour 2 of 8. Cash $799.64.\nM1 Will the two airlines merge? Resolves in "
    )
    assert "COPPER $12.08. You are short 80 units: margin $199.36, gain $30.40." in (step.observation or "")


@pytest.mark.parametrize(
    ("reply", "order"),
    [
        (BUY, BOUGHT),
        (f"<think>no {{}}</think>\n{BUY}", BOUGHT),
        (f"Either {{wait}} or {{ or {ENVIRONMENT.idle}, no: {BUY} I say.", BOUGHT),
        (f"Thought: cheap\nAction:\n```json\n{BUY}\n```", BOUGHT),
        ('{"action": "BUY_SHARES", "market": "m1", "side": "YES", "amount": "$100"}', BOUGHT),
        ('{"name": "buy_shares", "arguments": {"market": "M1", "side": "yes", "amount": 100}}', BOUGHT),
        (json.dumps({"name": "buy_shares", "arguments": '{"market": "M1", "side": "yes", "amount": 100}'}), BOUGHT),
        ('{"action": "BUY", "asset": "oil", "amount": 50}', Order("open_position", "OIL", "long", 50.0)),
        ('{"action": "SELL", "asset": "OIL", "amount": 50}', Order("open_position", "OIL", "short", 50.0)),
        ('{"action": "CLOSE", "asset": "OIL"}', Order("close_position", "OIL")),
        ('{"action": "SELL_SHARES", "market": "M1", "side": "no"}', Order("sell_shares", "M1", "no")),
        ('{"action": "HOLD"}', Order("wait")),
        ('{"action": "wait", "amount": null}', Order("wait")),
    ],
)
def test_what_an_order_may_look_like(reply: str, order: Order) -> None:
    assert read(reply) == order


BAD = [
    "",
    "buy 100 yes of M1",
    "\x00\x1b[2J\u202e",
    BUY[:-1],
    f"<think>{BUY}",
    "[" * 15_000,
    '{"action":' * 3000 + "1" + "}" * 3000,
    '{"action": "wait"} or rather {"action": "run"}',
    '{"action": ' + '{"a": ' * 900 + "1" + "}" * 901,
    '{"action": "buy_shares", "market": {"M1": 1}, "side": ["yes"], "amount": 100}',
    "[1, 2]",
    '"wait"',
    '{"action": {"action": "wait"}}',
    '{"action": "CREATE_POST", "content": "to the moon"}',
    '{"action": null}',
    '{"name": "buy_shares", "arguments": "M1"}',
    *(
        BUY.replace("100", amount)
        for amount in (
            *("-1", "0", "NaN", "Infinity", "-Infinity", "1e999", "1e10", "true", "[]", '"many"', '"nan"', '"-5"'),
            "9" * 4000,
            "9" * 5000,
            "1001",
            "0.001",
        )
    ),
    BUY.replace("M1", "M9"),
    BUY.replace("M1", "GOLD"),
    BUY.replace("yes", "maybe"),
    '{"action": "buy_shares"}',
    '{"action": "sell_shares", "market": "M1", "side": "yes"}',
    '{"action": "open_position", "asset": "GOLD", "side": "long", "amount": 201.5}',
    '{"action": "open_position", "asset": "UNOBTAINIUM", "side": "long", "amount": 50}',
    '{"action": "close_position", "asset": "COPPER"}',
    BUY + " " * 100_000,
]


@pytest.mark.parametrize("reply", BAD, ids=range(len(BAD)))
def test_what_is_no_order_trades_nothing_and_takes_the_hour(reply: str) -> None:
    episode, other = _open("held_out", 5), _open("held_out", 5)
    step, waited = episode.step(reply), other.step(ENVIRONMENT.idle)
    assert (step.observation or "").startswith("Nothing is traded. ")
    assert (step.observation or "").split("\n")[1:] == (waited.observation or "").split("\n")[1:]
    assert _play(episode, lambda _: reply) == _play(other, lambda _: reply)


@given(reply=st.text() | st.binary().map(repr) | st.sampled_from(BAD))
def test_any_text_is_a_step(reply: str) -> None:
    step = _open("train", 0).step(reply)
    assert (step.reward, step.done, step.truncated) == (0.0, False, False)
    assert "Hour 2 of 8." in (step.observation or "")


@given(said=st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists))
def test_any_json_is_a_step(said: object) -> None:
    values = {"action": "buy_shares", "market": said, "side": said, "amount": said}
    for name in values:
        assert not _open("train", 0).step(json.dumps(values | {name: said})).done
        assert not _open("train", 0).step(json.dumps({"name": "open_position", "arguments": {name: said}})).done


def test_the_last_hour_is_the_end_and_no_truncation() -> None:
    episode = _open("held_out", 5)
    total, steps = _play(episode, lambda _: ENVIRONMENT.idle)
    assert len(steps) == HOURS
    assert steps[-1] == Step(None, 0.0, done=True, truncated=False)
    assert total == 0.0
    with pytest.raises(InvalidInput, match="the episode is over"):
        episode.step(BUY)


@pytest.mark.parametrize("cents", [-50_000, -1, 0])
def test_a_loss_is_worth_as_much_as_doing_nothing(cents: int) -> None:
    assert reward(cents, 20_000) == 0.0


def test_the_reward_is_the_share_of_the_traders_profit() -> None:
    assert [reward(cents, 20_000) for cents in (1, 5_000, 10_000, 20_000, 90_000)] == [0.00005, 0.25, 0.5, 1.0, 1.0]


@pytest.mark.parametrize("split", SPLITS)
def test_the_news_reader_solves_every_scenario(split: str) -> None:
    for seed in range(100):
        episode = _open(split, seed)
        total, steps = _play(episode, lambda episode: episode.oracle())
        assert (total, len(steps)) == (1.0, HOURS)


def _simple(game: Game) -> Order:
    """Bet in the direction of the hour's first report; wait where there is none."""
    for item in game.world.news:
        if item.hour == game.hour and item.source == "report":
            if item.about >= 3:
                return Order(
                    "open_position", game.world.assets[item.about - 3].name, "long" if item.good else "short", 190
                )
            return Order("buy_shares", f"M{item.about + 1}", "yes" if item.good else "no", 150)
    return Order("wait")


def _first_order(episode: TradingEpisode) -> str:
    return _simple(episode._game).json()


def test_other_readers_succeed_too_and_chance_does_not() -> None:
    chance = Random(0)
    agents: list[Callable[[TradingEpisode], str]] = [_first_order, lambda episode: episode.guess(chance)]
    simple, random = (
        sum(_play(_open("held_out", seed), agent)[0] >= ENVIRONMENT.success for seed in range(200)) for agent in agents
    )
    assert simple == 169
    assert random < 30


def _follow(episode: TradingEpisode) -> str:
    """From the second hour on, be in each asset in the direction that it went since the first; read no news."""
    game = episode._game
    for place, asset in enumerate(game.world.assets):
        now, first = asset.path[game.hour - 1], asset.path[0]
        if game.hour > 1 and place not in game.account.positions:
            return Order("open_position", asset.name, "long" if now > first else "short", 190).json()
    return Order("wait").json()


def test_following_the_trend_without_news_solves_less_than_half() -> None:
    solved = [_play(_open("held_out", seed), _follow)[0] >= ENVIRONMENT.success for seed in range(200)]
    assert sum(solved) == 87


def test_splits_are_disjoint_by_content() -> None:
    hashes = {split: {_open(split, seed).content_hash for seed in range(300)} for split in SPLITS}
    assert len(set.union(*hashes.values())) == 900
    for split in SPLITS:
        assert {split_of(digest) for digest in hashes[split]} == {split}


@pytest.mark.parametrize(("source", "share"), [("report", 0.915), ("rumour", 0.663)])
def test_news_of_dealt_worlds_is_a_little_better(source: str, share: float) -> None:
    right = []
    for seed in range(1000):
        world = _open("held_out", seed)._game.world
        for item in world.news:
            if item.about < 3 and item.source == source:
                right.append(item.good is (world.markets[item.about].truth == "yes"))
    assert round(sum(right) / len(right), 3) == share


def test_a_dealt_world_is_worth_trading_in() -> None:
    assert min(profit(_open("held_out", seed)._game.world) for seed in range(50)) >= LEAST_PROFIT_CENTS


def test_an_episode_is_the_same_each_time_and_beside_others() -> None:
    one, two = _open("train", 3), _open("train", 3)
    chances = Random(1), Random(1)
    for _ in range(HOURS):
        first, second = one.guess(chances[0]), two.guess(chances[1])
        assert first == second
        assert one.step(first) == two.step(second)


def test_the_form_that_is_told_is_an_order() -> None:
    assert FORM.split("such as ")[1].rstrip(".") == BUY


def test_another_environments_scenario_is_refused() -> None:
    with pytest.raises(InvalidInput, match="chess/train/1"):
        ENVIRONMENT.open(ScenarioRef(environment="chess", split="train", seed=1))
