from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import nchypergeom_fisher as fisher
from scipy.stats import norm

from rl.anytime import ODDS, TUNED, boundary, log_evidence, log_failure_factors, log_mixed
from rl.errors import InvalidInput


@pytest.mark.parametrize("z", [-2.0, 0.0, 1.0, 3.5])
@pytest.mark.parametrize("information", [1.0, 50.0, 4000.0])
def test_the_evidence_is_the_mixture(z: float, information: float) -> None:
    """S has variance V = information / TUNED times that of the mixed lambda's inverse."""
    v = information / TUNED
    mixed, _ = quad(lambda x: 2 * norm.pdf(x) * math.exp(x * z * math.sqrt(v) - x**2 * v / 2), 0, 40, limit=400)
    assert float(log_evidence(z, information)) == pytest.approx(math.log(mixed), abs=1e-6)


def test_nothing_known_is_no_evidence() -> None:
    assert float(log_evidence(5.0, 0.0)) == pytest.approx(0.0)


@pytest.mark.parametrize("alpha", [0.5, 0.05, 0.001])
def test_at_the_boundary_the_evidence_is_enough(alpha: float) -> None:
    information = np.array([0.5, 10.0, 50.0, 1000.0, 1e6])
    assert log_evidence(boundary(information, alpha), information) == pytest.approx(-math.log(alpha))


def test_the_boundary_is_tightest_from_four_times_the_tuning_on() -> None:
    found = boundary([0.0, 50.0, 200.0, 500.0, 5000.0], 0.05)
    assert found == pytest.approx([math.inf, 3.2618, 2.7900, 2.7771, 3.0520], abs=5e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.6, math.nan])
def test_an_alpha_that_promises_nothing_is_refused(alpha: float) -> None:
    with pytest.raises(InvalidInput, match="alpha = "):
        boundary([1.0], alpha)


def test_factors_of_failures_by_hand() -> None:
    """3 of 10 failed against none of 90: q = 0.1, so omega = 4 gives 4^3 / 1.3^3; with 1.5 times the odds q = 1/7."""
    found = np.exp(log_failure_factors((3, 10), (0, 90)))
    assert found[ODDS.index(4.0)] == pytest.approx((4 / 1.3) ** 3)
    allowed = np.exp(log_failure_factors((3, 10), (0, 90), 1.5))
    assert allowed[ODDS.index(8.0)] == pytest.approx((8 / (1 + 7 / 7)) ** 3)
    assert log_mixed([math.log(2.0), math.log(4.0)]) == pytest.approx(math.log(3.0))


def test_what_only_one_version_did_says_nothing() -> None:
    assert log_failure_factors((5, 5), (0, 0)).tolist() == [0.0] * len(ODDS)
    assert log_failure_factors((0, 0), (7, 9)).tolist() == [0.0] * len(ODDS)


@pytest.mark.parametrize("ratio", [1.0, 1.5, 4.0])
@pytest.mark.parametrize(("canary", "stable"), [(10, 90), (50, 50), (3, 4), (90, 10)])
def test_factors_are_at_most_one_on_average(canary: int, stable: int, ratio: float) -> None:
    """Exactly, over all splits of k failures that the greatest allowed odds make."""
    for k in range(1, canary + stable):
        split = fisher(canary + stable, canary, k, ratio)
        xs = list(range(max(0, k - stable), min(k, canary) + 1))
        values = [np.exp(log_failure_factors((x, canary), (k - x, stable), ratio)) for x in xs]
        mean = sum(split.pmf(x) * value for x, value in zip(xs, values, strict=True))
        assert (mean <= 1 + 1e-9).all()


@pytest.mark.parametrize(
    ("canary", "stable", "ratio"), [((2, 1), (0, 1), 1), ((-1, 1), (0, 1), 1), ((0, 1), (0, 1), 0.5)]
)
def test_impossible_counts_are_refused(canary: tuple[int, int], stable: tuple[int, int], ratio: float) -> None:
    with pytest.raises(InvalidInput):
        log_failure_factors(canary, stable, ratio)


def test_equal_failures_seldom_alarm_at_any_of_200_looks() -> None:
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(300):
        logs = np.zeros(len(ODDS))
        canary, stable = rng.binomial(10, 0.03, 200), rng.binomial(90, 0.03, 200)
        reached = False
        for x, y in zip(canary.tolist(), stable.tolist(), strict=True):
            logs += log_failure_factors((x, 10), (y, 90))
            reached = reached or log_mixed(logs.tolist()) >= math.log(20)
        alarms += reached
    assert alarms <= 15
