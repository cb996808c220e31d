from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from db import jobs
from db.session import transaction
from rl.errors import Cancelled, EngineUnavailable, Fenced
from tasks.carry import Lease
from tests.conftest_database import empty
from tests.tasks.rows import add_line, asked, claimed, job


@pytest.fixture
def held(database: str) -> Lease:
    """A lease that is due for renewal at any time; the row's is longer."""
    with transaction() as session:
        empty(session)
    return Lease(claimed(asked(add_line()), lease_seconds=60), 0.0)


def carry(held: Lease, work: Coroutine[Any, Any, int]) -> int:
    return asyncio.run(asyncio.wait_for(held.during(work), 20))


def test_the_lease_is_renewed_while_the_work_waits_and_its_result_comes_back(held: Lease) -> None:
    held.seconds = 4.0  # a quarter of it is the second after which `during` looks again
    before = job(held.claim.job_id).lease_until

    async def work() -> int:
        while job(held.claim.job_id).lease_until == before:
            await asyncio.sleep(0.05)
        return 7

    assert carry(held, work()) == 7


@pytest.mark.parametrize("stop", ["fenced", "cancelled"])
def test_what_a_beat_raises_cancels_the_work(held: Lease, stop: str) -> None:
    seen: list[str] = []

    async def work() -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return 7

    if stop == "fenced":
        jobs.fail(held.claim, "taken away", retry=True)
    else:
        jobs.cancel(held.claim.job_id)
    with pytest.raises(Fenced if stop == "fenced" else Cancelled):
        carry(held, work())
    assert seen == ["cancelled"]


def test_what_the_work_raises_comes_through(held: Lease) -> None:
    async def work() -> int:
        raise EngineUnavailable("no engine")

    with pytest.raises(EngineUnavailable, match="no engine"):
        carry(held, work())
