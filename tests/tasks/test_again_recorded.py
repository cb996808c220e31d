"""What agents report after their episode was collected and scored: outcomes, and whole episodes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

import tasks
from db import calls, recordings
from db.recordings import End, Start, Step
from db.session import transaction
from rl.late import Late
from rl.scoring_config import Scoring
from tests.tasks.conftest import HOUR
from tests.tasks.late import AGES, first_read, look, scores, window, work
from tests.tasks.rows import add_line, add_window, rows

pytestmark = pytest.mark.usefixtures("fresh")

BY_OUTCOME = Scoring(method="composite", weights={"outcome": 1.0})
RIGHT, WRONG = {"predictionCorrect": True}, {"predictionCorrect": False}
MOMENT = datetime(2025, 1, 15, 12, tzinfo=UTC)


def report(*events: Start | Step | End) -> None:
    with transaction() as session:
        recordings.store(session, list(events))


def step(turn: int, outcome: dict[str, Any] | None = None) -> Step:
    asked = [{"role": "user", "content": "Go."}]
    call = calls.NewCall(f"r/{turn}", "r", turn, "main", "gpt", None, asked, {"role": "assistant", "content": "BUY"})
    action = {"kind": "BUY_SHARES", "parameters": {}, "success": True, "result": None, "error": None}
    return Step("r", turn, at=MOMENT, action=action, outcome=outcome or {}, calls=[call])


def test_outcomes_that_agents_report_after_the_collection_lead_to_new_scores() -> None:
    line = add_line("main", source="recorded://main", scoring=BY_OUTCOME)
    add_window(line, HOUR, "closed")
    report(Start("r", "a", window=HOUR, started_at=MOMENT), step(0), step(1, RIGHT), End("r", MOMENT))
    first_read()
    assert scores() == [("r", 1.0)]

    report(step(0, WRONG))
    assert [look(), look()] == [1, 0]
    assert scores() == [("r", 1.0), ("r", 0.5)]
    report(step(0, WRONG), step(2, WRONG))
    assert [look(), look()] == [1, 0]
    known_of = rows("select turn, body from rlfleet.outcomes order by id")
    assert [tuple(row) for row in known_of] == [(1, RIGHT), (0, WRONG), (2, WRONG)]
    assert scores()[-1] == ("r", pytest.approx(1 / 3))
    leaked = rows("select 1 from rlfleet.turns where details::text like '%predictionCorrect%'")
    assert leaked == [], "what became known lies beside the trajectory, not in it"


def test_an_outcome_that_is_reported_before_the_collection_comes_with_it() -> None:
    line = add_line("main", source="recorded://main", scoring=BY_OUTCOME)
    add_window(line, HOUR, "closed")
    report(Start("r", "a", window=HOUR, started_at=MOMENT), step(0, RIGHT), step(1))
    report(step(0, WRONG), step(1, RIGHT), End("r", MOMENT))
    first_read()
    assert scores() == [("r", 0.5)]
    assert [tuple(row) for row in rows("select turn, body from rlfleet.outcomes order by turn")] == [
        (0, WRONG),
        (1, RIGHT),
    ]
    assert rows("select count(*) from rlfleet.turns") == [(2,)]


def test_an_episode_that_is_reported_late_reopens_its_window() -> None:
    line = line_of_recorded()
    report(Start("r", "a", window=HOUR, started_at=MOMENT), step(0, RIGHT), End("r", MOMENT))
    assert tasks.look_again.run() == "late: asked for 1, rang 1"
    work("collect", "score")
    assert window(line) == ("scored", 1, "1 row came late")
    assert tasks.look_again.run() == "late: asked for 0, rang 0"


def line_of_recorded() -> int:
    """A line whose hour was read before anybody reported anything of it."""
    line = add_line("main", source="recorded://main", late=Late(hours=AGES))
    add_window(line, HOUR, "closed")
    first_read()
    assert window(line)[0] == "skipped"
    return line
