from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.contract import Episode, Step
from environments.episode import MOST_CHARACTERS
from environments.webshop.environment import WebShop, WebShopSmall
from environments.webshop.shopping import Shopping
from environments.webshop.visit import Page
from rl.errors import InvalidInput
from rl.records import ScenarioRef

ENVIRONMENTS = {"webshop": WebShop(), "webshop-small": WebShopSmall()}
names = pytest.mark.parametrize("name", list(ENVIRONMENTS))
SPLITS = ("train", "validation", "held_out")


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


def test_a_transcript_of_the_small_store() -> None:
    episode = _open("webshop-small", "held_out", 2)
    assert episode.content_hash.startswith("c040c499db08aa34")
    assert episode.type == "hat"
    assert [message.content for message in episode.messages] == [
        "Reply search[words] or click[button].",
        "buy a striped strong pink hat for at most 50",
    ]
    assert episode.oracle() == "search[hat]"
    assert episode.step("search[hat]").observation == (
        "foldable light hat, 60\nfoldable striped hat, 20\nstriped strong hat, 50\nbuttons: search"
    )
    assert episode.oracle() == "click[striped strong hat]"
    item = "striped strong hat, 50\ncolor: red blue green black white brown pink grey\n"
    assert episode.step("click[striped strong hat]").observation == item + "buttons: search back buy"
    assert episode.oracle() == "click[pink]"
    assert episode.step("click[pink]").observation == item + "chosen: pink\nbuttons: search back buy"
    assert episode.oracle() == "click[buy]"
    assert episode.step("click[buy]") == Step(None, 1.0, done=True, truncated=False)


def test_an_opening_of_the_full_store() -> None:
    assert _open("webshop", "held_out", 0).messages[-1].content == (
        "WebShop [SEP] Instruction: [SEP] I am after sheer curtains that can be described as noise reducing, thermal "
        "insulated; I want color white, size 108 inch, and my limit is 80.00 dollars. [SEP] Search"
    )


@pytest.mark.parametrize(
    ("seed", "clicks", "reward"),
    [
        # a striped strong pink hat for at most 50: four parts
        (2, ["striped strong hat", "pink"], 1.0),
        (2, ["striped strong hat", "red", "pink"], 1.0),
        (2, ["striped strong hat"], 3 / 4),
        (2, ["striped strong hat", "red"], 3 / 4),
        (2, ["foldable striped hat", "pink"], 3 / 4),
        (2, ["foldable light hat"], 0.0),
        # a foldable black chair for at most 70: three parts
        (0, ["foldable warm chair", "black"], 1.0),
        (0, ["foldable striped chair", "black"], 1.0),
        (0, ["striped strong chair", "black"], 2 / 3),
        (0, ["striped strong chair"], 1 / 3),
    ],
)
def test_what_a_purchase_in_the_small_store_is_worth(seed: int, clicks: list[str], reward: float) -> None:
    episode = _open("webshop-small", "held_out", seed)
    episode.step(f"search[{episode.type}]")
    for button in clicks:
        episode.step(f"click[{button}]")
    assert episode.step("click[buy]") == Step(None, pytest.approx(reward), done=True, truncated=False)


def test_another_type_of_product_is_worth_nothing() -> None:
    episode = _open("webshop-small", "held_out", 2)
    for action in ("search[shirt]", "click[strong warm shirt]", "click[pink]"):
        episode.step(action)
    assert episode.step("click[buy]") == Step(None, 0.0, done=True, truncated=False)


@names
def test_the_oracle_solves_what_is_held_out(name: str) -> None:
    for seed in range(200):
        episode = _open(name, "held_out", seed)
        reward, steps = _play(episode, episode.oracle)
        assert reward == 1.0, seed
        assert len(steps) <= ENVIRONMENTS[name].plan_turns
        assert not steps[-1].truncated


@pytest.mark.parametrize(("name", "turns"), [("webshop", WebShop.max_turns), ("webshop-small", 1)])
def test_doing_nothing_earns_nothing(name: str, turns: int) -> None:
    environment = ENVIRONMENTS[name]
    reward, steps = _play(_open(name, "held_out", 0), lambda: environment.idle)
    assert (reward, len(steps)) == (0.0, turns)
    assert steps[-1] == Step(None, 0.0, done=True, truncated=name == "webshop")


@names
def test_chance_hardly_ever_succeeds(name: str) -> None:
    solved = 0
    for seed in range(200):
        episode, chance = _open(name, "held_out", seed), Random(seed)
        reward, _ = _play(episode, lambda episode=episode, chance=chance: episode.guess(chance))
        assert 0.0 <= reward <= 1.0
        solved += reward == 1.0
    assert solved <= 10


@names
def test_guesses_are_well_formed(name: str) -> None:
    for seed in range(50):
        episode, chance = _open(name, "train", seed), Random(seed)
        _, steps = _play(episode, lambda episode=episode, chance=chance: episode.guess(chance))
        assert not any("Reply with one" in (s.observation or "") for s in steps)
        assert not any("no such button" in (s.observation or "") for s in steps)
        assert steps[-1].truncated or episode._visit.page is Page.BOUGHT


@names
def test_an_episode_repeats_and_leaves_others_alone(name: str) -> None:
    one, other = _open(name, "train", 3), _open(name, "train", 3)
    chance = Random(5)
    actions = [one.guess(Random(1)), one.oracle()]
    first = [one.step(action) for action in actions]
    assert other.messages == _open(name, "train", 3).messages
    assert [other.step(action) for action in actions] == first
    assert one.guess(chance) == other.guess(Random(5))


@pytest.mark.parametrize(
    ("reply", "remark"),
    [
        ("", "Reply with one action"),
        ("search", "Reply with one action"),
        ("buy the shirt", "Reply with one action"),
        ("search[shirt]\nclick[shirt 1]", "Reply with one action"),
        ("I would search[shirt] first", "Reply with one action"),
        ("search[]", "There are no words"),
        ("search[ !? ]", "There are no words"),
        ("click[]", "This page has no such button"),
        ("click[Buy Now]", "This page has no such button"),
        ("click[search]", "This page has no such button"),
        ("<think>search[shirt]</think>", "Reply with one action"),
        ("<think>search[shirt]", "Reply with one action"),
        ("x" * (MOST_CHARACTERS + 1), "The reply is longer than"),
    ],
)
def test_what_cannot_be_done_is_answered_and_uses_up_a_turn(reply: str, remark: str) -> None:
    step = _open("webshop", "train", 0).step(reply)
    assert (step.reward, step.done, step.truncated) == (0.0, False, False)
    assert (step.observation or "").startswith(remark)


@pytest.mark.parametrize(
    "replies",
    [
        [""],
        ["search[]"],
        ["click[green]"],
        ["search[shirt]\nclick[green]"],
        ["x" * (MOST_CHARACTERS + 1)],
        ["search[hat]", "search[hat]"],
        ["search[hat]", "click[strong striped hat]"],
        ["search[hat]", "click[striped strong hat]", "click[gold]"],
    ],
)
def test_what_cannot_be_done_ends_a_visit_to_the_small_store(replies: list[str]) -> None:
    episode = _open("webshop-small", "held_out", 2)
    *before, last = (episode.step(reply) for reply in replies)
    assert not any(step.done for step in before)
    assert last == Step(None, 0.0, done=True, truncated=False)
    with pytest.raises(InvalidInput, match="the episode is over"):
        episode.step("search[hat]")


@names
@pytest.mark.parametrize(
    "form",
    [
        "search[shirt]",
        "  Search [shirt] ",
        "Thought:\nI need a shirt.\n\nAction:\nsearch[shirt]",
        "Thought: search[hat]? No.\nAction: search[shirt]",
        "<think>search[hat]</think>search[shirt]",
        "Let us see.\r\nsearch[shirt]\r\nThat should do.",
    ],
)
def test_an_action_may_follow_a_thought(name: str, form: str) -> None:
    plain, other = _open(name, "train", 0), _open(name, "train", 0)
    assert other.step(form) == plain.step("search[shirt]")


def test_a_search_needs_the_search_bar() -> None:
    episode = _open("webshop", "train", 0)
    episode.step("search[shirt]")
    assert (episode.step("search[hat]").observation or "").startswith("This page has no search bar.\nInstruction:")
    assert "Search" in (episode.step("click[back to search]").observation or "")


def test_buying_at_once_is_worth_a_part_and_ends_the_visit() -> None:
    episode = _open("webshop", "train", 0)
    goal = episode._goal
    for _ in range(2):
        episode.step(episode.oracle())
    step = episode.step("click[buy now]")
    parts = len(goal.attributes) + 1
    assert step == Step(None, pytest.approx(parts / (parts + len(goal.options))), done=True, truncated=False)
    with pytest.raises(InvalidInput, match="the episode is over"):
        episode.step("click[buy now]")


@given(seed=st.integers(0, 50), right=st.integers(0, 3), chance=st.randoms(use_true_random=False))
def test_the_oracle_finds_back_from_a_wrong_turn(seed: int, right: int, chance: Random) -> None:
    episode = _open("webshop", "train", seed)
    for _ in range(right):
        episode.step(episode.oracle())
    other_ways = [button for button in episode._visit.buttons() if button != "Buy Now"]
    episode.step(f"click[{chance.choice(other_ways)}]" if other_ways else "search[coffee lamp]")
    assert _play(episode, episode.oracle)[0] == 1.0


replies = st.one_of(
    st.text(max_size=60),
    st.builds("{}[{}]".format, st.sampled_from(["search", "click", "Search", "act"]), st.text(max_size=20)),
    st.sampled_from(["search[shirt]", "search[lamp]", "click[next]", "click[Next >]", "click[< Prev]", "click[back]"]),
    st.sampled_from(
        ["click[foldable soft shirt]", "click[buy]", "click[Buy Now]", "click[red]", "click[Attributes]", "GUESS"]
    ),
)


@names
@given(seed=st.integers(0, 1000), said=st.lists(replies, min_size=10, max_size=10))
def test_any_reply_is_answered(name: str, seed: int, said: list[str]) -> None:
    episode, chance = _open(name, "train", seed), Random(seed)
    steps: list[Step] = []
    while not steps or not steps[-1].done:
        reply = said[len(steps)]
        steps.append(episode.step(episode.guess(chance) if reply == "GUESS" else reply))
    assert len(steps) <= ENVIRONMENTS[name].max_turns
    assert all((step.observation is None) == step.done for step in steps)
    assert [step.reward for step in steps[:-1]] == [0.0] * (len(steps) - 1)
    assert 0.0 <= steps[-1].reward <= 1.0
    assert not (steps[-1].truncated and steps[-1].reward)


def test_another_environments_scenario_is_refused() -> None:
    ref = ScenarioRef(environment="chess", split="train", seed=1)
    for environment in ENVIRONMENTS.values():
        with pytest.raises(InvalidInput, match="chess/train/1"):
            environment.open(ref)
