"""A worker that was too slow: another one holds the job by the time its own attempt ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from db import jobs
from db.session import transaction
from rl.errors import Cancelled, EngineUnavailable, OffPolicyRefused
from tasks.carry import carry_out
from tests.tasks.rows import add_line, asked, effect, effects, one

pytestmark = pytest.mark.usefixtures("fresh")


def taken_over(job_id: int) -> None:
    with transaction() as session:
        session.execute(text("update rlfleet.jobs set lease_until = now() - interval '1 second'"))
    assert jobs.claim(job_id, "another", 60) is not None


def raising(job_id: int, error: BaseException) -> Callable[..., Any]:
    def work(*_: object) -> Any:
        taken_over(job_id)
        raise error

    return work


@pytest.mark.parametrize(
    "error", [EngineUnavailable("away"), OffPolicyRefused(), ValueError("?"), Cancelled()], ids=repr
)
def test_however_it_ends_it_changes_nothing(error: BaseException) -> None:
    job = asked(add_line())
    assert carry_out(job, raising(job, error))
    assert one("select state, fence, attempt, owner, error from rlfleet.jobs") == ("running", 2, 2, "another", None)


def test_a_worker_that_goes_down_too_late_goes_down_all_the_same() -> None:
    job = asked(add_line())
    with pytest.raises(SystemExit):
        carry_out(job, raising(job, SystemExit()))
    assert one("select state, owner, interruptions from rlfleet.jobs") == ("running", "another", 0)


def test_its_effect_is_not_committed_and_its_answer_says_so() -> None:
    job = asked(add_line())

    def work(*_: object) -> Any:
        taken_over(job)
        return effect

    answer = carry_out(job, work)
    assert answer == f"job {job} fence 1: the lease was lost before its effect was committed"
    assert effects() == 0
