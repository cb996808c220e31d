"""Training asked for, jobs and kinds of jobs changed, runs ended: the rows after it, and the audit of it."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from redis import Redis

from db import jobs, lines, pauses, windows, workers
from db.session import transaction
from rl.config import Release
from rl.protocol import QUEUES
from tests.admin.world import Api, audited, dispatch_one
from tests.db.judged import GATE, V0, V1, candidate, line_with
from tests.db.trained import add_line, add_version, release, run_config
from tests.tasks import rows


def rung(broker: Redis, queue: str) -> int:
    """How many messages wait there."""
    return len(rows.messages(broker).get(queue, []))


def job_row(job_id: int) -> tuple[str, int]:
    found = rows.one("select state, attempt from rlfleet.jobs where id = :id", id=job_id)
    return found[0], found[1]


def test_a_trigger_makes_a_job_that_is_rung_once(api: Api, broker: Redis) -> None:
    line_id = rows.add_line(readiness=rows.EAGER)
    rows.add_scored(line_id, "2025-01-15T10:00", 1.0, 0.5)
    rows.add_scored(line_id, "2025-01-15T11:00", 0.0)
    made = api.post("training/trigger", force=False, batchSize=2)
    assert set(made) == {"success", "jobId"}
    job = rows.one("select id, kind, state, inputs -> 'windows' from rlfleet.jobs")
    assert (made["jobId"], *job[1:]) == (str(job[0]), "train", "queued", ["2025-01-15T10:00"])
    assert rung(broker, "gpu") == 1
    assert api.get("training/status")["automation"]["training"] == {
        "currentJob": made["jobId"],
        "lastCompleted": None,
    }
    assert audited() == [("otto", "train", "main", "done")]


def test_a_trigger_of_a_line_that_is_not_ready_says_why_and_can_be_forced(api: Api) -> None:
    line_id = rows.add_line()
    rows.add_scored(line_id, "2025-01-15T10:00", 1.0, 0.5)
    refused = api.post("training/trigger", 409)
    assert refused == {
        "success": False,
        "error": "Need 98 more trajectories",
        "remedy": 'send {"force": true} to train on what there is',
    }
    assert api.get("training/trigger")["reason"] == "Need 98 more trajectories"
    assert api.get("lines/main/readiness")["stats"]["scored"] == 2
    assert api.post("training/trigger", force=True)["jobId"] == "1"
    assert [outcome for *_, outcome in audited()] == ["refused", "done"]


def within_an_hour() -> datetime:
    """The database's time, once its hour does not end soon."""
    while True:
        with transaction() as session:
            now = windows.database_now(session)
        if (now.minute, now.second) < (59, 30):
            return now
        time.sleep(1)


def test_the_status_has_true_numbers(api: Api) -> None:
    line_with(Release(**GATE))
    line_id = rows.one("select id from rlfleet.lines")[0]
    now = within_an_hour()
    hours = [(now - timedelta(hours=ago)).strftime("%Y-%m-%dT%H:00") for ago in (2, 24, 25)]
    # The hour of a day ago has ended since; the one before had not any more.
    for hour, rewards in zip(hours, ([1.0], [0.5, 0.0], [1.0]), strict=True):
        rows.add_scored(line_id, hour, *rewards)
    rows.add_scored(line_id, "2025-01-15T10:00", 1.0)
    candidate()
    assert api.get("training/status")["status"] == "degraded"  # there is no worker
    workers.announce("w@here", QUEUES, 1, "cpu", 1)
    rows.rows("update rlfleet.jobs set state = 'succeeded', finished_at = '2025-01-16T03:00Z' returning 1")
    found = api.get("training/status")
    assert found == {
        "status": "healthy",
        "automation": {
            "dataCollection": {"last24h": 3, "ratePerHour": 0.12},
            "training": {"currentJob": None, "lastCompleted": "2025-01-16T03:00:00Z"},
            "models": {"latest": V1, "deployed": V0},
        },
        "readiness": {
            "ready": False,
            "reason": "Need 95 more trajectories",
            "stats": {"totalTrajectories": 5, "scenarioGroups": 1},
        },
    }
    job = dispatch_one("train")
    assert api.get("training/status")["automation"]["training"]["currentJob"] == str(job)
    rows.rows("update rlfleet.jobs set state = 'dead' where id = :id returning 1", id=job)
    assert api.get("training/status")["status"] == "degraded"


def test_nothing_to_train_on_is_told(api: Api) -> None:
    rows.add_line()
    refused = api.post("training/trigger", 409, force=True)
    assert refused["error"] == "no scored window waits"
    assert refused["remedy"].startswith("GET /api/admin/windows or `rlfleet windows`")


def test_a_job_is_cancelled_queued_again_and_put_aside(api: Api, broker: Redis) -> None:
    rows.add_line()
    job = dispatch_one("score")
    done = api.post(f"jobs/{job}/cancel")
    assert (done["before"], done["state"], job_row(job)) == ("queued", "cancelled", ("cancelled", 0))
    assert api.post(f"jobs/{job}/cancel")["before"] == "cancelled"
    done = api.post(f"jobs/{job}/requeue")
    assert (done["before"], done["state"], done["remark"], rung(broker, "score")) == ("cancelled", "queued", "", 1)
    assert api.post(f"jobs/{job}/requeue", 409)["error"] == f"job {job} is queued"
    assert jobs.claim(job, "a test", 60) is not None
    assert api.post(f"jobs/{job}/cancel")["state"] == "running"
    shown = api.get(f"jobs/{job}")
    assert [(one["from"], one["to"]) for one in shown["events"]][:3] == [
        (None, "queued"),
        ("queued", "cancelled"),
        ("cancelled", "queued"),
    ]
    assert (shown["job"]["state"], shown["resume"], shown["devices"]) == ("running", None, 1)
    assert [action for _, action, *_ in audited()] == [
        "cancel job",
        "cancel job",
        "requeue job",
        "requeue job",
        "cancel job",
    ]


def test_a_job_that_has_succeeded_is_not_cancelled(api: Api) -> None:
    rows.add_line()
    job = dispatch_one("score")
    rows.rows("update rlfleet.jobs set state = 'succeeded', finished_at = now() where id = :id returning 1", id=job)
    refused = api.post(f"jobs/{job}/cancel", 409)
    assert refused["error"] == f"job {job} has succeeded"
    assert (job_row(job)[0], audited()) == ("succeeded", [("otto", "cancel job", str(job), "refused")])


def test_without_a_broker_a_job_is_queued_all_the_same(api: Api, broker_away: None) -> None:
    rows.add_line()
    job = dispatch_one("score")
    jobs.cancel(job)
    assert "broker" in api.post(f"jobs/{job}/requeue")["remark"]
    assert job_row(job) == ("queued", 0)


def test_a_kind_is_paused_and_resumed(api: Api, broker: Redis) -> None:
    rows.add_line()
    done = api.post("pauses/score/pause", reason="the judge is down")
    assert (done["paused"], done["changed"]) == (True, True)
    assert [(one["kind"], one["reason"]) for one in api.get("pauses")["pauses"]] == [("score", "the judge is down")]
    assert api.get("training/status")["status"] == "degraded"
    assert api.post("pauses/score/pause", reason="again")["changed"] is False
    dispatch_one("score")
    done = api.post("pauses/score/resume")
    assert (done["changed"], pauses.paused(), rung(broker, "score")) == (True, [], 1)
    assert api.post("pauses/score/resume")["changed"] is False


def test_a_run_is_finished_by_a_person(api: Api) -> None:
    with transaction() as session:
        line = add_line(session)
        base = add_version(session, line, state="ready")
        release(session, base)
        lines.start_run(session, line.id, run_config(rounds=3), base.id)
    shown = api.get("runs/demo")
    assert (shown["state"], shown["rounds"], shown["from"]) == ("running", {"trained": 0, "of": 3}, V0)
    assert api.post("runs/demo/resume", 400)["error"] == "run cannot be 'demo'"
    done = api.post("runs/demo/finish")
    assert (done["run"], done["remark"]) == ("demo", "")
    assert rows.one("select finishing from rlfleet.runs")[0] is True
    assert api.post("runs/none/finish", 404)["error"] == "there is no run none"
