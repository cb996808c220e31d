"""When training should have stopped: held-out results no longer improve."""

from __future__ import annotations

from collections.abc import Iterable

PATIENCE = 2


def early_stop(scores: Iterable[tuple[int, float]], patience: int = PATIENCE, since: int = 0) -> int | None:
    """The step at which so many evaluations in a row brought no strict improvement on the best so far; None: never.

    ``scores`` are (step, score), one an evaluation, in the order of steps. Those before step ``since`` may be the best
    so far, and are not counted.
    """
    best: float | None = None
    waited = 0
    for step, score in scores:
        if best is None or score > best:
            best, waited = score, 0
        elif step >= since:
            waited += 1
        if waited >= patience:
            return step
    return None
