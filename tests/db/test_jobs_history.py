"""Random histories of one job against the model of ``bench.faults.model``; `make faults` plays a thousand."""

from __future__ import annotations

import pytest

from bench.faults import model
from db.session import transaction
from tests.conftest_database import empty


@pytest.fixture(autouse=True)
def _no_rows(database: str) -> None:
    with transaction() as session:
        empty(session)


def test_every_history_replays_to_the_row() -> None:
    model.play(100)


@pytest.mark.slow
def test_many_histories_replay_to_the_row(seed: int) -> None:
    model.play(400, seed)
