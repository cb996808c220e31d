"""The method ``ruler``: our groups, ledger and rows, ART's way of asking."""

from __future__ import annotations

import asyncio
import importlib.util

import pytest

from backends import ruler
from db import judgements
from db.session import transaction
from db.tables.trajectories import Judgement
from rl.errors import InvalidInput
from rl.judge_answers import Verdict
from rl.judging import split
from rl.scoring import NoScore, ScoreRow
from rl.scoring_config import Judge, Scoring
from tasks.judge import judge
from tasks.judge_client import Failure, Judged
from tasks.judge_ruler import _asked, _taken
from tasks.judge_settings import judge_settings
from tests.tasks.judge_double import completion, failing, ids_and_scores_of_art, said, standing, state, trajectory
from tests.tasks.rows import within_a_period

needs_art = pytest.mark.skipif(importlib.util.find_spec("art") is None, reason="rlfleet[art] is not installed")
JUDGE = Judge(model="judge-1", prompt_price=1.0)


@pytest.fixture(autouse=True)
def _empty(database: str) -> None:
    within_a_period(86_400)  # what was spent is told of a day
    with transaction() as session:
        session.query(Judgement).delete()


@needs_art
@pytest.mark.slow
def test_rows_of_art_are_like_those_of_our_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    good = [trajectory("t1", 0.1), trajectory("t2", 0.9), trajectory("t3", 0.9)]
    bad = [trajectory("u1", 0.1, "broken"), trajectory("u2", 0.9)]
    beats: list[tuple[int, int]] = []
    config = Scoring(method="ruler", judge=JUDGE)
    with standing() as stand:
        stand.behaviour = lambda body, _: (
            failing(500) if "broken" in str(body) else completion(said(ids_and_scores_of_art(body)), (600_000, 0))
        )
        monkeypatch.setenv("RLFLEET_JUDGE_URL", stand.url)
        judge_settings.cache_clear()
        rows = asyncio.run(judge([good, bad], config, judgements, lambda _, done, total: beats.append((done, total))))
        again = asyncio.run(judge([good], config, judgements, lambda *_: None))
    judge_settings.cache_clear()
    scored = {row.trajectory_id: row for row in rows if isinstance(row, ScoreRow)}
    assert {name: row.score for name, row in scored.items()} == {"t1": 0.1, "t2": 0.9, "t3": 0.9}
    assert {(row.method, row.judge) for row in scored.values()} == {("ruler", "judge-1")}
    assert [row.cost for row in scored.values()] == pytest.approx([0.2] * 3)
    assert {row.trajectory_id for row in rows if isinstance(row, NoScore) and row.transient} == {"u1", "u2"}
    assert beats[-1] == (2, 2)
    assert again == list(scored.values())
    assert len(stand.asked) == 2


def test_the_budget_holds_before_the_child_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ruler, "require_art", lambda: None)
    monkeypatch.setenv("RLFLEET_JUDGE_URL", "http://127.0.0.1:9/v1")
    judge_settings.cache_clear()
    config = Scoring(method="ruler", judge=JUDGE.model_copy(update={"daily_budget": 0.0}))
    rows = asyncio.run(judge([[trajectory("t1", 0.1), trajectory("t2", 0.9)]], config, judgements, lambda *_: None))
    judge_settings.cache_clear()
    assert all(isinstance(row, NoScore) and "has no room" in row.reason for row in rows)


def test_without_art_nothing_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("RLFLEET_JUDGE_URL", "http://127.0.0.1:9/v1")
    judge_settings.cache_clear()
    config = Scoring(method="ruler", judge=JUDGE)
    with pytest.raises(InvalidInput, match="rlfleet"):
        asyncio.run(judge([[trajectory("t1", 0.1), trajectory("t2", 0.9)]], config, judgements, lambda *_: None))
    judge_settings.cache_clear()
    assert judgements.spent_today("judge-1") == 0.0


def test_an_outcome_is_written_down() -> None:
    [group], _ = split([trajectory("t1", 0.1), trajectory("t2", 0.9)], JUDGE, "ruler")
    first, second = (view.sha256 for view in group.views)
    given = {"scores": {first: 0.25, second: 1.0}, "explanations": {first: "a", second: "b"}}

    def reserved() -> tuple[str, object, float]:
        reservation = judgements.reserve("judge-1", 0.5, None)
        assert reservation is not None
        return reservation, group, 0.5

    unpaid = ruler.Failed(name=group.sha256, reason="no key", asked=False)
    assert _taken(unpaid, reserved(), JUDGE, judgements) == Failure("no key")  # type: ignore[arg-type]
    assert judgements.spent_today("judge-1") == 0.0
    known = ruler.Scores(name=group.sha256, prompt_tokens=100_000, completion_tokens=9, **given)  # type: ignore[arg-type]
    judged = _taken(known, reserved(), JUDGE, judgements)  # type: ignore[arg-type]
    assert judged == Judged({first: Verdict(0.25, "a"), second: Verdict(1.0, "b")}, 0.1)
    kept = judgements.find(group.sha256)
    assert kept is not None
    assert Judged.of(kept) == judged
    unknown = ruler.Failed(name=group.sha256, reason="prose")
    assert _taken(unknown, reserved(), JUDGE, judgements) == Failure("prose")  # type: ignore[arg-type]
    assert judgements.spent_today("judge-1") == pytest.approx(0.6)


def test_art_is_shown_messages_of_the_roles_that_it_knows() -> None:
    played = trajectory("t1", calls=[], turns=[state(0, state={"price": 3})])
    [group], _ = split([played, trajectory("t2", 0.9)], JUDGE, "ruler")
    asked = _asked(group, JUDGE)
    assert asked.name == group.sha256
    roles = {message["role"] for messages in asked.trajectories.values() for message in messages}
    assert roles == {"system", "user", "assistant"}
    assert "t1" not in asked.model_dump_json()
