from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import environments
from environments.calling import read, write
from environments.contract import Episode, Step
from environments.episode import MOST_CHARACTERS
from environments.webshop.environment import WebShop
from environments.webshop.tools import TOOLS, WebShopTools
from rl.errors import InvalidInput
from rl.records import ScenarioRef

CALLED, TEXT = WebShopTools(), WebShop()


def _open(name: str, split: str, seed: int) -> Episode:
    ref = ScenarioRef.model_validate({"environment": name, "split": split, "seed": seed})
    return environments.load(name).open(ref)


def _as_text(call: str) -> str:
    name, arguments = read(call, TOOLS)
    return f"{name}[{arguments['words' if name == 'search' else 'button']}]"


def test_a_visit_by_calls() -> None:
    episode = _open("webshop-tools", "held_out", 0)
    said, steps = [], [Step("", 0.0, done=False, truncated=False)]
    while not steps[-1].done:
        said.append(episode.oracle())
        steps.append(episode.step(said[-1]))
    assert steps[-1] == Step(None, 1.0, done=True, truncated=False)
    assert said == [
        '{"name": "search", "arguments": {"words": "noise reducing thermal insulated sheer curtains"}}',
        '{"name": "click", "arguments": {"button": "B201299750"}}',
        '{"name": "click", "arguments": {"button": "white"}}',
        '{"name": "click", "arguments": {"button": "108 inch"}}',
        '{"name": "click", "arguments": {"button": "Buy Now"}}',
    ]


def test_it_is_webshop_without_its_text_form() -> None:
    assert "[" not in CALLED.system
    assert "Reply" not in CALLED.system
    assert not TEXT.tools
    limits = (TEXT.success, TEXT.max_turns, TEXT.max_tokens, TEXT.plan_turns)
    assert (CALLED.success, CALLED.max_turns, CALLED.max_tokens, CALLED.plan_turns) == limits


@pytest.mark.parametrize("split", ["train", "validation", "held_out"])
def test_scenarios_pages_and_rewards_are_those_of_webshop(split: str) -> None:
    for seed in range(20):
        chances = Random(seed), Random(seed)
        one, other = _open("webshop-tools", split, seed), _open("webshop", split, seed)
        assert (one.content_hash, one.type, one.messages[1]) == (other.content_hash, other.type, other.messages[1])
        done, turn = False, 0
        while not done:
            called = one.guess(chances[0]) if seed % 2 and turn else one.oracle()
            written = other.guess(chances[1]) if seed % 2 and turn else other.oracle()
            assert _as_text(called) == written
            step = one.step(called)
            assert step == other.step(written)
            done, turn = step.done, turn + 1


@pytest.mark.parametrize(
    ("reply", "remark"),
    [
        ("", "Call one of the functions search(words), click(button)."),
        ("search[shirt]", "Call one of the functions search(words), click(button)."),
        (write("buy", {}), "There is no such function. Call one of search(words), click(button)."),
        (json.dumps({"name": "click", "arguments": "{button"}), "The arguments must be one JSON object. Call click("),
        (write("search", {}), "The argument words is missing. Call search(words)."),
        (write("search", {"words": ["shirt"]}), "The argument words must be text. Call search(words)."),
        (write("search", {"words": "shirt", "page": 2}), "There is an argument too many. Call search(words)."),
        (write("search", {"words": " !? "}), "There are no words to search for."),
        (write("click", {"button": "Buy Now"}), "This page has no such button."),
        (write("click", {"button": "\ud800"}), "This page has no such button."),
        ("x" * (MOST_CHARACTERS + 1), "The reply is longer than 20000 characters. Call one function."),
    ],
)
def test_what_cannot_be_done_is_answered_and_uses_up_a_turn(reply: str, remark: str) -> None:
    episode = _open("webshop-tools", "train", 0)
    step = episode.step(reply)
    assert (step.reward, step.done, step.truncated) == (0.0, False, False)
    assert (step.observation or "").startswith(f"{remark}")
    assert (step.observation or "").endswith(f"\n{episode.messages[1].content}")


def test_words_and_buttons_may_hold_what_the_text_form_cannot() -> None:
    one, other = _open("webshop-tools", "train", 0), _open("webshop-tools", "train", 0)
    assert one.step(write("search", {"words": "shirt]\n[hat"})) == other.step(write("search", {"words": "shirt hat"}))
    assert "Search" in (one.step(write("click", {"button": " back to SEARCH "})).observation or "")


def test_doing_nothing_earns_nothing() -> None:
    episode = _open("webshop-tools", "held_out", 0)
    steps = [episode.step(CALLED.idle) for _ in range(CALLED.max_turns)]
    assert steps[-1] == Step(None, 0.0, done=True, truncated=True)
    assert sum(step.reward for step in steps) == 0


texts = st.text(max_size=20) | st.sampled_from(["shirt", "lamp", "Next >", "< Prev", "Attributes", "Back to Search"])
calls = st.builds(write, st.sampled_from(["search", "click"]), st.fixed_dictionaries({"words": texts}))
clicks = st.builds(write, st.just("click"), st.fixed_dictionaries({"button": texts}))
replies = st.text(max_size=60) | calls | clicks | st.sampled_from(["GUESS", "ORACLE"])


@given(seed=st.integers(0, 1000), said=st.lists(replies, min_size=10, max_size=10))
def test_any_reply_is_answered(seed: int, said: list[str]) -> None:
    episode, chance = _open("webshop-tools", "train", seed), Random(seed)
    steps: list[Step] = []
    while not steps or not steps[-1].done:
        reply = said[len(steps)]
        reply = episode.guess(chance) if reply == "GUESS" else episode.oracle() if reply == "ORACLE" else reply
        steps.append(episode.step(reply))
    assert len(steps) <= CALLED.max_turns
    assert [step.reward for step in steps[:-1]] == [0.0] * (len(steps) - 1)
    assert 0.0 <= steps[-1].reward <= 1.0


def test_another_environments_scenario_is_refused() -> None:
    with pytest.raises(InvalidInput, match="webshop/train/1"):
        CALLED.open(ScenarioRef(environment="webshop", split="train", seed=1))
