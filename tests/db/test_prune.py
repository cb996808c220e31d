from __future__ import annotations

import secrets

import pytest
from sqlalchemy import text

from db import dispatch, lines, prune
from db.session import transaction
from rl.config import LineConfig

pytestmark = pytest.mark.usefixtures("fresh")


def run(statement: str, **values: object) -> list[object]:
    with transaction() as session:
        result = session.execute(text(statement), values)
        return [row[0] for row in result] if result.returns_rows else []


def job(state: str = "dead", days_ago: float = 8, **columns: object) -> int:
    with transaction() as session:
        line = lines.put(session, "main", LineConfig(base_model="/artifacts/jobs/90/fence-3/step-1"))
        made = dispatch.request(session, dispatch.Spec("train", line, {"n": secrets.token_hex(4)}, {}, "gpu"))
    lease = "now() + interval '1 hour'" if state == "running" else "null"
    run(
        f"update rlfleet.jobs set state = :state, finished_at = now() - make_interval(secs => :ago), "  # noqa: S608
        f"lease_until = {lease}, resume = cast(:resume as jsonb) where id = :id",
        state=state,
        ago=days_ago * 86_400,
        resume=columns.get("resume"),
        id=made,
    )
    return made


def test_old_rows_go_and_young_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "BATCH", 2)
    made = job()
    for days in (6, 8, 9, 10):
        run(
            "insert into rlfleet.schedule_slots values (:n, now(), now() - make_interval(days => :d))",
            n=str(days),
            d=days,
        )
    for days in (29, 31):
        run(
            "insert into rlfleet.deliveries (message_id, job_id, outcome, at) "
            "values (:n, :job, 'claimed', now() - make_interval(days => :d))",
            n=str(days),
            job=made,
            d=days,
        )
    for days, sent in ((89, True), (91, True), (88, False), (400, False)):
        run(
            "insert into rlfleet.alerts (name, subject, detail, created_at, sent_at) values "
            "('n', :n, '{}', now() - make_interval(days => :d), "
            "case when :sent then now() - make_interval(days => :d) end)",
            n=str(days),
            sent=sent,
            d=days,
        )
    expected = {"schedule_slots": 3, "deliveries": 1, "alerts": 2}
    assert prune.old_rows() == dict.fromkeys(prune.OLD_ROWS, 0) | expected
    assert run("select name from rlfleet.schedule_slots") == ["6"]
    assert run("select message_id from rlfleet.deliveries") == ["29"]
    assert run("select subject from rlfleet.alerts where name = 'n' order by id") == ["89", "88"]
    assert prune.old_rows() == dict.fromkeys(prune.OLD_ROWS, 0)


def test_only_jobs_that_ended_a_week_ago_are_over() -> None:
    jobs = {state: job(state) for state in ("queued", "running", "succeeded", "failed", "dead", "cancelled")}
    young = job("dead", days_ago=6)
    ids = [*jobs.values(), young, 999_999]
    assert prune.ended(ids) == {jobs[state] for state in ("succeeded", "failed", "dead", "cancelled")}
    assert prune.not_running(ids) == set(ids) - {jobs["running"], 999_999}


def test_a_saved_state_is_forgotten_by_its_row_before_its_folder_goes() -> None:
    resume = '{"path": "/artifacts/jobs/5/fence-2/state-000004", "step": 4, "sha256": ""}'
    old, young, waiting = (
        job("dead", 8, resume=resume),
        job("dead", 6, resume=resume),
        job("queued", 8, resume=resume),
    )
    done = job("succeeded", 0, resume=resume)
    assert prune.forget_states([old, young, waiting, done]) == {old, done}
    assert run("select id from rlfleet.jobs where resume is not null order by id") == [young, waiting]
    assert (5, 2) in prune.named_folders()


def test_every_row_that_points_to_a_folder_is_heard() -> None:
    made = job("succeeded")
    run(
        "insert into rlfleet.checkpoints (job_id, fence, step, kind, uri, base_uri, sha256, metrics) values "
        "(:job, 4, 1, 'adapter', '/elsewhere/jobs/7/fence-1/step-1', '/base/jobs/8/fence-2', '', '{}')",
        job=made,
    )
    assert prune.named_folders() == {(made, 4), (7, 1), (8, 2), (90, 3)}
