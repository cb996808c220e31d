from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import pytest

from environments.contract import Episode, Step
from environments.webshop.environment import WebShop, WebShopSmall
from environments.webshop.shopping import Shopping
from environments.webshop.visit import Page
from rl.records import ScenarioRef

ENVIRONMENTS = {"webshop": WebShop(), "webshop-small": WebShopSmall()}


def _open(name: str, split: str, seed: int) -> Shopping:
    ref = ScenarioRef.model_validate({"environment": name, "split": split, "seed": seed})
    episode = ENVIRONMENTS[name].open(ref)
    assert isinstance(episode, Shopping)
    return episode


def _play(episode: Episode, act: Callable[[], str]) -> tuple[float, list[Step]]:
    steps = [episode.step(act())]
    while not steps[-1].done:
        steps.append(episode.step(act()))
    return sum(step.reward for step in steps), steps


def _first_affordable(episode: Shopping) -> str:
    """Searches for the goal's words, opens the first result within the limit, and chooses what it finds of the goal."""
    visit, goal = episode._visit, episode._goal
    if visit.page is Page.FRONT:
        return f"search[{goal.words}]"
    if visit.page is Page.RESULTS or visit.product is None:
        shown = visit.shown()
        return f"click[{next((p for p in shown if p.cents <= goal.cents), shown[0]).id}]"
    for axis, values in visit.product.options.items():
        for value in values:
            if value in goal.options and visit.chosen.get(axis) != value:
                return f"click[{value}]"
    return f"click[{episode._names.buy}]"


@pytest.mark.parametrize(("name", "solved"), [("webshop", 216), ("webshop-small", 221)])
def test_the_first_affordable_result_is_often_not_the_right_one(name: str, solved: int) -> None:
    episodes = [_open(name, "held_out", seed) for seed in range(400)]
    rewards = [_play(episode, lambda episode=episode: _first_affordable(episode))[0] for episode in episodes]
    assert sum(reward == 1.0 for reward in rewards) == solved


def _first_result(episode: Shopping, chooses: bool) -> str:
    """Searches for the whole instruction, opens the first result unread, and clicks the options that are named."""
    visit, said = episode._visit, episode._goal.instruction
    if visit.page is Page.FRONT:
        return f"search[{said}]"
    if visit.page is Page.RESULTS or visit.product is None:
        return f"click[{visit.shown()[0].id}]"
    for axis, values in visit.product.options.items():
        named = [value for value in values if re.search(rf"(?<![\w-]){re.escape(value)}(?![\w-])", said)]
        if chooses and named and axis not in visit.chosen:
            return f"click[{named[0]}]"
    return f"click[{episode._names.buy}]"


@pytest.mark.parametrize(("chooses", "solved", "mean"), [(True, 326, 0.955), (False, 0, 0.649)])
def test_the_first_result_for_the_whole_instruction_is_mostly_right(chooses: bool, solved: int, mean: float) -> None:
    episodes = [_open("webshop", "held_out", seed) for seed in range(400)]
    rewards = [_play(episode, partial(_first_result, episode, chooses))[0] for episode in episodes]
    assert (sum(reward == 1.0 for reward in rewards), round(sum(rewards) / 400, 3)) == (solved, mean)
