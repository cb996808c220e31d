"""Training asked for again: while it is queued, and after it ended without success."""

from __future__ import annotations

import pytest
from redis import Redis

from db import jobs
from tests.admin.world import Api, audited
from tests.tasks import rows

HOURS = ("2025-01-15T10:00", "2025-01-15T11:00")


@pytest.fixture
def asked(api: Api, broker: Redis) -> int:
    """The id of a job on the one hour that waits; its message is taken away."""
    rows.add_scored(rows.add_line(readiness=rows.EAGER), HOURS[0], 1.0)
    job = int(api.post("training/trigger")["jobId"])
    broker.flushdb()
    return job


def end(job: int, state: str) -> None:
    rows.rows(
        "update rlfleet.jobs set state = :state, finished_at = now() where id = :id returning 1", state=state, id=job
    )


def state_of(job: int) -> str:
    return str(rows.one("select state from rlfleet.jobs where id = :id", id=job)[0])


def test_the_same_again_is_the_same_job(api: Api, asked: int) -> None:
    assert api.post("training/trigger")["jobId"] == str(asked)
    assert jobs.claim(asked, "a test", 60) is not None
    assert api.post("training/trigger", force=True)["jobId"] == str(asked)
    assert rows.one("select count(*) from rlfleet.jobs")[0] == 1
    assert audited() == [("otto", "train", "main", "done")] * 3


@pytest.mark.parametrize(
    ("state", "words"),
    [("failed", "failed on what waits"), ("dead", "died on what waits"), ("cancelled", "was cancelled")],
)
def test_a_job_that_ended_in_vain_is_queued_again_by_force_alone(
    api: Api, broker: Redis, asked: int, state: str, words: str
) -> None:
    end(asked, state)
    reason = f"Need new scores, or `rlfleet jobs requeue {asked}`: job {asked} {words}"
    assert api.get("lines/main/readiness")["reason"] == reason
    assert api.post("training/trigger", 409)["error"] == reason
    assert state_of(asked) == state
    assert api.post("training/trigger", force=True)["jobId"] == str(asked)
    assert (state_of(asked), len(rows.messages(broker)["gpu"])) == ("queued", 1)
    assert [outcome for *_, outcome in audited()] == ["done", "refused", "done"]


def test_a_job_that_died_before_others_is_not_said_to_train(api: Api, asked: int) -> None:
    rows.add_scored(rows.one("select id from rlfleet.lines")[0], HOURS[1], 1.0)
    later = int(api.post("training/trigger")["jobId"])
    end(asked, "dead")
    assert later > asked
    refused = api.post("training/trigger", 409)
    assert (refused["error"], state_of(asked)) == (f"job {asked} is dead", "dead")
    assert refused["remedy"] == f'requeue job {asked}, or send {{"force": true}}'
