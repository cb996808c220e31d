from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta

from rl.errors import InvalidInput
from rl.paired_margin import decide, interval, pair, probability_above, wins_needed
from rl.verdicts import Cells, Scores, Verdicts

small = st.integers(0, 40)


def _cells(wins: float, losses: float, n: float) -> Cells:
    return Cells(both=n - wins - losses, only_candidate=wins, only_stable=losses, neither=0)


def _scores(right: int, n: int) -> Scores:
    return {"all": {f"s{i:03}": float(i < right) for i in range(n)}}


def _verdicts(wins: int, losses: int, n: int) -> Verdicts:
    """The candidate alone right on the first, the stable version alone on the next, both right on the others."""
    scenarios = [f"s{i:03}" for i in range(n)]
    stable = {s: float(i >= wins) for i, s in enumerate(scenarios)}
    candidate = {s: float(not wins <= i < wins + losses) for i, s in enumerate(scenarios)}
    return Verdicts(candidate={"all": candidate}, stable={"all": stable})


def test_without_a_margin_it_is_who_wins_where_they_differ() -> None:
    """X ~ Beta(4, 2) is above 1/2 when at most 3 of 5 coins show heads: (1 + 5 + 10 + 10) / 32."""
    assert probability_above(_cells(3, 1, 20), 0.0) == pytest.approx(26 / 32, abs=1e-12)
    assert probability_above(_cells(0, 0, 50), 0.0) == pytest.approx(1 / 2, abs=1e-12)


@pytest.mark.parametrize("margin", [-0.3, -0.05, 0.01, 0.1])
@pytest.mark.parametrize("counts", [(3, 1, 20), (30, 10, 200), (0, 0, 0), (7.5, 2.5, 40)])
def test_the_probability_is_the_integral(counts: tuple[float, float, float], margin: float) -> None:
    wins, losses, n = counts
    d, x = beta(2 + wins + losses, 2 + n - wins - losses), beta(1 + wins, 1 + losses)
    expected, _ = quad(lambda s: d.pdf(s) * x.sf((1 + margin / s) / 2), 0, 1, points=[abs(margin)], limit=200)
    assert probability_above(_cells(*counts), margin) == pytest.approx(expected, abs=1e-7)


def test_the_interval_is_that_of_the_posterior() -> None:
    drawn = np.random.default_rng(0).dirichlet([31, 11, 162], 400_000)
    theta = drawn[:, 0] - drawn[:, 1]
    low, mean, high = interval(_cells(30, 10, 200))
    assert mean == pytest.approx(20 / 204)
    assert (low, high) == pytest.approx(tuple(np.quantile(theta, [0.1, 0.9])), abs=3e-4)


@given(small, small, small, st.floats(-0.5, 0.5))
@settings(max_examples=50, deadline=None)
def test_one_is_better_or_the_other(wins: int, losses: int, agreed: int, margin: float) -> None:
    n = wins + losses + agreed
    one, other = probability_above(_cells(wins, losses, n), margin), probability_above(_cells(losses, wins, n), -margin)
    assert one + other == pytest.approx(1, abs=1e-6)


def test_a_million_scenarios_are_no_trouble() -> None:
    assert probability_above(_cells(5000, 4800, 10**6), 0.0) == pytest.approx(0.978322, abs=1e-6)


def test_a_better_version_is_released_and_the_reason_says_the_cells() -> None:
    decision = decide(_verdicts(30, 10, 200), 0.95, 0.01, 200)
    assert (decision.released, decision.policy) == (True, "paired-margin")
    assert decision.probability == pytest.approx(0.9979, abs=1e-4)
    assert decision.reason == (
        "of 200 scenarios only the candidate was right on 30, only the stable version on 10: "
        "P(better by more than 0.01) = 0.9979, at least 0.95"
    )
    assert decision.would_change == "21 or fewer scenarios that only the candidate got right"
    assert decision.cells == Cells(both=160, only_candidate=30, only_stable=10, neither=0)
    assert decision.difference == pytest.approx((0.0588, 0.0980, 0.1378), abs=1e-4)
    assert [(one.candidate.k, one.stable.k, one.verdict) for one in decision.environments] == [(190, 170, "+0.1000")]


def test_one_win_less_than_needed_is_too_little() -> None:
    assert wins_needed(_cells(30, 10, 200), 0.01, 0.95) == 22
    assert decide(_verdicts(22, 10, 200), 0.95, 0.01, 200).released
    decision = decide(_verdicts(21, 10, 200), 0.95, 0.01, 200)
    assert not decision.released
    assert decision.would_change == "22 or more scenarios that only the candidate got right"


def test_a_margin_below_zero_lets_an_equal_version_pass() -> None:
    decision = decide(_verdicts(10, 10, 400), 0.95, -0.05, 200)
    assert decision.released
    assert "P(not worse by 0.05) = " in decision.reason


def test_nothing_is_enough_where_nothing_is_left_to_win() -> None:
    decision = decide(_verdicts(0, 200, 200), 0.95, 0.01, 200)
    assert decision.would_change == "more scenarios, or fewer than 200 that only the stable version got right"


def test_too_few_scenarios_decide_nothing() -> None:
    decision = decide(_verdicts(150, 0, 199), 0.95, 0.01, 200)
    assert (decision.released, decision.probability) == (False, None)
    assert decision.reason == "both versions were judged on 199 scenarios, fewer than 200"
    assert decision.would_change == "1 more of them"


def test_scenarios_that_one_of_them_lacks_are_seen() -> None:
    verdicts = Verdicts(candidate=_scores(200, 200), stable=_scores(0, 223))
    decision = decide(verdicts, 0.95, 0.01, 200)
    assert not decision.released
    assert decision.reason == "both versions were judged on 200 of 223 scenarios, less than 90%"
    assert decide(Verdicts(candidate=_scores(200, 200), stable=_scores(0, 222)), 0.95, 0.01, 200).released


def _without(scores: Scores, lacking: range) -> Scores:
    return {
        name: {one: x for place, (one, x) in enumerate(all_.items()) if place not in lacking}
        for name, all_ in scores.items()
    }


@pytest.mark.parametrize("count", [222, 240, 300, 301, 319, 1000])
def test_two_versions_with_95_percent_of_their_verdicts_each_are_always_compared(count: int) -> None:
    """Also where they lack them on different scenarios: 285 and 285 of 300 leave 270 pairs, 90 % of what either has."""
    lack = count - math.ceil(0.95 * count)
    candidate = _without(_scores(count, count), range(lack))
    stable = _without(_scores(0, count), range(lack, 2 * lack))
    decision = decide(Verdicts(candidate=candidate, stable=stable), 0.95, 0.01, 200)
    assert decision.released
    assert decision.cells is not None
    assert decision.cells.n == count - 2 * lack


def test_samples_count_in_parts() -> None:
    verdicts = Verdicts(candidate={"a": {"s": 0.5}, "b": {"s": 1.0}}, stable={"a": {"s": 0.25}, "b": {"s": 0.0}})
    cells, judged = pair(verdicts)
    assert judged == 2
    assert cells == Cells(both=0.125, only_candidate=1.375, only_stable=0.125, neither=0.375)


def test_a_score_that_is_no_share_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"all\.s000 = \(2\.0, 1\.0\): paired-margin compares scores from 0 to 1"):
        pair(Verdicts(candidate={"all": {"s000": 2.0}}, stable={"all": {"s000": 1.0}}))


@pytest.mark.parametrize("discordance", [0.05, 0.1, 0.2, 0.4])
def test_an_equal_version_is_released_in_less_than_5_of_100(discordance: float) -> None:
    drawn = np.random.default_rng(1).multinomial(200, [discordance / 2, discordance / 2, 1 - discordance], 4000)
    kinds, counts = np.unique(drawn, axis=0, return_counts=True)
    released = [probability_above(_cells(int(k[0]), int(k[1]), 200), 0.01) >= 0.95 for k in kinds]
    assert counts[released].sum() / 4000 <= 0.04


@pytest.mark.parametrize(("n", "discordance", "gain", "least"), [(233, 0.3, 0.11, 0.75), (400, 0.2, 0.1, 0.9)])
def test_a_better_version_is_mostly_released(n: int, discordance: float, gain: float, least: float) -> None:
    shares = [(discordance + gain) / 2, (discordance - gain) / 2, 1 - discordance]
    drawn = np.random.default_rng(2).multinomial(n, shares, 1000)
    kinds, counts = np.unique(drawn, axis=0, return_counts=True)
    released = [probability_above(_cells(int(k[0]), int(k[1]), n), 0.01) >= 0.95 for k in kinds]
    assert counts[released].sum() / 1000 >= least
