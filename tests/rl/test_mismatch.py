import numpy as np
import pytest

from rl.errors import InvalidInput
from rl.mismatch import weights

OLD = np.array([-1.0, -1.0, -1.0, -2.0, -2.0])
GAP = np.log([0.5, 1.0, 4.0, 1.5, 0.9])
SAMPLE = [0, 0, 0, 1, 1]


def test_tis_clamps_the_ratio() -> None:
    np.testing.assert_allclose(weights(OLD, OLD - GAP, SAMPLE, "tis", 0.0, 2.0), [0.5, 1, 2, 1.5, 0.9])
    np.testing.assert_allclose(weights(OLD, OLD - GAP, SAMPLE, "tis", 0.8, 1.2), [0.8, 1, 1.2, 1.2, 0.9])


def test_icepop_drops_tokens_outside() -> None:
    np.testing.assert_allclose(weights(OLD, OLD - GAP, SAMPLE, "icepop", 0.6, 2.0), [0, 1, 0, 1.5, 0.9])


def test_a_sequence_mask_drops_whole_samples() -> None:
    # Geometric means: 2 ** (1 / 3) = 1.26 and 1.35 ** .5 = 1.16.
    assert weights(OLD, OLD - GAP, SAMPLE, "sequence_mask", 0.8, 1.2).tolist() == [0, 0, 0, 1, 1]
    assert weights(OLD, OLD - GAP, SAMPLE, "sequence_mask", 0.8, 1.3).tolist() == [1, 1, 1, 1, 1]
    assert weights(OLD, OLD - GAP, SAMPLE, "sequence_mask", 1.2, 1.3).tolist() == [1, 1, 1, 0, 0]


def test_samples_may_be_numbered_with_gaps() -> None:
    assert weights([0.0, 0.0], [0.0, -9.0], [4, 2], "sequence_mask", 0.5, 2.0).tolist() == [1.0, 0.0]


def test_no_gap_no_weight() -> None:
    for mode in ("tis", "icepop", "sequence_mask"):
        assert weights(OLD, OLD, SAMPLE, mode, 0.5, 2.0).tolist() == [1.0] * 5
        assert weights([], [], [], mode, 0.5, 2.0).shape == (0,)


def test_an_absurd_gap_stays_finite() -> None:
    assert weights([0.0, -900.0], [-900.0, 0.0], [0, 1], "tis", 0.0, 1e9).tolist() == pytest.approx(
        [np.exp(20), np.exp(-20)]
    )


def test_bounds_must_be_an_interval() -> None:
    with pytest.raises(InvalidInput, match=r"mismatch.low = 2.0: set less than mismatch.high = 2.0"):
        weights(OLD, OLD, SAMPLE, "tis", 2.0, 2.0)
