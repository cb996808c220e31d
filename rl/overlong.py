"""What an episode that ran out of room is worth. Applied to rewards before any statistics of a group."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl.errors import InvalidInput
from rl.objective_parts import SoftOverlong, StopProperly

Floats = NDArray[np.float64]


def soft_penalty(lengths: ArrayLike, max_tokens: int, buffer: int, factor: float) -> Floats:
    """What to add to each reward, in [-factor, 0]: DAPO's soft overlong punishment (arXiv 2503.14476, equation 13).

    ``lengths`` [N] count tokens from the first spoken to the last, what the environment said between them included.
    Nothing up to ``max_tokens - buffer``, then linear, and ``-factor`` from ``max_tokens`` on.

    Raises:
        InvalidInput: the buffer is not in 1..max_tokens.
    """
    if not 1 <= buffer <= max_tokens:
        raise InvalidInput("overlong.buffer", buffer, f"set 1 to max_tokens = {max_tokens}")
    over = np.clip(np.asarray(lengths, dtype=np.float64) - (max_tokens - buffer), 0, buffer)
    penalty: Floats = 0.0 - factor * over / buffer
    return penalty


def stopped_properly(rewards: ArrayLike, truncated: ArrayLike, coefficient: float) -> Floats:
    """Rewards [N] where truncated episodes' are multiplied by ``coefficient``, or replaced by it where it is negative.

    ProRL (arXiv 2505.24864).

    Raises:
        InvalidInput: the coefficient is above 1, which would reward running out of room.
    """
    if coefficient > 1:
        raise InvalidInput("overlong.coefficient", coefficient, "set at most 1")
    reward = np.asarray(rewards, dtype=np.float64)
    return np.where(
        np.asarray(truncated, dtype=bool), reward * coefficient if coefficient >= 0 else coefficient, reward
    )


def shaped(
    rewards: ArrayLike, lengths: ArrayLike, truncated: ArrayLike, rule: SoftOverlong | StopProperly | None
) -> Floats:
    """Rewards [N] under a config's rule; None leaves them as they are."""
    match rule:
        case SoftOverlong():
            penalty = soft_penalty(lengths, rule.max_tokens, rule.buffer, rule.factor)
            return np.asarray(rewards, dtype=np.float64) + penalty
        case StopProperly():
            return stopped_properly(rewards, truncated, rule.coefficient)
        case None:
            return np.asarray(rewards, dtype=np.float64)
