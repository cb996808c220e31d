"""What a scrape says of rows that tests made, over real HTTP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as families

from admin import metrics
from db import alerts, counted, job_views, jobs, mirrors, pauses, prune, publications, workers
from db import metrics as rows_of
from db import settings as db_settings
from db.job_states import State
from db.jobs import Claim
from db.session import transaction
from rl.errors import DatabaseUnavailable
from tests.admin.conftest import Client
from tests.tasks.rows import add_line, asked, claimed, rows

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(client: httpx.Client) -> Values:
    answer = client.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in families(answer.text)
        for one in family.samples
    }


def value(found: Values, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def lost(job_id: int) -> None:
    """The job's holder is silent until its lease has run out, and the reaper has seen it."""
    rows("update rlfleet.jobs set lease_until = now() - interval '1 s' where id = :id returning 1", id=job_id)
    assert jobs.reap() == [job_id]
    rows("update rlfleet.jobs set run_at = now() where id = :id returning 1", id=job_id)


def finished(claim: Claim) -> None:
    with transaction() as session:
        jobs.finish(session, claim, lambda _: {})


def test_a_token_is_needed_and_a_viewers_is_enough(client: Client, viewer: httpx.Client) -> None:
    answer = client().get("/metrics")
    assert (answer.status_code, answer.json()["error"]) == (401, "no token")
    assert viewer.get("/metrics").status_code == 200


def test_an_empty_fleet_has_no_worker_and_no_job(viewer: httpx.Client) -> None:
    found = scrape(viewer)
    queues = ("collect", "gpu", "maint", "score")
    assert [value(found, "rlfleet_queue_capacity", queue=queue) for queue in queues] == [0, 0, 0, 0]
    assert value(found, "rlfleet_gpu_idle_queued_seconds") == 0
    assert value(found, "rlfleet_schema_info", revision=rows("select version_num from rlfleet.alembic_version")[0][0])
    page = (Path(__file__).parents[2] / "docs/monitoring.md").read_text()
    (always,) = re.findall(r"An empty fleet shows ([^;]+);", page)
    assert {name for name, _ in found} == set(re.findall(r"`(\w+)`", always)) <= metrics.NAMES


def test_queues_and_holders(viewer: httpx.Client) -> None:
    line = add_line()
    first, second, running, trains = (
        asked(line), asked(line), asked(line, kind="decide", queue="maint"), asked(line, kind="train", queue="gpu")
    )  # fmt: skip
    asked(line, after=(first,))
    paused = asked(line, kind="collect", queue="collect")
    pauses.pause("collect", "a test")
    claimed(running)
    rows(
        "update rlfleet.jobs set run_at = now() - interval '90 s' where id in (:a, :b) returning 1", a=second, b=trains
    )
    rows("update rlfleet.jobs set heartbeat_at = now() - interval '40 s' where id = :id returning 1", id=running)
    workers.announce("gpu0@here", ["gpu"], 1, "gpu0", 1)
    found = scrape(viewer)
    assert paused
    assert value(found, "rlfleet_queue_due_jobs", queue="score", kind="score") == 2
    assert value(found, "rlfleet_queue_due_jobs", queue="collect", kind="collect") is None
    assert 90 <= (value(found, "rlfleet_queue_oldest_due_seconds", queue="score", kind="score") or 0) < 150
    assert 40 <= (value(found, "rlfleet_job_heartbeat_lag_seconds", queue="maint", kind="decide") or 0) < 100
    assert 90 <= (value(found, "rlfleet_gpu_idle_queued_seconds") or 0) < 150
    assert value(found, "rlfleet_jobs", kind="score", queue="score", state="queued") == 3
    assert value(found, "rlfleet_jobs", kind="decide", queue="maint", state="running") == 1
    assert value(found, "rlfleet_queue_capacity", queue="gpu") == 1
    assert (value(found, "rlfleet_worker_seen_seconds", worker="gpu0@here", device="gpu0") or 0) < 60
    assert value(found, "rlfleet_kind_paused", kind="collect") == 1
    jobs.heartbeat(claimed(trains), 60)
    found = scrape(viewer)
    assert value(found, "rlfleet_gpu_idle_queued_seconds") == 0
    assert (value(found, "rlfleet_job_heartbeat_lag_seconds", queue="gpu", kind="train") or 0) < 60


def test_a_job_that_is_put_aside_ended_once(viewer: httpx.Client) -> None:
    line = add_line()
    dead, queued, running, done = (asked(line, max_attempts=1) for _ in range(4))
    jobs.fail(claimed(dead), "Broken: a test", retry=True)
    jobs.cancel(dead)
    jobs.cancel(queued)
    claim = claimed(running)
    jobs.cancel(running)
    jobs.end_cancelled(claim)
    finished(claimed(done))
    for add_up in (False, True):
        if add_up:
            counted.add_up(settle_seconds=0)
        found = scrape(viewer)
        ended = {one: value(found, "rlfleet_jobs_ended_total", kind="score", outcome=one) for one in metrics.ENDED}
        assert ended == {"succeeded": 1, "failed": 0, "dead": 1, "cancelled": 2}
        there = {one: value(found, "rlfleet_jobs", kind="score", queue="score", state=one) for one in metrics.ENDED}
        assert there == {"succeeded": 1, "failed": None, "dead": None, "cancelled": 3}
        assert job_views.counts() == dict.fromkeys(State, 0) | {"succeeded": 1, "cancelled": 3}


def test_a_line_trains_one_at_a_time(viewer: httpx.Client) -> None:
    line, other = add_line(), add_line("other")
    runs, _, third = (asked(one, kind="train", queue="gpu") for one in (line, line, other))
    claim = claimed(runs)
    due = {"queue": "gpu", "kind": "train"}
    assert value(scrape(viewer), "rlfleet_queue_due_jobs", **due) == 1, "of the other line"
    claimed(third)
    assert value(scrape(viewer), "rlfleet_queue_due_jobs", **due) is None
    jobs.release(claim, "the worker is going down")
    assert value(scrape(viewer), "rlfleet_queue_due_jobs", **due) == 1, "the two that wait are of one line"


def test_a_job_that_a_person_requeued_was_not_recovered(viewer: httpx.Client) -> None:
    job_id = asked(add_line(), max_attempts=1)
    claimed(job_id)
    rows("update rlfleet.jobs set lease_until = now() - interval '1 s' where id = :id returning 1", id=job_id)
    assert jobs.reap() == [job_id]
    assert jobs.requeue(job_id)
    claimed(job_id)
    found = scrape(viewer)
    assert value(found, "rlfleet_leases_lost_total", kind="score") == 1
    assert value(found, "rlfleet_job_recovery_seconds_count", kind="score") == 0


def test_counters_do_not_fall_when_their_rows_are_added_up_or_removed(viewer: httpx.Client) -> None:
    job_id = asked(add_line())
    claim = jobs.claim(job_id, "one", 60, "message 1")
    assert claim
    assert jobs.claim(job_id, "two", 60, "message 2") is None, "a double"
    lost(job_id)
    rows("update rlfleet.job_events set at = at - interval '7 s' where reason = 'the lease ran out' returning 1")
    again = jobs.claim(job_id, "two", 60, "message 3")
    assert again
    finished(again)
    expected: Mapping[tuple[str, str], float] = {
        ("rlfleet_messages_total", "claimed"): 2,
        ("rlfleet_messages_total", "skipped"): 1,
        ("rlfleet_jobs_ended_total", "succeeded"): 1,
        ("rlfleet_jobs_ended_total", "dead"): 0,
    }

    def counts(twice: int = 1) -> None:
        found = scrape(viewer)
        for (name, outcome), number in expected.items():
            assert value(found, name, kind="score", outcome=outcome) == twice * number
        assert value(found, "rlfleet_leases_lost_total", kind="score") == twice
        assert value(found, "rlfleet_job_recovery_seconds_count", kind="score") == twice
        assert 7 <= (value(found, "rlfleet_job_recovery_seconds_sum", kind="score") or 0) / twice < 60

    counts()
    counted.add_up()
    counts()
    assert rows("select * from rlfleet.totals") == [], "rows of the last hour may not be all there yet"
    counted.add_up(settle_seconds=0)
    assert rows("select counter from rlfleet.totals where counter = 'recoveries'") != []
    counts()
    rows("update rlfleet.deliveries set at = at - interval '31 days' returning 1")
    assert prune.old_rows()["deliveries"] == 3
    counts()
    rows("update rlfleet.totals set value = 2 * value where counter <> '' returning 1")
    counts(twice=2)


def test_deliveries_that_are_not_counted_yet_are_not_removed(viewer: httpx.Client) -> None:
    job_id = asked(add_line())
    jobs.claim(job_id, "one", 60, "message 1")
    rows("update rlfleet.deliveries set at = at - interval '31 days' returning 1")
    rows("insert into rlfleet.counted values ('deliveries', 0) returning 1")
    with transaction() as session:
        session.execute(prune.OLD_ROWS["deliveries"], {"batch": 10})
    assert value(scrape(viewer), "rlfleet_messages_total", kind="score", outcome="claimed") == 1


def test_a_claim_that_takes_a_lost_job_over_is_a_lost_lease(viewer: httpx.Client) -> None:
    job_id = asked(add_line())
    claimed(job_id)
    rows("update rlfleet.jobs set lease_until = now() - interval '1 s' where id = :id returning 1", id=job_id)
    claimed(job_id)
    found = scrape(viewer)
    assert value(found, "rlfleet_leases_lost_total", kind="score") == 1
    assert value(found, "rlfleet_job_recovery_seconds_count", kind="score") == 0


def test_alerts_that_wait(viewer: httpx.Client) -> None:
    with transaction() as session:
        alerts.record(session, "COLLAPSE", "v1", {})
        alerts.record(session, "queue_old", "gpu", {})
        alerts.settled(session, "queue_old", "gpu")
    rows("update rlfleet.alerts set created_at = now() - interval '2 hours' returning 1")
    found = scrape(viewer)
    assert value(found, "rlfleet_alerts_waiting", alert="COLLAPSE") == 1
    assert value(found, "rlfleet_alert_oldest_waiting_seconds", alert="COLLAPSE") == 0, "no receiver was asked"
    (tried,) = alerts.take_due(1)
    alerts.failed(tried.alert_id, "it answered 500")
    found = scrape(viewer)
    assert value(found, "rlfleet_alerts_waiting", alert="queue_old") == 0
    assert 7200 <= (value(found, "rlfleet_alert_oldest_waiting_seconds", alert="COLLAPSE") or 0) < 7300
    assert value(found, "rlfleet_alerts_last_day", alert="queue_old") == 1


def test_names_follow_the_conventions(viewer: httpx.Client) -> None:
    """What promtool checks: help, counters end in _total and nothing else does, base units, no type in a name."""
    add_line()
    asked(1)
    for family in open_metrics(viewer.get("/metrics", headers={"Accept": "application/openmetrics-text"}).text):
        assert family.documentation, family.name
        assert not any(word in family.name for word in ("milli", "percent", "gauge", "counter", "minutes", "hours"))
        samples = {sample.name for sample in family.samples}
        assert all(name.endswith("_total") == (family.type == "counter") for name in samples), samples
        assert (family.type == "summary") == any(name.endswith("_sum") for name in samples)


def test_a_database_that_is_away_is_a_503(viewer: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise DatabaseUnavailable("the database did not answer: connection refused")

    monkeypatch.setattr("admin.api.metrics.snapshot", away)
    answer = viewer.get("/metrics")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_a_scrape_writes_nothing_and_is_bounded(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import DBAPIError

    assert db_settings.settings().sqlalchemy_url
    slow = {"jobs": "select pg_sleep(20)"}
    monkeypatch.setattr(rows_of, "QUERIES", slow)
    with pytest.raises(DatabaseUnavailable, match="statement timeout"):
        rows_of.snapshot(patience=0.05)
    monkeypatch.setattr(rows_of, "QUERIES", {str(number): "select pg_sleep(0.2)" for number in range(10)})
    with pytest.raises(DatabaseUnavailable, match="statement timeout"):
        rows_of.snapshot(patience=0.5)
    monkeypatch.setattr(rows_of, "QUERIES", {"jobs": "delete from rlfleet.jobs returning 1"})
    with pytest.raises((DBAPIError, DatabaseUnavailable), match="read-only"):
        rows_of.snapshot()


def test_places_that_are_behind_are_shown_until_they_have_caught_up(viewer: httpx.Client) -> None:
    with transaction() as session:
        mirrors.note(session, "tensorboard", "training", 7)
        for job in (7, 8):
            mirrors.failed(session, "wandb", "training", job, "no answer")
    rows("update rlfleet.mirrors set failed_at = now() - interval '60 s' where ref = 8 returning 1")
    found = scrape(viewer)
    assert value(found, "rlfleet_mirror_waiting", target="wandb") == 2
    assert 0 <= value(found, "rlfleet_mirror_last_error_seconds", target="wandb") < 60
    assert not any("tensorboard" in str(one) for one in found)
    with transaction() as session:
        publications.ask(session, 9, "acme/model", {})
    found = scrape(viewer)
    assert value(found, "rlfleet_mirror_waiting", target="hub:acme/model") == 1
    assert value(found, "rlfleet_mirror_last_error_seconds", target="hub:acme/model") is None, "it was not tried yet"
    rows("delete from rlfleet.mirrors where options is not null returning 1")
    with transaction() as session:
        for job in (7, 8):
            mirrors.note(session, "wandb", "training", job)
    assert not any("rlfleet_mirror_waiting" in str(one) for one in scrape(viewer))
