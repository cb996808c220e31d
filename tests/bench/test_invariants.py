"""The judge must see what is broken: each invariant is broken by hand in a real database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from bench.faults.invariants import Event, check, fences_grow, recovers, replays
from db import dispatch, jobs
from db.session import transaction
from tests.conftest_database import add_line, add_version, empty

Broken = Callable[[], set[str]]


def rows(statement: str, **values: object) -> list[Any]:
    with transaction() as session:
        return list(session.execute(text(statement), values))


def do(*statements: str) -> None:
    with transaction() as session:
        for statement in statements:
            session.execute(text(statement))


@pytest.fixture
def broken(database: str, tmp_path: Path) -> Broken:
    """Which invariants do not hold now; at first there is one training that succeeded, and they all hold."""
    with transaction() as session:
        empty(session)
        line = add_line(session)
        add_version(session, line)
    job_id = int(rows("select id from rlfleet.jobs")[0][0])
    claim = jobs.claim(job_id, "a test", 60)
    assert claim is not None
    with transaction() as session:
        jobs.finish(session, claim, lambda _: {})

    def found() -> set[str]:
        verdicts = check(rows, tmp_path / "journal", None, 10)
        return {name for name, complaints in verdicts.items() if complaints}

    assert found() == set()
    return found


def test_a_job_that_has_not_ended_breaks_i1(broken: Broken) -> None:
    with transaction() as session:
        line_id = int(session.execute(text("select id from rlfleet.lines")).scalar_one())
        dispatch.request(session, dispatch.Spec("score", line_id, {"window": "w"}, {}, "score"))
    assert broken() == {"I1"}


@pytest.mark.parametrize("state", ["failed", "dead", "cancelled"])
def test_a_job_that_waits_for_one_without_success_counts_as_ended(broken: Broken, state: str) -> None:
    jobs = {"collect": None, "score": "collect", "train": "score"}
    for kind, before in jobs.items():
        do(
            f"""insert into rlfleet.jobs (kind, line_id, dedup_key, queue, inputs, config, after)
                select '{kind}', id, 'waits', '{kind}', '{{"window": "w", "windows": ["w"]}}', '{{}}',
                       array(select id from rlfleet.jobs where kind = '{before}' and dedup_key = 'waits')
                  from rlfleet.lines"""  # noqa: S608 - names of this test
        )
    assert broken() == {"I1"}
    if state != "cancelled":
        do(
            """update rlfleet.jobs set state = 'running', fence = 1, attempt = 1, lease_until = now()
                where kind = 'collect'"""
        )
    assert broken() == {"I1"}
    do(f"update rlfleet.jobs set state = '{state}', lease_until = null where kind = 'collect'")  # noqa: S608
    assert broken() == set()


def test_every_request_has_one_training_job(broken: Broken) -> None:
    do("""update rlfleet.jobs set inputs = '{"windows": ["v", "w"]}'""")

    def complaints(*windows: str) -> list[str]:
        line = rows("select name from rlfleet.lines")[0][0]
        found = check(rows, Path("nowhere"), None, 10, [(line, window) for window in windows])["I1"]
        return [one.replace(line, "LINE") for one in found]

    assert complaints("v", "w") == []
    assert complaints("w", "x") == ["0 training jobs for the request of LINE x"]
    do("""insert into rlfleet.jobs (kind, line_id, dedup_key, queue, inputs, config, state)
          select kind, line_id, 'another', queue, '{"windows": ["w"]}', config, 'cancelled' from rlfleet.jobs""")
    assert complaints("v", "w") == ["2 training jobs for the request of LINE w"]
    do("truncate rlfleet.jobs cascade")
    assert complaints("w") == ["0 training jobs for the request of LINE w"]


@pytest.mark.parametrize(
    "statement",
    ["delete from rlfleet.versions", "update rlfleet.versions set fence = 2"],
    ids=["an effect that is lost", "an effect of another fence"],
)
def test_what_is_wrong_with_an_effect_breaks_i2(broken: Broken, statement: str) -> None:
    do(statement)
    assert broken() == {"I2"}


def test_trajectories_and_scores_are_counted_too(broken: Broken) -> None:
    do(
        "insert into rlfleet.windows (line_id, name, state) select id, 'w', 'scored' from rlfleet.lines",
        """insert into rlfleet.jobs (kind, line_id, dedup_key, queue, inputs, config, state, result)
           select kind, l.id, kind, kind, jsonb_build_object('window', 'w'), '{}', 'succeeded',
                  jsonb_build_object('trajectories', 1, 'scored', 1)
             from rlfleet.lines l, unnest(array['collect', 'score']) kind""",
    )
    complaints = check(rows, Path("nowhere"), None, 10)["I2"]
    assert [complaint.split(" ", 2)[2] for complaint in complaints] == [
        "collect succeeded: 0 trajectories stored, its result says 1",
        "score succeeded: 0 score rows on 0 trajectories, its result says 1",
    ]


def test_more_attempts_than_allowed_break_i4(broken: Broken) -> None:
    do("update rlfleet.job_events set attempt = 4 where to_state = 'running'")
    assert broken() == {"I4"}


def test_a_row_that_its_history_does_not_lead_to_breaks_i6(broken: Broken) -> None:
    do("delete from rlfleet.job_events where to_state = 'succeeded'")
    assert broken() == {"I6"}


def event(came_from: str | None, state: str, fence: int, attempt: int = 0) -> Event:
    return Event(7, came_from, state, fence, attempt)


def test_a_fence_grows_by_one_on_every_claim_and_never_else() -> None:
    good = [event(None, "queued", 0), event("queued", "running", 1), event("running", "running", 2)]
    assert fences_grow(good) == []
    assert fences_grow([*good, event("running", "queued", 3)]) == ["job 7: fence 2 then 3 on running -> queued"]
    assert fences_grow([*good, event("running", "running", 2)]) == ["job 7: fence 2 then 2 on running -> running"]


def test_a_history_has_no_gap_and_no_transition_of_its_own() -> None:
    assert replays([event(None, "queued", 0), event("queued", "running", 1), event("running", "dead", 1)]) == []
    assert replays([event(None, "queued", 0), event("running", "dead", 0)]) == [
        "job 7: an event from running after one to queued"
    ]
    assert replays([event(None, "queued", 0), event("queued", "dead", 0)]) == ["job 7: queued -> dead does not exist"]


def test_recovery_has_a_bound_where_a_holder_dies() -> None:
    assert recovers(None, 10) == recovers(9.9, 10) == []
    assert recovers(10.1, 10) == ["claimed again 10.1 s after the fault, more than 10 s"]
