import math

import numpy as np
import pytest

from rl.errors import InvalidInput
from rl.kl import adapted, estimated
from rl.objective_parts import Estimator


@pytest.mark.parametrize(
    ("estimator", "want"),
    [
        ("k1", [0.2, -0.2, 1.0, -3.0]),
        ("k2", [0.02, 0.02, 0.5, 4.5]),
        ("k3", [0.0187307531, 0.0214027582, 0.3678794412, 10.0]),
    ],
)
def test_estimates(estimator: Estimator, want: list[float]) -> None:
    ref, d = np.array([-1.0, -2.0, -3.0, -0.5]), np.array([0.2, -0.2, 1.0, -3.0])
    np.testing.assert_allclose(estimated(ref + d, ref, estimator), want, atol=1e-9)


def test_estimates_are_clamped_both_ways() -> None:
    assert math.exp(3) - 1 - 3 == pytest.approx(16.0855, abs=1e-4)
    assert estimated([-3.0, -900.0, 900.0], [0.0, 0.0, 0.0], "k3").tolist() == [10.0, 10.0, 10.0]
    assert estimated([-30.0, 30.0], [0.0, 0.0], "k1").tolist() == [-10.0, 10.0]


def test_every_estimate_is_0_where_nothing_moved() -> None:
    for estimator in ("k1", "k2", "k3"):
        assert estimated([-1.5], [-1.5], estimator).tolist() == [0.0]


@pytest.mark.parametrize(("kl", "want"), [(0.05, 0.11), (0.001, 0.09), (0.022, 0.105), (0.02, 0.1)])
def test_the_coefficient_follows_its_target(kl: float, want: float) -> None:
    assert adapted(0.1, kl, 128, 0.02, 256) == pytest.approx(want)


def test_thirteen_quiet_batches_take_three_quarters_of_it() -> None:
    coefficient = 0.1
    for _ in range(13):
        coefficient = adapted(coefficient, 0.0, 128, 0.02, 256)
    assert coefficient == pytest.approx(0.0254, abs=5e-5)


@pytest.mark.parametrize(
    ("target", "horizon", "message"),
    [
        (0.0, 256, "kl.target = 0.0: set more than 0"),
        (0.02, 0, "kl.horizon = 0: set more than 0"),
        (0.02, 25.6, "kl.horizon = 25.6: 128 episodes a batch could turn the coefficient negative; set more than 25.6"),
        (float("nan"), 256, "kl.target"),
    ],
)
def test_an_adaptation_that_cannot_work_is_refused(target: float, horizon: float, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        adapted(0.1, 0.02, 128, target, horizon)
