"""What became known after a window was scored: outcomes of its source and of agents, and what people said of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

import tasks
from db import feedback, jobs, lines, planning
from db.feedback import NewFeedback
from db.session import transaction
from rl import planner
from rl.scoring_config import Scoring
from tasks.again import scores_again
from tasks.carry import Lease
from tasks.score import _work as score_work
from tests.tasks.conftest import HOUR, trajectory
from tests.tasks.late import Log, a_day_passes, first_read, known, line_of, look, scores, trained, window, work
from tests.tasks.late import jobs as jobs_of
from tests.tasks.rows import claimed, one, rows

pytestmark = pytest.mark.usefixtures("fresh")

BY_FEEDBACK = Scoring(method="composite", weights={"reward": 1.0, "feedback": 1.0})
BY_OUTCOME = Scoring(method="composite", weights={"outcome": 1.0})
RIGHT, WRONG = {"predictionCorrect": True}, {"predictionCorrect": False}
MOMENT = datetime(2025, 1, 15, 12, tzinfo=UTC)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "agent.jsonl", 0, 1)


def rate(
    key: str, value: float, of: str = "t0", name: str = "rating", call: str | None = None, minute: int = 0
) -> bool:
    """Feedback of that minute; whether it is new."""
    given = NewFeedback(key, None if call else of, call, name, value, at=MOMENT + timedelta(minutes=minute))
    with transaction() as session:
        return feedback.insert(session, [given], MOMENT)[0]


def score_jobs() -> list[dict[str, Any]]:
    return [inputs for inputs, _ in jobs_of("score")]


def test_outcomes_that_the_source_learned_later_become_new_scores_beside_the_old(log: Log) -> None:
    log.write(known(0, {}, RIGHT), known(1, {}, {}))
    line = line_of(log, scoring=BY_OUTCOME, after=(24.0,))
    first_read()
    assert scores() == [("t0", 1.0)], "of t1 nothing is known yet"
    trained(line)
    log.write(known(0, {}, WRONG), known(1, {}, RIGHT))

    assert tasks.look_again.run() == "late: asked for 1, rang 1"
    work("collect")
    assert jobs_of("collect")[-1] == ({"window": HOUR, "after_hours": 24.0}, "succeeded")
    assert window() == ("trained", 0, "made v1")
    assert look() == 1
    assert scores() == [("t0", 1.0), ("t0", 0.0), ("t1", 1.0)]
    assert window() == ("trained", 0, "made v1"), "new scores do not change what was trained on"
    (heeded,) = one("select known from rlfleet.windows")
    assert heeded != 0
    assert score_jobs() == [{"window": HOUR}, {"window": HOUR, "known": heeded}]

    assert tasks.look_again.run() == "late: asked for 1, rang 0", "the same reading, which is done"
    assert look() == 0


def test_an_outcome_that_is_taken_back_counts_again(log: Log) -> None:
    log.write(known(0, {}, RIGHT))
    line_of(log, scoring=BY_OUTCOME)
    first_read()
    heeded = {one("select known from rlfleet.windows")[0]}
    for outcome in (WRONG, RIGHT):
        log.append(known(0, {}, outcome))
        tasks.look_again.run()
        work("collect")
        assert look() == 1
        assert one("select again, state from rlfleet.windows") == (0, "scored")
        heeded.add(one("select known from rlfleet.windows")[0])
    assert len(heeded) == 3
    assert scores() == [("t0", 1.0), ("t0", 0.0), ("t0", 1.0)]
    assert [row[0] for row in rows("select body from rlfleet.outcomes order by id")] == [RIGHT, WRONG, RIGHT]


def test_feedback_is_heeded_once_and_a_correction_of_it_too(log: Log) -> None:
    log.write(trajectory(0))
    line = line_of(log, scoring=BY_FEEDBACK)
    first_read()
    assert scores() == [], "without feedback it would be another mix"
    trained(line)
    assert look() == 0

    assert rate("f1", 1.0)
    assert [look(), look()] == [1, 0]
    assert not rate("f1", 1.0)
    assert look() == 0
    assert rate("f2", 0.0, minute=1)
    assert [look(), look()] == [1, 0]
    assert rate("f3", 1.0, minute=2)
    assert [look(), look()] == [1, 0]
    # (reward 0 + rating) / 2
    assert scores() == [("t0", 0.5), ("t0", 0.0), ("t0", 0.5)], "the newest row says what the newest rating says"
    assert rate("f4", 1.0, minute=3)
    assert [look(), look()] == [1, 0]
    assert len(scores()) == 3, "the same value is the same score"
    first, *later = score_jobs()
    assert first == {"window": HOUR}
    assert len({inputs["known"] for inputs in later}) == len(later) == 4
    assert window() == ("trained", 0, "made v1")


def test_feedback_that_the_scoring_does_not_use_asks_for_nothing(log: Log) -> None:
    line_of(log, scoring=BY_FEEDBACK)
    first_read()
    assert rate("f1", 1.0, name="tone")
    assert look() == 0
    with transaction() as session:
        session.execute(text("update rlfleet.lines set config = config - 'scoring'"))
    assert rate("f2", 1.0)
    assert look() == 0
    assert score_jobs() == [{"window": HOUR}]


def test_feedback_of_a_call_counts_also_where_it_came_before_the_call(log: Log) -> None:
    log.write(trajectory(0))
    assert rate("f1", 1.0, call="t0/0")
    line_of(log, scoring=BY_FEEDBACK)
    first_read()
    assert scores() == [("t0", 0.5)]
    assert one("select known <> 0 from rlfleet.windows") == (True,)
    assert rate("f2", 0.0, call="t0/0", minute=1)
    assert [look(), look()] == [1, 0]
    assert scores()[-1] == ("t0", 0.0)
    with transaction() as session:
        feedback.adopt(session, ["t0/0"])
    assert look() == 0, "whose it is changes nothing"


def test_a_tick_of_the_score_entry_looks_and_rings(log: Log) -> None:
    log.write(trajectory(0))
    line = line_of(log, scoring=BY_FEEDBACK)
    first_read()
    with transaction() as session:
        session.execute(text("update rlfleet.lines set config = config || '{\"automatic\": false}'"))
    rate("f1", 1.0)
    a_day_passes()
    assert tasks.plan.run("score", 10**9) == "score: asked for 1, rang 1"
    assert tasks.plan.run("score", 10**9) == "score: this tick is taken"
    work("score")
    assert (scores(), window(line)[0]) == ([("t0", 0.5)], "scored")


def test_a_window_of_which_nothing_became_known_lately_is_not_looked_at(log: Log) -> None:
    line_of(log, scoring=BY_FEEDBACK)
    first_read()
    rate("f1", 1.0)
    with transaction() as session:
        session.execute(text("update rlfleet.feedback set created_at = now() - interval '49 hours'"))
    assert look() == 0


def test_what_becomes_known_while_scores_are_made_is_heeded_by_the_next(log: Log) -> None:
    log.write(trajectory(0))
    line_of(log, scoring=BY_FEEDBACK)
    first_read()
    rate("f1", 1.0)
    a_day_passes()
    (job,) = scores_again()
    claim = claimed(job)
    effect = score_work(claim, Lease(claim, 60))
    rate("f2", 0.0, minute=1)
    with transaction() as session:
        jobs.finish(session, claim, effect)
    assert [look(), look()] == [1, 0]
    assert scores() == [("t0", 0.5), ("t0", 0.0)]


def test_a_slow_job_that_knew_less_does_not_write_over_a_faster_one(log: Log) -> None:
    log.write(trajectory(0))
    line_of(log, scoring=BY_FEEDBACK)
    first_read()
    rate("f1", 1.0)
    a_day_passes()
    (job,) = scores_again()
    slow = claimed(job)
    effect = score_work(slow, Lease(slow, 60))
    rate("f2", 0.0, minute=1)
    assert look() == 0, "it is being scored"
    ask_for_scores()
    work("score")
    with transaction() as session:
        assert jobs.finish(session, slow, effect)["overtaken"]
    assert scores() == [("t0", 0.0)]
    assert look() == 0


def ask_for_scores() -> None:
    """As a planner does that knows of no patience."""
    with transaction() as session:
        row = lines.named(session, "main")
        state = planning.line_state(session, row)
        planning.request(session, row.id, planner.score(state, state.windows[0], known=1))


def test_of_ratings_that_come_bit_by_bit_one_job_an_hour_is_made(log: Log) -> None:
    line_of(log, scoring=BY_FEEDBACK)
    first_read()
    a_day_passes()
    asked = []
    for number in range(5):
        rate(f"f{number}", 0.5, minute=number)
        asked += scores_again()
    assert len(asked) == 1
    work("score")
    rate("f5", 1.0, minute=5)
    assert scores_again() == []
    assert [look(), look()] == [1, 0]
    assert len(score_jobs()) == 3
    assert scores()[-1] == ("t0", 0.5)


def test_a_look_that_dies_in_the_middle_is_made_up_for_by_the_next(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line_of(log, scoring=BY_FEEDBACK)
    line_of(Log(tmp_path / "other.jsonl", 5), "other", scoring=BY_FEEDBACK)
    first_read()
    rate("f1", 1.0)
    rate("f2", 1.0, of="t5")
    request, seen = planning.request, []

    def dies(*values: Any, **fields: Any) -> int:
        seen.append(values)
        if len(seen) == 2:
            raise SystemExit
        return request(*values, **fields)

    with monkeypatch.context() as patch:
        patch.setattr(planning, "request", dies)
        a_day_passes()
        with pytest.raises(SystemExit):
            scores_again()
    assert [look(), look()] == [1, 0], "what was asked for before is done with it"
    assert sorted(scores()) == [("t0", 0.5), ("t5", 3.0)]
