"""What logs of another model, or of versions long gone, can still teach: weights and preferences.

Neither needs the log-probabilities of whoever spoke.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl.advantages import centred, numbered
from rl.errors import InvalidInput


def exponential_weights(
    scores: ArrayLike, groups: Sequence[Hashable], temperature: float, cap: float
) -> NDArray[np.float64]:
    """``min(exp((score - mean_g) / temperature), cap)``, one weight a trajectory [N].

    Advantage-weighted regression (arXiv 1910.00177, equation 3) with the group's mean as value. A constant group
    weighs exactly 1 each.

    Raises:
        InvalidInput: the temperature or the cap is not above 0, or the scores cannot be used.
    """
    for field, value in (("weight_temperature", temperature), ("weight_cap", cap)):
        if not value > 0:
            raise InvalidInput(field, value, "set more than 0")
    weights: NDArray[np.float64] = np.exp(np.minimum(centred(scores, groups) / temperature, np.log(cap)))
    return weights


def preferences(scores: ArrayLike, groups: Sequence[Hashable], min_margin: float = 1e-6) -> list[tuple[int, int]]:
    """(chosen, rejected): the first best and the first worst of every group that differ by at least ``min_margin``.

    Indices are into ``scores`` [N]; pairs come in the order in which groups appear. A group that differs by less,
    and one with a single member, has no pair.

    Raises:
        InvalidInput: the lengths differ, the margin is not above 0, or a score is not finite.
    """
    score = np.asarray(scores, dtype=np.float64).reshape(-1)
    if len(score) != len(groups):
        raise InvalidInput("groups", f"{len(groups)} for {len(score)} scores", "name one group for each score")
    if not min_margin > 0:
        raise InvalidInput("min_margin", min_margin, "set more than 0: equal scores prefer nothing")
    if not np.isfinite(score).all():
        raise InvalidInput("scores", float(score[~np.isfinite(score)][0]), "scores must be finite numbers")
    member = numbered(groups)
    pairs = []
    for number in range(int(member.max(initial=-1)) + 1):
        among = np.flatnonzero(member == number)
        best, worst = int(among[score[among].argmax()]), int(among[score[among].argmin()])
        if score[best] - score[worst] >= min_margin:
            pairs.append((best, worst))
    return pairs
