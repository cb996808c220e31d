from __future__ import annotations

import numpy as np
import pytest

from rl.errors import InvalidInput
from rl.gate import Gate
from rl.policies import judge
from rl.promotion import decide, no_improvement, worse_types
from rl.selection import probability_better
from rl.verdicts import Scores, Verdicts

GATE = Gate(min_scenarios=20)


def _scores(k: int, n: int = 20) -> Scores:
    return {"gridworld": {f"s{i:02}": float(i < k) for i in range(n)}}


def test_the_first_version_of_a_line_is_released_without_a_comparison() -> None:
    found = decide(Verdicts(candidate=_scores(0), stable={}), GATE, is_first=True)
    assert (found.released, found.probability, found.policy) == (True, None, "paired-margin")
    assert found.reason == "the first version of its line: nothing to compare with"
    assert found.would_change == "a stable version to compare with"
    assert [(one.candidate.k, one.candidate.n, one.stable.n) for one in found.environments] == [(0, 20, 0)]
    assert (found.cells, found.difference) == (None, None)


def test_any_other_is_judged_by_the_gates_policy() -> None:
    for policy in ("paired-margin", "champion-2026-07"):
        verdicts, gate = Verdicts(candidate=_scores(15), stable=_scores(5)), Gate(policy=policy, min_scenarios=20)
        assert decide(verdicts, gate) == judge(verdicts, gate)
        assert decide(verdicts, gate).released


def test_a_version_without_a_rival_that_is_not_the_first_is_not_released_by_mistake() -> None:
    with pytest.raises(InvalidInput, match="judge both versions on the same environments first"):
        decide(Verdicts(candidate=_scores(15), stable={}), GATE)


def test_nothing_is_released_of_a_run_that_chose_what_it_began_with() -> None:
    found = no_improvement("main-v1.0.0", Verdicts(candidate=_scores(5), stable=_scores(5)), GATE)
    assert (found.released, found.probability) == (False, None)
    assert found.reason == "no improvement: main-v1.0.0 itself did best on the validation scenarios"


def test_counts_over_all_types_keep_scenarios_of_the_same_name_apart() -> None:
    candidate = {"a": {"s": 1.0, "t": 0.0}, "b": {"s": 0.5}}
    of_candidate, of_stable = Verdicts(candidate=candidate, stable={}).overall()
    assert (of_candidate.k, of_candidate.n, of_candidate.mean) == (1.5, 3, 0.5)
    assert (of_stable.n, of_stable.interval) == (0, (0.0, 0.0))


def _types(**counts: tuple[int, int]) -> Scores:
    return {name: {f"s{i:03}": float(i < k) for i in range(n)} for name, (k, n) in counts.items()}


BETTER = Verdicts(
    candidate=_types(retrieval=(200, 200), update=(30, 100)), stable=_types(retrieval=(100, 200), update=(90, 100))
)


def test_a_type_that_is_credibly_worse_vetoes_what_the_total_would_release() -> None:
    found, by_total = decide(BETTER, GATE), judge(BETTER, GATE)
    assert not found.released
    (worse,) = found.worse
    assert (worse.type, worse.candidate, worse.stable) == ("update", (30, 100), (90, 100))
    assert worse.p == pytest.approx(probability_better(90, 100, 30, 100), abs=1e-6)
    assert (found.cells, found.probability, found.environments) == (
        by_total.cells,
        by_total.probability,
        by_total.environments,
    )
    assert by_total.released
    assert found.reason.startswith("vetoed by type: update 30/100 against 90/100 (P(worse) = 1.0000); but for that")
    assert found.would_change == "verdicts that do not make update credibly worse"


@pytest.mark.parametrize("policy", ["affine-2025-10", "affine-2025-12", "champion-2026-07"])
def test_a_published_rule_is_that_rule_and_nothing_else(policy: str) -> None:
    gate = Gate.model_validate({"policy": policy, "min_scenarios": 20})
    assert decide(BETTER, gate) == judge(BETTER, gate)


def test_a_little_less_than_the_champion_in_one_type_is_what_its_rule_lets_pass() -> None:
    """By 0.98 times the champion's mean: 981 of 1,000 against 1,000, which nobody would call equal."""
    candidate, stable = _types(a=(900, 1000), b=(981, 1000)), _types(a=(800, 1000), b=(1000, 1000))
    assert probability_better(1000, 1000, 981, 1000) > 0.999
    verdicts = Verdicts(candidate=candidate, stable=stable)
    assert decide(verdicts, Gate(policy="champion-2026-07")).released
    assert not decide(verdicts, Gate()).released


@pytest.mark.parametrize(("types", "vetoed"), [(2, ["a"]), (3, []), (12, [])])
def test_the_more_types_there_are_the_surer_each_veto_has_to_be(types: int, vetoed: list[str]) -> None:
    """45 of 100 against 55 is worse with P = 0.9204: above 1 - 0.2 / 2 = 0.9, and below 1 - 0.2 / 3 = 0.9333."""
    same = {chr(ord("b") + place): (50, 100) for place in range(types - 1)}
    assert 1 - 0.2 / 2 < probability_better(55, 100, 45, 100) < 1 - 0.2 / 3
    verdicts = Verdicts(candidate=_types(a=(45, 100), **same), stable=_types(a=(55, 100), **same))
    assert [one.type for one in worse_types(verdicts)] == vetoed


@pytest.mark.parametrize("types", [2, 6, 24])
def test_a_version_that_is_as_good_everywhere_is_vetoed_in_a_fifth_of_all_decisions_at_most(types: int) -> None:
    """Within three standard deviations of 400 trials."""
    generator, vetoed = np.random.default_rng(0), 0
    for _ in range(400):
        drawn = [{f"t{kind}": _drawn(generator, 300 // types) for kind in range(types)} for _ in range(2)]
        vetoed += bool(worse_types(Verdicts(candidate=drawn[0], stable=drawn[1])))
    assert vetoed <= 400 * 0.2 + 3 * (400 * 0.2 * 0.8) ** 0.5


def _drawn(generator: np.random.Generator, n: int) -> dict[str, float]:
    return {f"s{place}": float(one < 0.6) for place, one in enumerate(generator.random(n))}


def test_a_type_that_is_a_little_worse_vetoes_nothing() -> None:
    candidate, stable = _types(a=(180, 200), b=(49, 100)), _types(a=(100, 200), b=(50, 100))
    assert probability_better(50, 100, 49, 100) < 0.8
    found = decide(Verdicts(candidate=candidate, stable=stable), GATE)
    assert (found.released, found.worse) == (True, ())


def test_one_type_alone_is_the_policys() -> None:
    gate = Gate(min_scenarios=20, margin=-0.3)
    verdicts = Verdicts(candidate=_types(a=(90, 200)), stable=_types(a=(100, 200)))
    assert probability_better(100, 200, 90, 200) > 0.8
    assert decide(verdicts, gate) == judge(verdicts, gate)
    assert decide(verdicts, gate).released


def test_only_scenarios_that_both_were_judged_on_veto_and_samples_count_in_parts() -> None:
    halves = {"a": {"x": 0.5, "y": 0.75, "v": 0.5, "z": 1.0}, "b": {"x": 1.0}, "c": {"x": 0.0}}
    other = {"a": {"x": 1.0, "y": 1.0, "v": 1.0, "w": 0.0}, "b": {"x": 0.0}}
    (worse,) = worse_types(Verdicts(candidate=halves, stable=other))
    assert (worse.type, worse.candidate, worse.stable) == ("a", (1, 3), (3, 3))
    assert worse.p == pytest.approx(probability_better(3, 3, 1, 3), abs=1e-6)
