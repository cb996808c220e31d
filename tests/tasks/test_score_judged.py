"""The job that scores a window by a judge that fails for all, for some, or for today, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

import tasks
from db import jobs
from db.session import transaction
from rl.errors import InvalidSettings
from rl.scoring_config import Judge, Scoring
from tests.tasks import rows
from tests.tasks.conftest import HOUR
from tests.tasks.judge_double import (
    WORTHS,
    Reply,
    Stand,
    completion,
    failing,
    honest,
    ids_and_scores,
    judging_here,
    said,
    trajectory,
)
from tests.tasks.test_judge_faults import store

pytestmark = pytest.mark.usefixtures("fresh")

SIX = {f"{scenario}{name}": worth for scenario in "AB" for name, worth in WORTHS.items()}
PRICED = {"prompt_price": 1.0, "completion_price": 1.0, "max_tokens": 100_000}
"""A call costs little more than 0.1 at most, and just that where the judge does not say what it took."""


@pytest.fixture
def stand(fresh: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    with judging_here(monkeypatch) as one:
        yield one


def asked(**judge: Any) -> int:
    """The job that scores an hour of two scenarios with three trajectories each."""
    line = rows.add_line()
    store(line, [trajectory(name, worth, f"of {name[0]}", scenario_id=name[0]) for name, worth in SIX.items()])
    scoring = Scoring(method="judge", judge=Judge(model="judge-1", attempts=1, **judge))
    return rows.asked(line, inputs={"window": HOUR}, config={"scoring": scoring.model_dump(mode="json")})


def tried(job: int) -> tuple[str, int, str, str]:
    """State and attempt of the job after it was due and done once more, its error, and the window's state."""
    with transaction() as session:
        session.execute(text("update rlfleet.jobs set run_at = now()"))
    tasks.score.run(job)
    state, attempt, error = rows.one("select state, attempt, error from rlfleet.jobs where id = :id", id=job)
    return state, attempt, error or "", rows.one("select state from rlfleet.windows")[0]


def stored() -> dict[str, float]:
    return dict(tuple(one) for one in rows.rows("select trajectory_id, score from rlfleet.scores"))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_judge_that_turns_everything_down_fails_the_job_until_somebody_mends_it(stand: Stand, status: int) -> None:
    job = asked()
    stand.behaviour = lambda *_: failing(status)
    with pytest.raises(InvalidSettings, match=f"answered {status}.*RLFLEET_JUDGE_KEY.*`rlfleet jobs requeue {job}`"):
        tried(job)
    assert rows.one("select j.state, w.state from rlfleet.jobs j, rlfleet.windows w") == ("failed", "collected")
    assert stored() == {}
    assert rows.one("select subject from rlfleet.alerts where name = 'job_failed'") == (f"job {job}",)

    stand.behaviour = honest
    requeue(job)
    assert tried(job) == ("succeeded", 1, "", "scored")
    assert stored() == SIX


def requeue(job: int) -> None:
    assert jobs.requeue(job)


def test_a_question_that_is_forbidden_leaves_its_group_alone_without(stand: Stand) -> None:
    job = asked(concurrency=1)
    stand.behaviour = lambda body, number: failing(403) if number == 1 else honest(body, number)
    assert tried(job) == ("succeeded", 1, "", "scored")
    assert len(stored()) == 3
    assert stored().items() <= SIX.items()


def test_a_key_that_stopped_working_halfway_leaves_no_half_scored_window(stand: Stand) -> None:
    """What was paid for before is kept."""
    job = asked(concurrency=1)
    stand.behaviour = lambda body, number: honest(body, number) if number == 1 else failing(401)
    with pytest.raises(InvalidSettings, match="3 of 6 trajectories of 2025-01-15T10:00 have no score"):
        tried(job)
    assert stored() == {}
    stand.behaviour = honest
    requeue(job)
    assert tried(job)[0] == "succeeded"
    assert (stored(), len(stand.asked)) == (SIX, 3)


def first_fails(body: dict[str, Any], number: int) -> Reply:
    return failing(503) if number == 1 else honest(body, number)


def test_a_judge_that_is_away_for_some_is_asked_again_and_only_about_them(stand: Stand) -> None:
    job = asked()
    stand.behaviour = first_fails
    state, attempt, error, window = tried(job)
    assert (state, attempt, window) == ("queued", 1, "collected")
    assert error == "EngineUnavailable: 3 of 6 trajectories of 2025-01-15T10:00 have no score: " + (
        "the judge answered 503 (out_of_order), 1 times"
    )
    assert stored() == {}
    assert tried(job) == ("succeeded", 2, "", "scored")
    assert (stored(), len(stand.asked)) == (SIX, 3)


def test_the_last_attempt_takes_what_there_is(stand: Stand) -> None:
    job = asked()
    stand.behaviour = lambda body, number: honest(body, number) if "of A" in str(body) else failing(503)
    assert [tried(job)[:2] for _ in range(3)] == [("queued", 1), ("queued", 2), ("succeeded", 3)]
    assert len(stored()) == 3
    result = rows.one("select result from rlfleet.jobs where id = :id", id=job)[0]
    assert result["without"] == {"the judge answered 503 (out_of_order), 1 times": 3}
    assert rows.one("select state from rlfleet.windows") == ("scored",)


def test_a_judge_that_is_away_for_all_kills_the_job_visibly(stand: Stand) -> None:
    job = asked()
    stand.behaviour = lambda *_: failing(503)
    assert [tried(job)[:2] for _ in range(3)] == [("queued", 1), ("queued", 2), ("dead", 3)]
    assert rows.one("select state from rlfleet.windows") == ("collected",)


def test_a_spent_budget_is_waited_for_until_the_next_day(stand: Stand) -> None:
    """Of two calls the day has room for one, also on a second look; a new day has room for the other."""
    stand.behaviour = lambda body, _: completion(said(ids_and_scores(body)), usage=None)
    job = asked(daily_budget=0.15, **PRICED)
    [first, second, third] = [tried(job) for _ in range(3)]
    assert [first[:2], second[:2]] == [("queued", 1), ("queued", 2)]
    assert "the daily budget of 0.15 for judge-1 has no room" in first[2]
    assert (third[0], third[1], third[3]) == ("queued", 0, "collected"), "the attempts are those of another day"
    midnight = "select run_at = date_trunc('day', now(), 'UTC') + interval '1 day' from rlfleet.jobs where id = :id"
    assert rows.one(midnight, id=job) == (True,)
    assert (stored(), len(stand.asked)) == ({}, 1)

    with transaction() as session:
        session.execute(text("update rlfleet.judgements set created_at = created_at - interval '1 day'"))
    assert tried(job) == ("succeeded", 1, "", "scored")
    assert (stored(), len(stand.asked)) == (SIX, 2)


def test_a_budget_that_is_less_than_one_call_is_to_be_raised(stand: Stand) -> None:
    job = asked(daily_budget=0.05, **PRICED)
    with pytest.raises(InvalidSettings, match=r"raise judge\.daily_budget"):
        tried(job)
    assert stand.asked == []
