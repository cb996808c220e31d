from __future__ import annotations

import json
import subprocess
import sys
from random import Random

import pytest

import environments
from environments import check as checking
from environments.check import Baseline, Checked, check, main, peak_mb
from environments.contract import Environment
from environments.episode import TextEnvironment, TextEpisode, Took, check_owner
from rl.errors import InvalidInput, SandboxUnavailable
from rl.records import ScenarioRef


class Toss(TextEnvironment):
    """Heads or tails in at most four turns: the expert knows, and a guess is right at once for even seeds."""

    name, profile, system = "toss", "fair", "Say heads or tails."
    max_turns, max_tokens, success = 4, 4, 0.5
    held: int | None = None
    broken = False

    def scenarios(self, split: str) -> int | None:
        return self.held

    def open(self, ref: ScenarioRef) -> TossEpisode:
        check_owner(self, ref)
        return TossEpisode(self, ref, f"{ref.seed:064x}", "Heads or tails?", "coin")


class TossEpisode(TextEpisode):
    def __init__(self, environment: Environment, ref: ScenarioRef, digest: str, opening: str, kind: str) -> None:
        super().__init__(environment, ref, digest, opening, kind)
        self.even = ref.seed % 2 == 0
        self.toss = environment

    def _act(self, reply: str) -> Took:
        return Took("No.", 0.75 if reply == "right" else 0.25, over=True) if reply else Took("Say it.")

    def oracle(self) -> str:
        return "wrong" if getattr(self.toss, "broken", False) else "right"

    def guess(self, chance: Random) -> str:
        assert chance.random() < 1
        return "right" if self.even else "wrong"


@pytest.fixture
def toss(monkeypatch: pytest.MonkeyPatch) -> Toss:
    """The one environment that there is."""
    made = Toss()
    monkeypatch.setattr(environments, "load", lambda name: made)
    monkeypatch.setattr(environments, "TEN", ("toss",))
    return made


def test_what_three_agents_do_is_counted(toss: Toss) -> None:
    found = check("toss", 10)
    assert (found.oracle_success, found.oracle_n, found.random_success) == (1.0, 10, 0.5)
    assert (found.success_threshold, found.scenarios, found.sandbox_level) == (0.5, None, None)
    assert (found.excluded, found.note) == (False, "")
    agents = [
        (one.solved, one.episodes, one.mean_reward, one.turns) for one in (found.oracle, found.random, found.idle)
    ]
    assert agents == [(10, 10, 0.75, 1.0), (5, 10, 0.5, 1.0), (0, 10, 0.0, 4.0)]


def test_intervals_are_of_a_beta_posterior(toss: Toss) -> None:
    """0.1 and 0.9 quantiles: of Beta(1, 11) they are 1 - 0.9 ** (1 / 11) and 1 - 0.1 ** (1 / 11)."""
    found = check("toss", 10)
    assert found.idle.interval == (0.0095, 0.1889)
    assert found.oracle.interval == (0.8111, 0.9905)


def test_a_rate_of_one_half_by_chance_does_not_pass(toss: Toss) -> None:
    assert not check("toss", 10).passed
    assert check("toss", 9).random_success == 0.5556
    toss.success = 0.76
    assert check("toss", 10).oracle_success == 0.0


def test_who_is_apart_may_be_easy_and_nobody_may_be_unsolved(toss: Toss, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "APART", {"toss": "a coin"})
    found = check("toss", 10)
    assert (found.passed, found.excluded, found.note) == (True, True, "a coin")
    toss.broken = True
    assert not check("toss", 10).passed


def test_an_environment_that_pays_for_silence_does_not_pass(toss: Toss, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TossEpisode, "guess", lambda self, chance: "wrong")
    assert check("toss", 10).passed
    toss.idle = "right"
    assert not check("toss", 10).passed


def test_no_more_scenarios_are_played_than_there_are(toss: Toss) -> None:
    toss.held = 3
    found = check("toss", 50)
    assert (found.oracle_n, found.scenarios, found.random.episodes) == (3, 3, 3)


def test_fewer_are_played_by_chance_where_that_is_slow(toss: Toss, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "FEWER", {"toss": 4})
    found = check("toss", 10)
    assert (found.oracle_n, found.random.episodes, found.idle.episodes) == (10, 4, 10)
    assert found.note == "chance on 4 scenarios"


def test_one_that_is_not_of_the_ten_says_so(toss: Toss, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "TEN", ())
    found = check("toss", 10)
    assert (found.excluded, found.note) == (True, "not one of the ten")


def test_an_episode_is_closed_also_where_it_raises(toss: Toss, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[object] = []
    monkeypatch.setattr(TossEpisode, "close", lambda self: closed.append(self))  # noqa: PLW0108 - a method

    def fails(self: TossEpisode, reply: str) -> Took:
        raise SandboxUnavailable

    monkeypatch.setattr(TossEpisode, "_act", fails)
    with pytest.raises(SandboxUnavailable):
        check("toss", 1)
    assert len(closed) == 1


@pytest.mark.parametrize("name", ["sat-small", "trading-small", "memory-small", "alfworld-small"])
def test_counts_are_the_same_each_time(name: str) -> None:
    """Times are not."""

    def counted(found: Checked) -> list[tuple[int, float, float]]:
        return [(one.solved, one.mean_reward, one.turns) for one in (found.oracle, found.random, found.idle)]

    first = check(name, 10)
    assert counted(first) == counted(check(name, 10))
    assert first.oracle.solved == 10
    assert first.oracle.success == first.oracle_success


def test_rounded_success() -> None:
    made = Baseline(solved=1, episodes=3, interval=(0, 1), mean_reward=0, turns=1, cpu_ms=1)
    assert made.success == 0.3333


def _held(program: str) -> float:
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(ran.stdout)


MEASURE = "import resource, subprocess, sys; from environments.check import peak_mb; {}; print(peak_mb())"
GROW = "x = bytearray(200 * 1024**2); input()"


def test_memory_is_that_of_all_processes() -> None:
    lean = _held(MEASURE.format("pass"))
    assert 5 < lean < 150
    ended = f"subprocess.run([sys.executable, '-c', {GROW!r}], input=b'-')"
    assert _held(MEASURE.format(ended)) > lean + 150
    grown = GROW.replace("; ", "; print('grown', flush=True); ")
    waiting = f"p = subprocess.Popen([sys.executable, '-c', {grown!r}], stdin=-1, stdout=-1); p.stdout.readline()"
    assert _held(MEASURE.format(waiting)) > lean + 150


def test_the_memory_of_this_process_is_counted() -> None:
    assert peak_mb() > 10


def test_the_module_prints_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    main(["sat-small", "--count", "5"])
    said = capsys.readouterr()
    found = Checked.model_validate(json.loads(said.out))
    assert (found.name, found.oracle_n, found.oracle.turns, said.err) == ("sat-small", 5, 1.0, "")


def test_an_error_of_ours_is_one_line_and_status_one() -> None:
    with pytest.raises(SystemExit, match=r"environment = 'chess'.*known environments are"):
        main(["chess"])


def test_a_scenario_of_another_environment_is_refused(toss: Toss) -> None:
    with pytest.raises(InvalidInput, match="chess/train/1"):
        toss.open(ScenarioRef(environment="chess", split="train", seed=1))


def test_playing_ends_at_the_turn_limit(toss: Toss) -> None:
    played = checking.play(toss, ScenarioRef(environment="toss", split="held_out", seed=1), lambda _: "")
    assert (played.turns, played.success, played.reward) == (4, False, 0.0)
