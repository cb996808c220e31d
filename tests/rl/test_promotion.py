from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.config import Release
from rl.errors import InvalidInput
from rl.promotion import decide, successes_needed

POLICY = Release(min_probability=0.95, min_scenarios=200)


def test_a_credibly_better_version_is_released() -> None:
    decision = decide((170, 200), (150, 200), POLICY)
    assert decision.released
    assert decision.policy == "probability-better"
    assert decision.probability == pytest.approx(0.9937, abs=5e-5)
    assert decision.reason == "170/200 (85.0%) against 150/200 (75.0%): P(better) = 0.9937, at least 0.95"
    assert decision.would_change == "163 successes of 200 or fewer"


def test_a_version_that_may_be_better_is_not() -> None:
    decision = decide((160, 200), (150, 200), POLICY)
    assert not decision.released
    assert decision.reason == "160/200 (80.0%) against 150/200 (75.0%): P(better) = 0.8834, below 0.95"
    assert decision.would_change == "164 successes of 200 or more"


def test_the_first_version_of_a_line_has_nothing_to_beat() -> None:
    decision = decide((3, 20), None, POLICY)
    assert (decision.released, decision.probability, decision.reason) == (True, None, "the first version of its line")


@pytest.mark.parametrize(
    ("candidate", "stable", "name"), [((199, 199), (10, 200), "candidate"), ((200, 200), (10, 199), "stable")]
)
def test_too_few_scenarios_are_no_evidence(candidate: tuple[int, int], stable: tuple[int, int], name: str) -> None:
    decision = decide(candidate, stable, POLICY)
    assert (decision.released, decision.probability) == (False, None)
    assert decision.reason == f"the {name} version was judged on 199 scenarios, fewer than 200"
    assert decision.would_change == f"1 more verdicts on the {name} version"


def test_a_perfect_stable_version_cannot_be_beaten_on_as_many() -> None:
    decision = decide((200, 200), (200, 200), POLICY)
    assert not decision.released
    assert decision.would_change == "more scenarios: not even 200 of 200 would be enough"


@given(st.integers(0, 40), st.integers(0, 30), st.floats(0.51, 0.99))
def test_the_success_that_decides(k: int, stable: int, min_probability: float) -> None:
    policy = Release(min_probability=min_probability, min_scenarios=30)
    needed = successes_needed(40, (stable, 30), min_probability)
    assert decide((k, 40), (stable, 30), policy).released == (needed is not None and k >= needed)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(InvalidInput):
        decide((201, 200), None, POLICY)
    with pytest.raises(InvalidInput):
        decide((1, 200), (201, 200), POLICY)
