"""Rounds whose player is rejected while they are played: they are given up, and their runs go on or can be ended."""

from __future__ import annotations

import pytest

from db import lines, planning, releases, runs, windows
from db.session import transaction
from rl.errors import NoTrainingData, PermanentError
from rl.line_state import OpenRound
from rl.planner import plan
from tasks.carry import Lease
from tasks.requests import request
from tasks.rollout import from_rollout
from tasks.score import _work as score
from tasks.training import train_on
from tests.gateway.conftest import world
from tests.tasks.rollout_double import WINDOW, Round
from tests.tasks.rows import claimed, one, rows
from tests.tasks.test_rollout import Make, make, make_due

__all__ = ["make", "world"]


def reject(round_: Round) -> None:
    """Who plays the round is rejected, and is no version that the run began at."""
    rows(
        "update rlfleet.runs set base_version_id = :other, config = jsonb_set(config, '{rounds}', '2') returning 1",
        other=round_.world.versions[1].id,
    )
    rows("update rlfleet.versions set state = 'rejected' where name = :name returning 1", name=round_.world.names[0])


def reason() -> str | None:
    found: str | None = one("select reason from rlfleet.windows where name = :name", name=WINDOW)[0]
    return found


def test_a_round_that_lost_its_player_is_skipped_and_the_run_opens_the_next(make: Make) -> None:
    round_ = make(scenarios=6, shard=2)
    first, second, third = round_.jobs
    round_.play(first)
    reject(round_)
    asked = len(round_.engine.asked)
    player = round_.world.names[0]
    left = {"trajectories": 0, "failed": 0, "policy": player, "success": None}
    assert round_.play(second) == left | {"skipped": True}
    assert (round_.state(), reason()) == ("skipped", f"its player {player} was rejected")
    assert round_.play(third) == left, "it is given up once"
    assert (len(round_.engine.asked), round_.state()) == (asked, "skipped")
    with transaction() as session:
        wanted = list(plan(planning.line_state(session, lines.named(session, "main"))))
        assert [one.window for one in wanted if isinstance(one, OpenRound)] == ["run/demo/0002"]


def test_a_shard_that_ends_after_its_round_was_given_up_leaves_it_alone(make: Make) -> None:
    round_ = make(shard=2)
    first, second = round_.jobs
    claim = claimed(first)
    effect = from_rollout(claim, Lease(claim, 60))
    reject(round_)
    round_.play(second)
    assert round_.finish(claim, effect)["trajectories"] == 4
    assert (round_.state(), len(round_.stored())) == ("skipped", 4)


def test_a_round_of_which_nothing_is_missing_is_handed_on_whoever_was_rejected(make: Make) -> None:
    round_ = make()
    (job_id,) = round_.jobs
    claim = claimed(job_id)
    from_rollout(claim, Lease(claim, 60))
    reject(round_)
    make_due(job_id)
    assert round_.play(job_id)["trajectories"] == 8
    assert round_.state() == "collected"


def test_a_round_of_which_nothing_was_played_finds_another_player(make: Make) -> None:
    round_ = make()
    reject(round_)
    assert round_.play(round_.jobs[0])["policy"] == round_.world.names[1]


def test_a_run_that_lost_the_version_it_began_at_is_ended_by_a_person(make: Make) -> None:
    round_ = make(shard=2)
    name = round_.world.names[0]
    round_.play(round_.jobs[0])
    rows("update rlfleet.versions set state = 'rejected' where name = :name returning 1", name=name)
    claim = claimed(round_.jobs[1])
    with pytest.raises(PermanentError, match=f"^{name} plays {WINDOW}, .*; `rlfleet finish demo` ends it, and a new"):
        from_rollout(claim, Lease(claim, 60))
    assert round_.state() == "closed"
    with transaction() as session:
        assert runs.finish(session, "demo") == "main"
    assert (round_.state(), reason()) == ("skipped", f"its player {name} was rejected")
    with transaction() as session:
        wanted = {type(one).__name__ for one in plan(planning.line_state(session, lines.named(session, "main")))}
    assert wanted == {"Want"}, "verdicts of what there is, and no further round"
    make_due(round_.jobs[1])
    assert "skipped" not in round_.play(round_.jobs[1]), "a job that is done again finds a round that is over"


def test_a_run_that_was_stopped_with_its_base_says_so(make: Make) -> None:
    round_ = make()
    base = round_.world.versions[0]
    with transaction() as session:
        releases.reject(session, round_.line, base.id, "rolled back by ann: wrong")
    claim = claimed(round_.jobs[0])
    with pytest.raises(PermanentError, match="; it is stopped already, and a new run begins at"):
        from_rollout(claim, Lease(claim, 60))


def test_nothing_more_is_played_of_a_run_that_was_stopped(make: Make) -> None:
    round_ = make(shard=2)
    first, second = round_.jobs
    round_.play(first)
    asked = len(round_.engine.asked)
    with transaction() as session:
        lines.end_run(session, lines.run_named(session, "demo").id, "stopped", "its base: wrong")
    assert round_.play(second)["skipped"]
    assert (len(round_.engine.asked), round_.state(), reason()) == (asked, "skipped", "its run demo is stopped")


def asked_for(round_: Round) -> tuple[int, int]:
    """The scoring and the training that somebody asks for while the round is played."""
    training = request(WINDOW)
    return int(one("select id from rlfleet.jobs where kind = 'score'")[0]), training


def test_a_round_that_was_skipped_is_not_trained_on(make: Make) -> None:
    round_ = make(shard=2)
    first, second = round_.jobs
    scoring, training = asked_for(round_)
    round_.play(first)
    reject(round_)
    round_.play(second)
    claim = claimed(scoring)
    round_.finish(claim, score(claim, Lease(claim, 60)))
    claim = claimed(training)
    told = rf"^{WINDOW} is not trained on: it was skipped \(its player {round_.world.names[0]} was rejected\)$"
    with pytest.raises(NoTrainingData, match=told):
        train_on(claim, Lease(claim, 60))
    assert rows("select 1 from rlfleet.datasets") == []


def test_a_round_of_a_run_that_was_stopped_is_not_trained_on(make: Make) -> None:
    round_ = make()
    scoring, training = asked_for(round_)
    round_.play(round_.jobs[0])
    claim = claimed(scoring)
    round_.finish(claim, score(claim, Lease(claim, 60)))
    with transaction() as session:
        lines.end_run(session, lines.run_named(session, "demo").id, "stopped", "its base: wrong")
    claim = claimed(training)
    with pytest.raises(NoTrainingData, match=f"^{WINDOW} is not trained on: its run demo is stopped; start a new run$"):
        train_on(claim, Lease(claim, 60))


def test_a_round_that_is_being_played_by_a_version_that_may_is_not_given_up(make: Make) -> None:
    round_ = make(shard=2)
    round_.play(round_.jobs[0])
    with transaction() as session:
        runs.finish(session, "demo")
        assert windows.named(session, round_.line, WINDOW).state == "closed"
    round_.play(round_.jobs[1])
    assert round_.state() == "collected"
