from __future__ import annotations

import pytest

from rl.early_stop import early_stop


@pytest.mark.parametrize(
    ("scores", "patience", "stop"),
    [
        ([], 2, None),
        ([(0, 0.4)], 2, None),
        ([(0, 13), (13, 22), (21, 22), (26, 18), (38, 16)], 2, 26),  # the published run: an equal one is no improvement
        ([(0, 13), (13, 22), (21, 22), (26, 18), (38, 16)], 1, 21),
        ([(0, 13), (13, 22), (21, 22), (26, 18), (38, 16)], 3, 38),
        ([(0, 13), (13, 22), (21, 22), (26, 23), (38, 16)], 2, None),
        ([(0, 5), (1, 4), (2, 3), (3, 9)], 2, 2),  # what came after is not known at that step
        ([(0, 1), (1, 2), (2, 3)], 2, None),
    ],
)
def test_it_counts_evaluations_since_the_best(scores: list[tuple[int, float]], patience: int, stop: int | None) -> None:
    assert early_stop(scores, patience) == stop
