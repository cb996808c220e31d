"""The places of row 4 are points that exist, and all of those that a job passes are among them."""

from __future__ import annotations

from bench.faults.rows.crashes import DISPATCHER, HELD, OF_A_JOB, QUICK, places
from worker.crash import POINTS


def test_every_place_is_a_point() -> None:
    assert {place.rpartition(":")[2] for place in places()} <= set(POINTS)
    assert set(QUICK) <= set(places())


def test_a_training_is_killed_at_every_point_of_a_job() -> None:
    assert list(POINTS)[: len(OF_A_JOB) + len(DISPATCHER)] == [*OF_A_JOB, *DISPATCHER]
    assert HELD == ("after-claim", "before-heartbeat", "after-heartbeat", "before-finish", "before-commit")
    assert {f"train:{point}" for point in OF_A_JOB} <= set(places())
