from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import util
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import environments
from environments.check import check
from environments.contract import Step
from environments.dealing import digest_of, split_of
from environments.reasoning import environment, gym
from environments.reasoning.answers import say
from environments.reasoning.environment import FAMILY, REFUSED, Question
from environments.reasoning.gym import Drawn, Gym, Scored
from fleet import cli
from rl.errors import InvalidInput, NoScenario
from rl.records import Message, ScenarioRef

FIVE = ("leg_counting", "countdown", "maze", "mini_sudoku", "knights_knaves")
SPLITS = ("train", "validation", "held_out")
PARTS = 12


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_left_running() -> Iterator[None]:
    yield
    gym.gym().end()


def _open(dataset: str, split: str, seed: int) -> Question:
    name = f"{FAMILY}:{dataset}"
    ref = ScenarioRef.model_validate({"environment": name, "split": split, "seed": seed})
    episode = environments.load(name).open(ref)
    assert isinstance(episode, Question)
    return episode


def _hold(dataset: str, seeds: range, folder: Path) -> None:
    """What is promised of every data set."""
    for split in SPLITS:
        for seed in seeds:
            episode = _open(dataset, split, seed)
            assert episode.content_hash == digest_of(episode.messages[1].content)
            assert split_of(episode.content_hash) == split
            assert episode.type == dataset
            assert episode.step(episode.oracle()) == Step(None, 1.0, done=True, truncated=False)
    asked = episode._asked
    for reply in ("", "nonsense", "[[", '{"a": [1, {"b": null}]}', "1/0", "-1e999", "\ud800\0", "( " * 500):
        scored = gym.gym().score(dataset, asked.seed, reply)
        assert 0 <= scored.score < 1
    touched = folder / "touched"
    for attack in (f"__import__('os').system('touch {touched}')", f"[open('{touched}', 'w')]"):
        assert gym.gym().score(dataset, asked.seed, attack).score < 1
    assert not touched.exists()


@pytest.mark.parametrize("dataset", FIVE)
def test_a_data_set_is_an_environment(dataset: str, tmp_path: Path) -> None:
    _hold(dataset, range(4), tmp_path)
    first, second = (_open(dataset, "train", 7) for _ in range(2))
    assert (first.messages, first.oracle(), first.content_hash) == (
        second.messages,
        second.oracle(),
        second.content_hash,
    )
    assert [first.guess(Random(seed)) for seed in range(3)] == [second.guess(Random(seed)) for seed in range(3)]
    assert len({_open(dataset, split, seed).content_hash for split in SPLITS for seed in range(4)}) == 12


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_data_set_is_an_environment_or_refused(part: int, tmp_path: Path) -> None:
    names = gym.gym().datasets()
    assert len(names) == 106
    assert REFUSED.keys() < set(names)
    fresh = Gym()
    for dataset in names[part::PARTS]:
        drawn = [gym.gym().draw(dataset, seed) for seed in range(12)]
        assert drawn[:3] == [fresh.draw(dataset, seed) for seed in range(3)], dataset
        unusable = {one.unusable for one in drawn}
        if dataset == "puzzle24":
            scored = [gym.gym().score(dataset, one.seed, drawn[0].answer).score for one in drawn]
            assert scored == [1.0] * len(drawn)
        elif dataset in REFUSED:
            assert "" not in unusable, dataset
        else:
            assert "" in unusable, (dataset, unusable)
            _hold(dataset, range(2), tmp_path)
    fresh.end()


def test_a_question_and_its_answer() -> None:
    episode = _open("leg_counting", "held_out", 0)
    system, user = episode.messages
    assert system == Message(role="system", content=environment.ReasoningGym.system)
    assert (user.content or "").startswith("Your task is to count how many legs there are in total")
    assert episode.oracle() == "<answer>62</answer>"
    assert episode.step("I think <answer>61</answer>, or rather <answer>62</answer>") == Step(None, 1.0, True, False)
    with pytest.raises(InvalidInput, match="the episode is over"):
        episode.step("62")
    assert _open("leg_counting", "held_out", 0).step("<think>61</think>62").reward == 1.0
    assert _open("leg_counting", "held_out", 0).step("x" * 30_000) == Step(None, 0.0, done=True, truncated=True)


@pytest.mark.parametrize(("dataset", "why"), sorted(REFUSED.items()))
def test_what_cannot_be_played_is_refused_with_the_reason(dataset: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why.replace("+", r"\+")):
        environments.load(f"{FAMILY}:{dataset}")


@pytest.mark.parametrize(
    ("dataset", "unusable"),
    [
        ("graph_color", "it has no answer"),
        ("game_of_life_halting", "any text is right"),
        ("composite", "making it raises AssertionError: Must specify at least one dataset"),
        ("leg_counting", ""),
    ],
)
def test_an_entry_tells_why_it_is_no_scenario(dataset: str, unusable: str) -> None:
    assert gym.gym().draw(dataset, 5).unusable == unusable


def test_an_entry_that_cannot_be_used_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    class Half(Gym):
        def draw(self, dataset: str, seed: int) -> Drawn:
            return super().draw(dataset, seed)._replace(unusable="its seed is odd" if seed % 2 else "")

    class Nothing(Gym):
        def draw(self, dataset: str, seed: int) -> Drawn:
            return Drawn(seed, "?", "", "it has no answer")

    half, nothing = Half(), Nothing()
    monkeypatch.setattr(environment, "gym", lambda: half)
    assert {_open("gcd", "train", seed)._asked.seed % 2 for seed in range(10)} == {0}
    half.end()
    monkeypatch.setattr(environment, "gym", lambda: nothing)
    with pytest.raises(NoScenario, match=r"gcd/train/0'.*256 entries did not do \(of the last one, it has no answer\)"):
        _open("gcd", "train", 0)


def test_an_unknown_data_set_is_refused_with_those_that_are_near() -> None:
    with pytest.raises(InvalidInput, match=r"reasoning-gym:leg_countin.*leg_counting"):
        environments.load(f"{FAMILY}:leg_countin")
    with pytest.raises(InvalidInput, match="one of the 98"):
        environments.load(f"{FAMILY}:")
    with pytest.raises(InvalidInput, match="open it with"):
        environments.load(f"{FAMILY}:gcd").open(ScenarioRef(environment="sat", split="train", seed=0))


@given(reply=st.text())
def test_any_text_is_a_step(reply: str) -> None:
    assert _open("prime_factorization", "train", 1).step(reply).done


def test_scoring_that_raises_is_worth_nothing_and_told() -> None:
    asked = _open("prime_factorization", "train", 1)._asked
    said = "The answer cannot be scored: ValueError."
    assert gym.gym().score("prime_factorization", asked.seed, "many") == Scored(0.0, said)
    assert _open("prime_factorization", "train", 1).step(say("many")) == Step(None, 0.0, done=True, truncated=False)


def test_handing_an_integral_back_is_no_integration() -> None:
    assert gym.gym().draw("intermediate_integration", 5).unusable == "its own answer scores 0"
    back = "3*Integral(x**3*cos(3*x), x) + C"  # what reasoning-gym itself has for an answer, and scores 1
    assert gym.gym().score("intermediate_integration", 5, back).score == 0
    right = "-125*x**5 + 625*x**4 - 1250*x**3 + 1250*x**2 - 625*x"
    assert gym.gym().score("intermediate_integration", 14, right).score == 1


def test_scoring_that_does_not_end_is_worth_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym, "SCORE_SECONDS", 0.3)
    lone = Gym()
    wide = "+".join(f"{letter}**99*sin(x**{power})" for power, letter in enumerate("abcdefghijklmnopqrstuvwyz" * 3, 2))
    asked = next(d for seed in range(9) if not (d := lone.draw("intermediate_integration", seed)).unusable)
    scored = lone.score("intermediate_integration", asked.seed, wide)
    assert scored == Scored(0.0, "The answer cannot be scored within 0 s.")
    monkeypatch.undo()
    assert lone.score("intermediate_integration", asked.seed, asked.answer) == Scored(1.0, "")
    lone.end()


def test_many_threads_are_answered_one_at_a_time() -> None:
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda seed: _open("gcd", "train", seed).oracle(), range(24)))
    assert told == [_open("gcd", "train", seed).oracle() for seed in range(24)]


def test_no_global_source_of_chance_is_touched() -> None:
    random.seed(5)
    np.random.seed(5)
    before, numpy_before = random.getstate(), np.random.get_state()[1].tolist()
    for dataset in ("pool_matrix", "list_functions", "bf"):
        _open(dataset, "train", 0).guess(Random(1))
    assert random.getstate() == before
    assert np.random.get_state()[1].tolist() == numpy_before


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_questions_are_the_same_in_every_process(hash_seed: str) -> None:
    code = (
        "import environments; from rl.records import ScenarioRef\n"
        "for name in ('ransom_note', 'word_ladder', 'isomorphic_strings', 'list_functions'):\n"
        "    name = 'reasoning-gym:' + name\n"
        "    print(environments.load(name).open(ScenarioRef(environment=name, split='train', seed=3)).content_hash)"
    )
    told = [sys.executable, "-c", code]
    ran = subprocess.run(
        told, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed}
    )
    names = ("ransom_note", "word_ladder", "isomorphic_strings", "list_functions")
    assert ran.stdout.split() == [_open(name, "train", 3).content_hash for name in names]
    assert ran.stderr == ""


def test_the_package_is_not_imported_here_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert util.find_spec("reasoning_gym") is not None
    episode = _open("bf", "train", 0)  # its makers print
    episode.step(episode.oracle())
    assert capfd.readouterr() == ("", "")
    assert "reasoning_gym" not in sys.modules


def test_the_check_passes() -> None:
    found = check(f"{FAMILY}:leg_counting", 10)
    assert (found.oracle_success, found.idle.solved, found.passed) == (1.0, 0, True)


def test_the_page_names_what_is_refused() -> None:
    page = (Path(__file__).parents[2] / "docs" / "environments" / "reasoning-gym.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == [f"| `{name}` | {why} |" for name, why in sorted(REFUSED.items())]
    assert "Of 106 data sets 98 are played. Eight are refused" in page
    assert (len(gym.gym().datasets()), len(environment.datasets())) == (106, 98)


def test_the_command_lists_the_family() -> None:
    ran = CliRunner().invoke(cli.app, ["environments", "--json"])
    row = json.loads(ran.stdout)["environments"][-1]
    assert (row["name"], row["profile"]) == ("reasoning-gym:DATASET", "reasoning-gym-0.1.25, 98 data sets")
