"""What a dry run promises is without what is kept for evaluation, wherever a window is in its life."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from db import datasets
from db.session import transaction
from fleet.dry_run import dry_run
from rl.held_out import HeldOut, is_held_out
from tasks.requests import request_together
from tests.fleet.dry import HOURS, asked, do, do_all, gpu_worker, open_window, put, source
from tests.tasks.conftest import broker, database, database_url, fresh, postgres_url, redis_url

__all__ = ["broker", "database", "database_url", "fresh", "postgres_url", "redis_url"]


@pytest.fixture(scope="module", autouse=True)
def _gpu_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield from gpu_worker(tmp_path_factory.mktemp("state"))


def salt(kept: set[str], others: set[str]) -> str:
    """One that holds out half of the scenarios, and of these the ``kept`` ones."""
    return next(
        text for text in map(str, count()) if all(is_held_out(one, 0.5, text) == (one in kept) for one in kept | others)
    )


@pytest.mark.slow
@pytest.mark.usefixtures("fresh", "broker")
def test_a_held_out_scenario_is_foretold_and_frozen_as_left_out(tmp_path: Path) -> None:
    held = HeldOut(share=0.5, salt=salt({"even", "unknown"}, {"s", "alone"}), verifier="m:f")
    source(tmp_path)
    line = put(tmp_path, held_out=held.model_dump(mode="json"))
    for hour in HOURS[:2]:
        open_window(line, hour)
        do(asked(hour, "collect"))
    do(asked(HOURS[0], "score"))
    open_window(line, HOURS[2])
    shown = dry_run("main", HOURS)
    assert {one["trajectory_id"].split("/")[1] for one in shown["trajectories"]} == {"s"}
    reasons = {one["trajectory_id"].split("/")[1]: one["reason"] for one in shown["left_out"]}
    kept = "held out for evaluation"
    assert reasons == {"even": kept, "unknown": kept, "alone": "alone in its group"}
    assert shown["sums"]["reasons"] == {kept: 16, "alone in its group": 4}
    assert shown["readiness"]["stats"]["held_out"] == 8
    job = request_together(HOURS)
    do_all()
    with transaction() as session:
        dataset = datasets.of_job(session, job)
        assert dataset is not None
        assert dataset.manifest["skipped"] == shown["sums"]["reasons"]
        assert dataset.manifest["held_out"] == {"share": 0.5, "salt": held.salt}
