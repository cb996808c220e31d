from __future__ import annotations

from typing import get_args

import pytest
from scipy.stats import beta

from rl.dominance import threshold
from rl.errors import InvalidInput
from rl.gate import Gate, PolicyName
from rl.policies import POLICIES, judge
from rl.verdicts import PolicyDecision, Scores, Verdicts, interval_80


def _scores(counts: dict[str, tuple[int, int]]) -> Scores:
    return {name: {f"s{i:03}": float(i < k) for i in range(n)} for name, (k, n) in counts.items()}


def _judged(
    policy: PolicyName, candidate: dict[str, tuple[int, int]], stable: dict[str, tuple[int, int]]
) -> PolicyDecision:
    return judge(Verdicts(candidate=_scores(candidate), stable=_scores(stable)), Gate(policy=policy))


def _words(decision: PolicyDecision) -> dict[str, str]:
    return {one.environment: one.verdict for one in decision.environments}


def test_every_name_has_a_policy() -> None:
    assert tuple(POLICIES) == get_args(PolicyName)
    for name in get_args(PolicyName):
        assert _judged(name, {"a": (190, 200)}, {"a": (150, 200)}).policy == name


def test_the_default_is_paired_with_a_margin() -> None:
    assert (Gate().policy, Gate().margin, Gate().min_scenarios) == ("paired-margin", 0.01, 200)


def test_versions_need_an_environment_in_common() -> None:
    with pytest.raises(InvalidInput, match="judge both versions on the same environments first"):
        _judged("champion-2026-07", {"a": (1, 1)}, {"b": (1, 1)})


@pytest.mark.parametrize(("k", "n"), [(0, 200), (150, 200), (200, 200), (7, 9)])
def test_intervals_are_those_of_jeffreys(k: int, n: int) -> None:
    expected = beta.ppf([0.1, 0.9], 0.5 + k, 0.5 + n - k)
    assert interval_80(k, n) == pytest.approx(tuple(expected), abs=1e-9)


def test_sums_outside_the_possible_are_clamped() -> None:
    assert interval_80(-3.0, 10) == interval_80(0, 10)
    assert interval_80(11.5, 10) == interval_80(10, 10)
    assert interval_80(0, 0) == (0.0, 0.0)


def test_october_wants_intervals_that_do_not_overlap() -> None:
    """150/200: [.7091, .7874]; 160/200: [.7617, .8340] overlaps it, 164/200 from .7830 too, 165/200 from .7883 not."""
    stable = {"a": (150, 200)}
    assert interval_80(150, 200) == pytest.approx((0.7091, 0.7874), abs=5e-5)
    overlapping = _judged("affine-2025-10", {"a": (160, 200)}, stable)
    assert (overlapping.released, _words(overlapping)) == (False, {"a": "stable"})
    assert overlapping.would_change == "a: 165 of 200 or more; it has 160"
    assert not _judged("affine-2025-10", {"a": (164, 200)}, stable).released
    apart = _judged("affine-2025-10", {"a": (165, 200)}, stable)
    assert (apart.released, apart.reason) == (
        True,
        "won in a (0.825 against 0.75), lost in none: both intervals hold 80 % and must not overlap",
    )
    assert apart.would_change == "less than this: a: 165 of 200 or more; it has 165"


def test_october_lets_the_earlier_version_win_a_tie() -> None:
    decision = _judged("affine-2025-10", {"a": (190, 200), "b": (150, 200)}, {"a": (150, 200), "b": (150, 200)})
    assert (decision.released, _words(decision)) == (False, {"a": "candidate", "b": "stable"})


def test_october_who_has_too_few_loses() -> None:
    few = _judged("affine-2025-10", {"a": (199, 199)}, {"a": (0, 200)})
    assert (few.released, few.would_change) == (False, "a: 1 more verdicts on the candidate version")
    assert _judged("affine-2025-10", {"a": (0, 200)}, {"a": (199, 199)}).released
    neither = _judged("affine-2025-10", {"a": (100, 199)}, {"a": (1, 10)})
    assert (neither.released, _words(neither)) == (False, {"a": "neither"})
    beside = _judged("affine-2025-10", {"a": (100, 199), "b": (190, 200)}, {"a": (1, 10), "b": (150, 200)})
    assert beside.released


def test_october_a_perfect_stable_version_cannot_be_beaten_on_as_many() -> None:
    decision = _judged("affine-2025-10", {"a": (200, 200)}, {"a": (200, 200)})
    assert decision.would_change == "a: more scenarios: not even 200 of 200 would be enough"


@pytest.mark.parametrize(
    ("prior", "expected"), [(0.0, 0.1), (0.5, 0.6), (0.6, 0.68), (0.8, 0.84), (0.9, 0.92), (0.95, 0.97), (0.99, 1.01)]
)
def test_december_asks_for_a_fifth_of_what_is_missing_within_bounds(prior: float, expected: float) -> None:
    assert threshold(prior) == pytest.approx(expected)


def test_december_wants_every_environment() -> None:
    stable = {"a": (100, 200), "b": (160, 200)}
    won = _judged("affine-2025-12", {"a": (121, 200), "b": (169, 200)}, stable)
    assert (won.released, won.reason) == (
        True,
        "above the threshold in a (0.605 against 0.5), b (0.845 against 0.8), not in none",
    )
    on_it = _judged("affine-2025-12", {"a": (120, 200), "b": (169, 200)}, stable)
    assert (on_it.released, _words(on_it)) == (False, {"a": "stable", "b": "candidate"})
    assert on_it.would_change == "a: a mean above 0.6; it has 0.6"


def test_december_nobody_is_above_one() -> None:
    decision = _judged("affine-2025-12", {"a": (200, 200)}, {"a": (196, 200)})
    assert decision.would_change == "a: a mean above 1, which no version can have"


def test_a_champion_is_dethroned_by_one_dominance_and_no_loss() -> None:
    champion = {"a": (100, 200), "b": (100, 200)}
    new = _judged("champion-2026-07", {"a": (107, 200), "b": (98, 200)}, champion)
    assert (new.released, _words(new)) == (True, {"a": "dominant", "b": "not worse"})
    assert new.reason == "dominant in a (0.535 against 0.5), worse in none"
    assert new.would_change == "less than this: a: a mean above 0.53; it has 0.535"


def test_a_champion_stays_when_one_environment_is_worse() -> None:
    decision = _judged("champion-2026-07", {"a": (200, 200), "b": (97, 200)}, {"a": (100, 200), "b": (100, 200)})
    assert (decision.released, _words(decision)) == (False, {"a": "dominant", "b": "worse"})
    assert decision.would_change == "b: a mean at least 0.49; it has 0.485"


def test_a_champion_stays_when_nobody_is_dominant() -> None:
    """106/200 = .53 is not above .50 + .03."""
    decision = _judged("champion-2026-07", {"a": (106, 200)}, {"a": (100, 200)})
    assert (decision.released, _words(decision)) == (False, {"a": "not worse"})
    assert decision.would_change == "a: a mean above 0.53; it has 0.53"


def test_too_few_scenarios_count_as_worse_for_a_challenger() -> None:
    decision = _judged("champion-2026-07", {"a": (199, 199), "b": (200, 200)}, {"a": (100, 200), "b": (100, 200)})
    assert (decision.released, _words(decision)) == (False, {"a": "worse", "b": "dominant"})
    assert decision.would_change == "a: 1 more verdicts on the candidate version"
    missing = _judged("champion-2026-07", {"b": (200, 200)}, {"a": (100, 200), "b": (100, 200)})
    assert missing.would_change == "a: 200 more verdicts on the candidate version"
