from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.contract import Step
from environments.dealing import digest_of, split_of
from environments.sat import OR, Formula, Sat, SatCompatible, SatEpisode, SatSmall, balanced, draw, one_sure, values_of
from rl.errors import InvalidInput
from rl.records import Message, ScenarioRef

ENVIRONMENTS = [Sat(), SatCompatible(), SatSmall()]
HARD, COMPATIBLE, SMALL = ENVIRONMENTS
SPLITS = ("train", "validation", "held_out")

each = pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda environment: environment.name)


def _open(environment: Sat, split: str, seed: int) -> SatEpisode:
    ref = ScenarioRef.model_validate({"environment": environment.name, "split": split, "seed": seed})
    episode = environment.open(ref)
    assert isinstance(episode, SatEpisode)
    return episode


def _formula(episode: SatEpisode) -> Formula:
    return episode._formula


def _clauses(text: str) -> list[tuple[int, ...]]:
    """The clauses as somebody reads them who has only the prompt."""
    signed = [clause.replace("¬x", "-").replace("x", "").strip("()") for clause in text.split(" ∧ ")]
    return [tuple(int(literal) for literal in clause.split(OR)) for clause in signed]


def _dpll(clauses: list[tuple[int, ...]]) -> set[int] | None:
    """The literals of an assignment that satisfies the clauses; None where there is none."""
    if not clauses:
        return set()
    literal = min(clauses, key=len)
    if not literal:
        return None
    for choice in (literal[0], -literal[0]):
        left = [tuple(x for x in clause if x != -choice) for clause in clauses if choice not in clause]
        found = _dpll(left)
        if found is not None:
            return found | {choice}
    return None


def test_the_small_prompt_and_reply() -> None:
    episode = _open(SMALL, "held_out", 0)
    assert episode.messages == [
        Message(role="system", content="Make every clause true. Reply like x1=1, x2=0, x3=1."),
        Message(role="user", content="x3 or not x2; x2 or x1; x3 or x1; x2 or x3; not x3 or x2"),
    ]
    assert episode.type == "n3"
    assert episode.oracle() == "x1=0, x2=1, x3=1"
    assert episode.step("x1=0, x2=1, x3=1") == Step(None, 1.0, done=True, truncated=False)
    with pytest.raises(InvalidInput, match="the episode is over"):
        episode.step("x1=0")


def test_the_prompt_has_the_three_lines_of_the_interface() -> None:
    first, formula, last = (_open(COMPATIBLE, "train", 0).messages[1].content or "").split("\n")
    assert first == "Find a satisfying assignment for the following 10-SAT formula over variables x1..x15:"
    assert last == (
        "Provide your answer as comma-separated assignments like `x1=True, x2=False, ...`, "
        "or respond `UNSAT` if it has no solution."
    )
    clauses = _clauses(formula)
    assert len(clauses) == 63
    assert {len({abs(literal) for literal in clause}) for clause in clauses} == {10}


@pytest.mark.parametrize(("seed", "variables", "count"), [(0, 20, 85), (1, 50, 213), (2, 100, 426), (3, 20, 85)])
def test_sizes_come_in_turn(seed: int, variables: int, count: int) -> None:
    episode = _open(HARD, "train", seed)
    formula = _formula(episode)
    assert episode.type == f"n{variables}"
    assert (len(formula.planted), len(formula.clauses), len(set(formula.clauses))) == (variables, count, count)
    assert {len({abs(literal) for literal in clause}) for clause in formula.clauses} == {3}
    assert (episode.messages[1].content or "").startswith(
        f"Find a satisfying assignment for the following 3-SAT formula over variables x1..x{variables}:\n"
    )


@pytest.mark.parametrize(
    ("reply", "values"),
    [
        ("x1=True, x2=False", {1: True, 2: False}),
        ("x1=1,x2=0", {1: True, 2: False}),
        ("Try x1=True. No: x1=False", {1: False}),
        ("x01=1", {1: True}),
        ("UNSAT", {}),
        ("x1 = True", {}),
        ("x1=true", {}),
        (f"x{'9' * 5000}=1", {}),
    ],
)
def test_values_are_read_where_they_stand(reply: str, values: dict[int, bool]) -> None:
    assert values_of(reply) == values


def test_a_formula_is_satisfied_by_hand() -> None:
    formula = Formula(((1, -2), (2, 3), (-1, -3)), (True, True, False))
    assert formula.satisfied({1: True, 2: True, 3: False})
    assert formula.satisfied({1: False, 2: False, 3: True})
    assert not formula.satisfied({1: True, 2: True, 3: True})
    assert not formula.satisfied({1: True, 2: True})  # x3 has no value, so not x3 is not true
    assert not formula.satisfied({})


@pytest.mark.parametrize("reply", ["UNSAT", "", "x1=True", "x1=True, " * 2000, "x" * 100_000, '{"x1": true}'])
def test_a_wrong_reply_ends_the_episode(reply: str) -> None:
    step = _open(HARD, "held_out", 0).step(reply)
    assert (step.observation, step.reward, step.done) == (None, 0.0, True)


@given(reply=st.text())
def test_any_text_is_a_step(reply: str) -> None:
    assert _open(SMALL, "train", 1).step(reply).done


def test_brute_force_agrees_with_the_reward() -> None:
    for seed in range(60):
        right = 0
        for values in product((False, True), repeat=3 + seed % 3):
            episode = _open(SMALL, "held_out", seed)
            reward = episode.step(SMALL.say(values)).reward
            read = _clauses(
                (episode.messages[1].content or "").replace("not ", "¬").replace("; ", " ∧ ").replace(" or ", OR)
            )
            assert reward == all(any(values[abs(x) - 1] is (x > 0) for x in clause) for clause in read)
            right += reward == 1.0
        assert 1 <= right < 2 ** (3 + seed % 3)


def test_another_solution_than_the_planted_one_counts() -> None:
    others = 0
    for seed in range(0, 60, 3):
        episode = _open(HARD, "held_out", seed)
        found = _dpll(_clauses((episode.messages[1].content or "").split("\n")[1]))
        assert found is not None
        values = [name in found for name in range(1, 21)]
        others += HARD.say(values) != episode.oracle()
        assert episode.step(HARD.say(values)).reward == 1.0
    assert others > 0


@each
@pytest.mark.parametrize("split", SPLITS)
def test_the_oracle_solves_every_scenario(environment: Sat, split: str) -> None:
    for seed in range(30):  # ten of each size
        episode = _open(environment, split, seed)
        assert episode.step(episode.oracle()) == Step(None, 1.0, done=True, truncated=False)


@pytest.mark.parametrize(("environment", "least", "most"), [(HARD, 0, 0), (COMPATIBLE, 130, 148), (SMALL, 10, 45)])
def test_what_a_guess_solves_of_150(environment: Sat, least: int, most: int) -> None:
    chance = Random(0)
    episodes = [_open(environment, "held_out", seed) for seed in range(150)]
    assert least <= sum(episode.step(episode.guess(chance)).reward for episode in episodes) <= most


@pytest.mark.parametrize(("plant", "share"), [(one_sure, 2 / 3), (balanced, 1 / 2)])
def test_how_often_literals_agree_with_the_planted_values(
    plant: Callable[[Random, int], list[bool]], share: float
) -> None:
    formula = draw(Random(1), 200, 3, 20_000, plant)
    agree = [formula.planted[abs(x) - 1] is (x > 0) for clause in formula.clauses for x in clause]
    assert sum(agree) / len(agree) == pytest.approx(share, abs=0.01)  # three standard deviations are 0.006


@pytest.mark.parametrize(("plant", "most"), [(one_sure, 1.0), (balanced, 0.7)])
def test_counting_signs_finds_the_values_of_one_kind_of_formula_only(
    plant: Callable[[Random, int], list[bool]], most: float
) -> None:
    right = total = 0
    for seed in range(40):
        formula = draw(Random(seed), 50, 3, 213, plant)
        signs = [
            sum((x > 0) - (x < 0) for clause in formula.clauses for x in clause if abs(x) == name)
            for name in range(1, 51)
        ]
        right += sum((sign > 0) is value for sign, value in zip(signs, formula.planted, strict=True) if sign)
        total += sum(sign != 0 for sign in signs)
    assert (most - 0.2 if plant is one_sure else 0.3) < right / total < most


@each
def test_splits_are_disjoint_by_content(environment: Sat) -> None:
    seeds = range(300) if environment is SMALL else range(30)
    hashes = {split: {_open(environment, split, seed).content_hash for seed in seeds} for split in SPLITS}
    assert not hashes["train"] & hashes["validation"]
    assert not (hashes["train"] | hashes["validation"]) & hashes["held_out"]
    for split in SPLITS:
        assert {split_of(digest) for digest in hashes[split]} == {split}
        assert environment is SMALL or len(hashes[split]) == len(seeds)


@pytest.mark.slow
@pytest.mark.parametrize("environment", [HARD, COMPATIBLE], ids=lambda environment: environment.name)
def test_300_of_each_split_are_disjoint_by_content(environment: Sat) -> None:
    hashes = [{_open(environment, split, seed).content_hash for seed in range(300)} for split in SPLITS]
    assert len(set.union(*hashes)) == 900


def test_the_hash_is_of_the_formula_and_not_of_its_order() -> None:
    one = Formula(((1, -2), (2, 3)), (True, True, False))
    assert digest_of(one.key()) == digest_of(Formula(((3, 2), (-2, 1)), (True, False, True)).key())
    assert digest_of(one.key()) != digest_of(Formula(((1, 2), (2, 3)), (True, True, False)).key())
    assert digest_of(one.key()) != digest_of(Formula(((1, -2), (2, 3)), (True, True, False, True)).key())


@each
def test_a_scenario_is_the_same_each_time(environment: Sat) -> None:
    first, second = (_open(environment, "train", 7) for _ in range(2))
    assert first.messages == second.messages
    assert first.content_hash == second.content_hash
    assert [first.guess(Random(seed)) for seed in range(5)] == [second.guess(Random(seed)) for seed in range(5)]


def test_another_environments_scenario_is_refused() -> None:
    with pytest.raises(InvalidInput, match="sat/train/1"):
        SMALL.open(ScenarioRef(environment="sat", split="train", seed=1))


def _majority(text: str) -> str:
    """Gives each variable of the small prompt the sign that it has more often, and true where both are as often."""
    counts: Counter[int] = Counter()
    for literal in text.replace("not x", "-").replace("x", "").replace(" or ", "; ").split("; "):
        counts[abs(int(literal))] += 1 if int(literal) > 0 else -1
    return ", ".join(f"x{name}={int(count >= 0)}" for name, count in counts.items())


def test_the_more_frequent_sign_solves_most_small_formulas() -> None:
    """Half of the literals that are not sure to agree do, so that three of four agree with what was planted."""
    solved = 0
    for seed in range(400):
        episode = _open(SMALL, "held_out", seed)
        solved += episode.step(_majority(str(episode.messages[-1].content))).reward == 1.0
    assert solved == 326
