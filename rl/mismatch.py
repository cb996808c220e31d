"""Weights for the gap between the engine that sampled and the trainer that scores the same weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl.errors import InvalidInput
from rl.objective_parts import MismatchMode

Floats = NDArray[np.float64]

EXPONENT_LIMIT = 20.0


def weights(
    old_logp: ArrayLike,
    rollout_logp: ArrayLike,
    sample: ArrayLike,
    mode: MismatchMode,
    low: float,
    high: float,
) -> Floats:
    """What to multiply each token's loss by, [T]; never a gradient's path.

    ``old_logp`` [T] are the trainer's log-probabilities before the first update, ``rollout_logp`` [T] the engine's,
    ``sample`` [T] says whose token it is. With the ratio exp(old - rollout): ``tis`` clamps it to [low, high]
    (truncated importance sampling, Yao et al. 2025), ``icepop`` keeps it inside and takes 0 outside (Ling team 2025),
    ``sequence_mask`` takes 0 for samples whose geometric mean ratio is outside and 1 for the others.

    Raises:
        InvalidInput: low is not below high.
    """
    if not low < high:
        raise InvalidInput("mismatch.low", low, f"set less than mismatch.high = {high}")
    gap = np.asarray(old_logp, dtype=np.float64) - np.asarray(rollout_logp, dtype=np.float64)
    if mode == "sequence_mask":
        gap = _mean_of_sample(gap, np.asarray(sample, dtype=np.int64))
    ratio = np.exp(np.clip(gap, -EXPONENT_LIMIT, EXPONENT_LIMIT))
    if mode == "tis":
        return np.clip(ratio, low, high)
    inside = (low <= ratio) & (ratio <= high)
    return inside.astype(np.float64) if mode == "sequence_mask" else np.where(inside, ratio, 0.0)


def _mean_of_sample(values: Floats, sample: NDArray[np.int64]) -> Floats:
    """The mean over its sample at every token, [T]."""
    count = np.maximum(np.bincount(sample), 1)
    mean: Floats = (np.bincount(sample, values) / count)[sample]
    return mean
