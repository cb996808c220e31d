"""What judges answered and what it cost, in a real database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from db import judgements, trajectories
from db.judgements import Kept, Usage
from db.session import transaction
from rl.scoring import ScoreRow

USAGE = Usage(1000, 50, 0.25)
ANSWER = {"scores": {"a": {"score": 0.5, "explanation": "why"}}}


def reserved(most: float = 1.0, budget: float | None = None) -> str:
    reservation = judgements.reserve("m", most, budget)
    assert reservation is not None
    return reservation


def test_an_answer_takes_the_place_of_its_reservation(fresh: str) -> None:
    reservation = reserved()
    assert judgements.spent_today("m") == 1.0
    judgements.keep(reservation, "sha", "m", ANSWER, USAGE)
    assert judgements.find("sha") == Kept(ANSWER, 0.25)
    assert judgements.spent_today("m") == 0.25
    assert judgements.find("other") is None


def test_of_two_answers_the_first_is_kept_and_both_are_paid_for(fresh: str) -> None:
    first, second = reserved(), reserved()
    judgements.keep(first, "sha", "m", ANSWER, USAGE)
    judgements.keep(second, "sha", "m", {"scores": {}}, Usage(1, 1, 0.5))
    assert judgements.find("sha") == Kept(ANSWER, 0.25)
    assert judgements.spent_today("m") == 0.75


def test_a_useless_answer_is_paid_for_and_an_unmade_call_is_not(fresh: str) -> None:
    judgements.refuse(reserved(), "prose", USAGE)
    judgements.give_back(reserved())
    assert judgements.spent_today("m") == 0.25


def test_a_budget_is_of_one_judge_and_one_day(fresh: str) -> None:
    assert judgements.reserve("m", 0.6, 1.0) is not None
    assert judgements.reserve("m", 0.6, 1.0) is None
    assert judgements.reserve("m", 0.4, 1.0) is not None
    assert judgements.reserve("n", 0.6, 1.0) is not None
    with transaction() as session:
        session.execute(
            text("update rlfleet.judgements set created_at = date_trunc('day', now(), 'UTC') - interval '1 ms'")
        )
    assert judgements.spent_today("m") == 0.0
    assert judgements.reserve("m", 1.0, 1.0) is not None


def test_what_was_said_of_an_erased_trajectory_is_forgotten_and_its_cost_is_not(fresh: str) -> None:
    judgements.keep(reserved(), "sha", "m", ANSWER, USAGE)
    judgements.keep(reserved(), "other", "m", ANSWER, USAGE)
    row = ScoreRow("t1", "judge", "1", "h", 0.5, judge="m", compared_in="sha")
    with transaction() as session:
        session.execute(text("set local session_replication_role = replica"))  # a score without its trajectory
        trajectories.insert_scores(session, [row.row()])
    with transaction() as session:
        assert judgements.erase(session, ["t1", "t9"]) == 1
    assert judgements.find("sha") is None
    assert judgements.find("other") is not None
    assert judgements.spent_today("m") == 0.5


@pytest.mark.parametrize("workers", [8])
def test_workers_together_stay_within_the_budget(fresh: str, workers: int) -> None:
    with ThreadPoolExecutor(workers) as pool:
        got = list(pool.map(lambda _: judgements.reserve("m", 1.0, 5.0), range(workers * 2)))
    assert sum(one is not None for one in got) == 5
    assert judgements.spent_today("m") == 5.0
