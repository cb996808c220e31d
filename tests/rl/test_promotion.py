from __future__ import annotations

import pytest

from rl.errors import InvalidInput
from rl.policies import Gate, judge
from rl.promotion import decide, no_improvement
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
