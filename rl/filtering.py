"""Which trajectories of a batch are worth an update: groups that differ, and versions not too old."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl.advantages import bounds, numbered
from rl.errors import InvalidInput

Bools = NDArray[np.bool_]


def informative(scores: ArrayLike, groups: Sequence[Hashable], low: float = 0.0, high: float = 1.0) -> Bools:
    """[N]: whether the mean score of a trajectory's group lies strictly between ``low`` and ``high``.

    DAPO's dynamic sampling (arXiv 2503.14476, section 3.2); ``scores`` [N] are before any overlong rule.

    Raises:
        InvalidInput: the lengths differ, or low is not below high.
    """
    score = np.asarray(scores, dtype=np.float64).reshape(-1)
    if len(score) != len(groups):
        raise InvalidInput("groups", f"{len(groups)} for {len(score)} scores", "name one group for each score")
    if not low < high:
        raise InvalidInput("filter.low", low, f"set less than filter.high = {high}")
    member = numbered(groups)
    least, greatest = bounds(score, member)
    # The mean of equal floats may round past a bound that they stand on.
    mean = np.clip(np.bincount(member, score) / np.bincount(member), least, greatest) if len(score) else score
    kept: Bools = ((low < mean) & (mean < high))[member]
    return kept


def fresh(behind: ArrayLike, max_staleness: int | None) -> Bools:
    """[N]: whether the version that spoke is at most ``max_staleness`` versions behind the one trained.

    ``behind`` [N] is 0 for the version that is trained; None keeps every age.

    Raises:
        InvalidInput: a version from the future, which no training of this lineage can have sampled.
    """
    age = np.asarray(behind, dtype=np.int64).reshape(-1)
    if len(age) and age.min() < 0:
        raise InvalidInput("behind", int(age.min()), "a version cannot have spoken before it was trained")
    kept: Bools = np.ones(len(age), dtype=np.bool_) if max_staleness is None else age <= max_staleness
    return kept
