from __future__ import annotations

from itertools import pairwise

from tasks.curves import MOST, Curves


def test_metrics_are_kept_by_step() -> None:
    curves = Curves()
    assert curves.rows() == {}
    curves.add(0, {"prepared": 0.5})
    curves.add(1, {"loss": 0.123456789, "eta_seconds": 7.0})
    curves.add(2, {"loss": 0.25, "mean_score": 1.0})
    assert curves.rows() == {"step": [1, 2], "loss": [0.123457, 0.25], "mean_score": [None, 1.0]}


def test_a_long_training_is_thinned_evenly_and_reaches_its_end() -> None:
    curves = Curves()
    for step in range(1, 10_001):
        curves.add(step, {"loss": 1 / step})
        assert len(curves.rows()["step"]) <= MOST
    steps = curves.rows()["step"]
    assert steps[0] == 1
    assert {after - before for before, after in pairwise(steps)} == {128}
    assert steps[-1] > 10_000 - 128


def test_what_was_drawn_before_a_resume_stays() -> None:
    whole, before = Curves(), Curves()
    for step in range(1, 301):
        whole.add(step, {"loss": 1 / step})
        if step <= 210:
            before.add(step, {"loss": 1 / step})
    after = Curves(before.rows(), 200)
    for step in range(201, 301):
        after.add(step, {"loss": 1 / step})
    assert after.rows() == whole.rows()
    assert Curves({}, 0).rows() == {}
