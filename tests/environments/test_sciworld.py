from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest

from environments.contract import Episode, Step
from environments.dealing import split_of
from environments.sciworld import environment as played
from environments.sciworld.environment import FORM, SciWorld, variations
from environments.sciworld.gold import LONGEST, TASKS, Variation, known, main, replay, spread, write
from environments.sciworld.pool import Pool
from rl.errors import ChildLost, InvalidInput
from rl.records import ScenarioRef

SPLITS = ("train", "validation", "held_out")
ENVIRONMENT = SciWorld()

needs_java = pytest.mark.skipif(
    shutil.which("java") is None or find_spec("scienceworld") is None,
    reason="needs Java and rlfleet[sciworld]",
)


@pytest.fixture(scope="module")
def shared() -> Iterator[Pool]:
    """One simulator for all tests."""
    pool = Pool(1)
    yield pool
    pool.end()


@pytest.fixture(autouse=True)
def _one_pool(shared: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(played, "pool", lambda: shared)


def _open(split: str, seed: int) -> Episode:
    return ENVIRONMENT.open(ScenarioRef.model_validate({"environment": "sciworld", "split": split, "seed": seed}))


def _of(task: str, split: str = "held_out") -> int:
    """The seed of the task's scenario that is solved soonest."""
    seeds = range(variations().size(split))
    dealt = [variations().deal(ScenarioRef.model_validate(_ref(split, seed))).content for seed in seeds]
    return min((len(variation.path), seed) for seed, variation in enumerate(dealt) if variation.task == task)[1]


def _ref(split: str, seed: int) -> dict[str, object]:
    return {"environment": "sciworld", "split": split, "seed": seed}


def _solve(episode: Episode) -> list[Step]:
    steps = [episode.step(episode.oracle())]
    while not steps[-1].done:
        steps.append(episode.step(episode.oracle()))
    return steps


def test_the_table() -> None:
    table = known()
    assert len({variation.digest for variation in table}) >= 700
    assert {variation.task for variation in table} == set(TASKS)
    assert len({(variation.task, variation.number) for variation in table}) == len(table)
    assert all(1 <= len(variation.path) <= LONGEST < ENVIRONMENT.max_turns for variation in table)


def test_every_variation_is_in_one_split() -> None:
    bank, found = variations(), {}
    for split in SPLITS:
        dealt = [bank.deal(ScenarioRef.model_validate(_ref(split, seed))) for seed in range(bank.size(split))]
        assert {split_of(scenario.digest) for scenario in dealt} == {split}
        assert len(Counter(scenario.content.task for scenario in dealt)) >= 20
        found[split] = {scenario.digest for scenario in dealt}
    assert (
        sum(map(len, found.values()))
        == len(set.union(*found.values()))
        == len({variation.digest for variation in known()})
    )
    assert ENVIRONMENT.scenarios("held_out") == len(found["held_out"]) >= 100
    with pytest.raises(InvalidInput, match="scenarios of this split"):
        _open("held_out", len(found["held_out"]))


def test_numbers_are_spread() -> None:
    assert spread(10, 4) == [0, 2, 5, 7]
    assert spread(3, 4) == [0, 1, 2]


def test_another_environments_scenario_is_refused() -> None:
    with pytest.raises(InvalidInput, match="chess/train/1"):
        ENVIRONMENT.open(ScenarioRef(environment="chess", split="train", seed=1))


@needs_java
def test_an_episode(capfd: pytest.CaptureFixture[str]) -> None:
    episode = _open("held_out", _of("find-non-living-thing"))
    assert episode.type == "find-non-living-thing"
    task, place, *_ = (episode.messages[-1].content or "").split("\n")
    assert task.startswith("Your task is to find a(n) non-living thing.")
    assert place.startswith("This room is called the ")
    assert "door" in (episode.step("Thought: hm\nAction: Look around\nlook at door").observation or "")
    steps = _solve(episode)
    assert steps[-1] == Step(None, 1.0, done=True, truncated=False)
    assert not any(step.reward for step in steps[:-1])
    with pytest.raises(InvalidInput, match="the episode is over"):
        episode.step("look around")
    for _ in range(2):
        episode.close()
    assert capfd.readouterr() == ("", "")


@needs_java
def test_a_wrong_focus_ends_the_episode_without_reward() -> None:
    episode = _open("held_out", _of("melt"))
    assert episode.step("focus on agent") == Step(None, 0.0, done=True, truncated=False)


@needs_java
def test_the_score_so_far_counts_at_the_turn_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SciWorld, "max_turns", 6)
    episode = _open("held_out", _of("use-thermometer"))
    rewards = [episode.step(episode.oracle()).reward for _ in range(5)]
    last = episode.step("x" * 100_000)
    assert rewards == [0.0] * 5
    assert (last.done, last.truncated, last.observation) == (True, True, None)
    assert 0.0 < last.reward < 1.0


@needs_java
def test_silence_does_not_reach_the_simulator() -> None:
    """So it earns nothing, where looking around for long earns what the simulator pays for being somewhere."""
    episode = _open("held_out", _of("use-thermometer"))
    steps = [episode.step(ENVIRONMENT.idle) for _ in range(ENVIRONMENT.max_turns)]
    assert {step.observation for step in steps[:-1]} == {FORM}
    assert steps[-1] == Step(None, 0.0, done=True, truncated=True)


@needs_java
def test_looking_around_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SciWorld, "max_turns", 5)
    for task in TASKS[::8]:
        episode = _open("train", _of(task, "train"))
        steps = [episode.step("look around") for _ in range(5)]
        assert sum(step.reward for step in steps) < 0.1
        assert steps[-1].truncated


@needs_java
@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("", FORM),
        ("Action:", FORM),
        ("<think>look around", FORM),
        ("é\u202e", FORM),
        ("\ud83d", FORM),
        ("a" * 201, FORM),
        ("dance", "No known action matches that input."),
        ('{"action": "look', "No known action matches that input."),
        ("\\n \\ \\\\", "No known action matches that input."),
        ("a\x00b", "No known action matches that input."),
        ("0", "No known action matches that input."),
    ],
)
def test_what_is_no_action_uses_up_a_turn(reply: str, answer: str) -> None:
    episode = _open("held_out", 0)
    assert episode.step(reply) == Step(answer, 0.0, done=False, truncated=False)


@needs_java
def test_any_text_is_an_action() -> None:
    chance = Random(0)
    words = [
        "look",
        "at",
        "open",
        "door",
        "focus",
        "agent",
        "0",
        "1",
        "\n",
        "\\",
        '"',
        "\x00",
        "é",
        "\ud83d",
        "{",
        "use",
        "on",
    ]
    episode = _open("train", 1)
    for _ in range(ENVIRONMENT.max_turns - 1):
        step = episode.step(" ".join(chance.choices(words, k=chance.randint(0, 8))))
        if step.done:
            break
        assert isinstance(step.observation, str)


@needs_java
def test_episodes_that_share_a_simulator_do_not_meet(shared: Pool) -> None:
    """Each one's answers are those of the game that is played alone."""
    seeds = [_of("lifespan-longest-lived"), _of("find-non-living-thing"), _of("lifespan-longest-lived")]
    alone = []
    for seed in seeds:
        alone.append(_solve(_open("held_out", seed)))
    episodes = [_open("held_out", seed) for seed in seeds]
    together: list[list[Step]] = [[] for _ in seeds]
    while any(not steps or not steps[-1].done for steps in together):
        for episode, steps in zip(episodes, together, strict=True):
            if not steps or not steps[-1].done:
                steps.append(episode.step(episode.oracle()))
    assert together == alone
    assert alone[0] == alone[2]


@needs_java
def test_chance_is_repeatable() -> None:
    one, other = _open("held_out", _of("find-plant")), _open("held_out", _of("find-plant"))
    chance, again = Random(5), Random(5)
    for _ in range(2):
        action = one.guess(chance)
        assert action == other.guess(again)
        step = one.step(action)
        assert step == other.step(action)
        if step.done:
            break


@needs_java
def test_a_variation_is_what_the_table_says(shared: Pool) -> None:
    """That another process, on another day, sees every word of the transcript."""
    with shared.simulator("test") as simulator:
        for task in TASKS[7::5]:
            variation = min((v for v in known() if v.task == task), key=lambda v: len(v.path))
            assert replay(simulator, task, variation.number, variation.path) == variation
            assert replay(simulator, task, variation.number, variation.path[:-1]) is None


@needs_java
@pytest.mark.slow
def test_the_table_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("environments.sciworld.gold.TASKS", ("lifespan-longest-lived",))
    assert main(["--each", "2", "--out", str(tmp_path / "table.json")]) == 0
    data = json.loads((tmp_path / "table.json").read_text())
    assert data["tasks"]["lifespan-longest-lived"]["examined"] == 2
    assert [number for number, *_ in data["tasks"]["lifespan-longest-lived"]["solved"]] == [0, 62]


def test_the_table_holds_what_is_written(tmp_path: Path) -> None:
    found = [Variation("boil", 3, "ab", ("look", "wait", "look")), Variation("melt", 0, "cd", ("wait",))]
    write(tmp_path / "table.json", {"boil": 2, "melt": 1}, found)
    assert json.loads((tmp_path / "table.json").read_text()) == {
        "actions": ["look", "wait"],
        "tasks": {
            "boil": {"examined": 2, "solved": [[3, "ab", [0, 1, 0]]]},
            "melt": {"examined": 1, "solved": [[0, "cd", [1]]]},
        },
    }


@needs_java
def test_a_simulator_that_dies_ends_its_step_and_is_replaced(shared: Pool) -> None:
    episode = _open("held_out", _of("find-plant"))
    first = episode.step(episode.oracle())
    assert not first.done
    with shared.simulator("test") as simulator:
        os.kill(simulator.process_id, signal.SIGKILL)
    with pytest.raises(ChildLost, match="simulator ended or did not answer"):
        episode.step("look around")
    assert _solve(episode)[-1].reward == 1.0


@needs_java
@pytest.mark.slow
def test_the_oracle_solves_everything() -> None:
    for seed in range(ENVIRONMENT.scenarios("held_out") or 0):
        steps = _solve(_open("held_out", seed))
        assert steps[-1].reward == 1.0
        assert len(steps) <= LONGEST
