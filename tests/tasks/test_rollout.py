"""Rounds that are played in shards: interrupted ones are gone on with, and the last job moves the round on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import text

import environments
from db import lines, runs, windows
from db.jobs import Claim
from db.session import transaction
from environments import sandbox
from environments.contract import Environment
from environments.play import Outcome
from environments.settings import settings as environment_settings
from rl.config import Rollout
from rl.errors import Drained, EngineUnavailable, Fenced, TransientError
from tasks import rollout
from tasks.carry import Lease
from tasks.requests import request
from tasks.rollout import from_rollout
from tasks.shard import Shard, episode_of
from tests.gateway.conftest import World, world
from tests.tasks.rollout_double import WINDOW, Round, every, walks
from tests.tasks.rows import claimed, job, one, rows
from worker import drain
from worker import settings as worker_settings

__all__ = ["world"]

Make = Callable[..., Round]


@pytest.fixture
def make(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """A round, whose gateway is the one that this process plays through."""
    monkeypatch.setattr(rollout, "STORE_SECONDS", 0.02)

    def made(model: Any = walks, **fields: Any) -> Round:
        found = Round(world, model, **fields)
        monkeypatch.setenv("RLFLEET_GATEWAY_URL", found.url)
        worker_settings.settings.cache_clear()
        return found

    yield made
    worker_settings.settings.cache_clear()


def make_due(job_id: int) -> None:
    """It can be claimed at once: its back-off is over, and the lease of whoever holds it."""
    with transaction() as session:
        session.execute(text("update rlfleet.jobs set run_at = now() where id = :id"), {"id": job_id})
        over = "update rlfleet.jobs set lease_until = now() - interval '1 s' where id = :id and state = 'running'"
        session.execute(text(over), {"id": job_id})


def test_a_round_without_shards_is_one_job_with_the_inputs_that_it_always_had(make: Make) -> None:
    round_ = make()
    (job_id,) = round_.jobs
    assert (job(job_id).inputs, "shard" in job(job_id).config["rollout"]) == ({"window": WINDOW}, False)
    assert round_.play(job_id) == {"trajectories": 8, "failed": 0, "policy": round_.world.names[0], "success": 1.0}
    assert round_.episodes() == every(4, 2)
    assert (round_.state(), round_.quarantined()) == ("collected", [])
    kept = one("select agent_id, reward, source, details from rlfleet.trajectories limit 1")
    assert tuple(kept)[:3] == (round_.world.names[0], 1.0, "run:babyai-goto")
    assert kept.details["success"] is True
    assert "sandbox_level" not in kept.details
    tokens = rows("select count(*) from rlfleet.calls where token_ids is not null and logprobs is not null")[0][0]
    assert tokens == len(round_.engine.asked) == rows("select count(*) from rlfleet.turns")[0][0]


def test_episodes_whose_replies_are_run_say_what_held_them(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_SANDBOX", "rlimits")
    environment_settings.cache_clear()
    try:
        round_ = make(lambda _: "print(input())", environment="ded-small", scenarios=1)
        round_.play(*round_.jobs)
        kept = rows("select details ->> 'sandbox_level' from rlfleet.trajectories")
        assert [row[0] for row in kept] == [sandbox.level().value] * 2
    finally:
        environment_settings.cache_clear()


def test_shards_are_jobs_of_their_own_and_the_last_one_moves_the_round_on(make: Make) -> None:
    round_ = make(scenarios=5, shard=2)
    inputs = [job(one).inputs for one in round_.jobs]
    assert inputs == [{"window": WINDOW, "first": first, "count": count} for first, count in ((0, 2), (2, 2), (4, 1))]
    for place, job_id in enumerate(reversed(round_.jobs)):
        assert round_.state() == "closed"
        assert round_.play(job_id)["trajectories"] == (2 if place == 0 else 4)
    assert (round_.state(), round_.episodes()) == ("collected", every(5, 2))


def dealt(inputs: dict[str, Any], size: int | None = None, **fields: Any) -> list[tuple[str, str, int | None]]:
    """Scenario, episode and seed of a shard's assignments, of an environment with ``size`` scenarios."""
    claim = Claim(1, "collect", 1, "main", {"window": "run/demo/0002"} | inputs, {}, 3, 1)
    asked = Rollout(environment="few", scenarios=5, episodes=2, first_seed=7, **fields)
    environment = cast("Environment", SimpleNamespace(name="few", scenarios=lambda _: size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("environments.load", lambda _: environment)
        found = rollout.assignments(claim, asked, environment)
    return [(one.ref.id, episode_of(one.trajectory_id), one.seed) for one in found]


def test_the_episodes_are_the_same_however_the_round_is_cut() -> None:
    whole = dealt({})
    assert [name for name, *_ in whole] == [f"few/train/{seed}" for seed in range(12, 17) for _ in range(2)]
    assert [name for _, name, _ in whole][:3] == [f"run/demo/0002/{name}" for name in ("12/0", "12/1", "13/0")]
    assert len({seed for *_, seed in whole}) == 10
    shards = [dealt({"first": first, "count": count}) for first, count in ((0, 2), (2, 2), (4, 1))]
    assert [one for shard in shards for one in shard] == whole


def test_seeds_of_few_scenarios_begin_anew_and_stay_episodes_of_their_own() -> None:
    found = dealt({}, size=14)
    assert [name for name, *_ in found] == [f"few/train/{seed}" for seed in (12, 13, 0, 1, 2) for _ in range(2)]
    assert [name for _, name, _ in found] == [name for _, name, _ in dealt({})]


def test_two_shards_that_end_at_the_same_moment_move_the_round_once(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    round_ = make(shard=2)
    moves: list[str] = []
    move, both = windows.move, threading.Barrier(2)
    monkeypatch.setattr(windows, "move", lambda *given: (moves.append(given[2]), move(*given)))
    failed: list[BaseException] = []

    def work(job_id: int) -> None:
        try:
            claim = claimed(job_id)
            effect = from_rollout(claim, Lease(claim, 60))
            both.wait(30)
            round_.finish(claim, effect)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(job_id,)) for job_id in round_.jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (failed, moves) == ([], ["collected"])
    assert (round_.state(), round_.episodes()) == ("collected", every(4, 2))


def test_a_killed_shard_is_gone_on_with_where_it_was(make: Make, tmp_path: Path) -> None:
    round_ = make(scenarios=6, concurrency=1)
    (job_id,) = round_.jobs
    script = (
        "import sys; from tasks import rollout; from tasks.carry import carry_out; from tasks.collect import _work\n"
        f"rollout.STORE_SECONDS = 0.02; carry_out({job_id}, _work)"
    )
    environ = os.environ | {
        "RLFLEET_ENV": "test",
        "RLFLEET_CRASH_AT": "collect:after-batch",
        "RLFLEET_STATE": str(tmp_path),
        "RLFLEET_GATEWAY_URL": round_.url,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run([sys.executable, "-c", script], env=environ, timeout=200, check=False)
    assert done.returncode == -signal.SIGKILL
    before = round_.stored()
    assert 0 < len(before) < 12
    assert (round_.state(), job(job_id).state) == ("closed", "running")

    make_due(job_id)
    assert round_.play(job_id)["trajectories"] == 12
    assert (round_.episodes(), round_.state()) == (every(6, 2), "collected")
    assert set(before) < set(round_.stored())
    fences = {name.rpartition("-")[2] for name in round_.stored()}
    assert fences == {"1", "2"}
    (openings,) = one("select count(*) from rlfleet.calls where turn = 0 and trajectory_id like '%/fence-2'")
    assert openings == 12 - len(before), "nothing that is stored is played again"


def shard_of(claim: Claim, policy: str) -> Shard:
    """The job's shard, nothing of it known."""
    asked = Rollout.model_validate(claim.config["rollout"])
    return Shard(claim, policy, asked, rollout.assignments(claim, asked, environments.load(asked.environment)), ())


def test_a_shard_whose_lease_was_taken_stores_nothing_more(make: Make) -> None:
    round_ = make(concurrency=1)
    (job_id,) = round_.jobs
    claim = claimed(job_id)
    shard = shard_of(claim, round_.world.names[0])
    shard.waiting = [_outcome()]
    make_due(job_id)
    claimed(job_id)
    with pytest.raises(Fenced, match="the lease was lost"):
        shard.store()
    assert round_.stored() == []


def _outcome() -> Outcome:
    return Outcome(
        scenario_id="babyai-goto/train/0",
        trajectory_id=f"{WINDOW}/3/1/fence-9",
        reward=1.0,
        success=True,
        turns=0,
        truncated=False,
        content_hash="0",
    )


def test_a_worker_that_goes_down_hands_the_shard_back_with_what_was_played(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    round_ = make(scenarios=8, concurrency=1)
    monkeypatch.setattr(rollout, "STORE_SECONDS", 60)

    def says(body: dict[str, Any]) -> str:
        if len(round_.engine.asked) >= 12:
            monkeypatch.setattr("tasks.carry.draining", lambda: True)
        return walks(body)

    round_.engine.model = says
    claim = claimed(round_.jobs[0])
    with pytest.raises(Drained):
        from_rollout(claim, Lease(claim, 60))
    played = len(round_.stored())
    assert 0 < played < 16
    monkeypatch.setattr("tasks.carry.draining", drain.draining)
    round_.engine.model = walks
    make_due(round_.jobs[0])
    assert round_.play(round_.jobs[0])["trajectories"] == 16


def test_an_engine_that_goes_away_fails_no_episode(make: Make) -> None:
    round_ = make(stall_seconds=15, concurrency=2)
    round_.engine.most = 9
    claim = claimed(round_.jobs[0])
    with pytest.raises(EngineUnavailable):
        from_rollout(claim, Lease(claim, 60))
    assert round_.quarantined() == []
    assert 0 < len(round_.stored()) < 8
    round_.engine.most = None
    make_due(round_.jobs[0])
    assert round_.play(round_.jobs[0])["trajectories"] == 8
    assert round_.episodes() == every(4, 2)


def test_another_version_does_not_play_the_rest_of_a_round(make: Make) -> None:
    round_ = make(shard=2)
    first, second = round_.jobs
    round_.play(first)
    claim = claimed(second)
    shard = shard_of(claim, round_.world.names[1])
    shard.waiting = [_outcome()]
    with pytest.raises(TransientError, match=f"{round_.world.names[0]} plays {WINDOW}"):
        shard.store()
    make_due(second)
    assert round_.play(second)["policy"] == round_.world.names[0]


def test_progress_counts_what_was_played_before(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    round_ = make(scenarios=3)
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(Lease, "beat", lambda _, progress=None: told.append(progress) if progress else None)
    round_.play(round_.jobs[0])
    assert [(one["done"], one["total"], one["failed"]) for one in told] == [(done, 6, 0) for done in range(1, 7)]
    assert {one["window"] for one in told} == {WINDOW}
    assert all(one["per_second"] > 0 for one in told)


def test_who_asks_for_a_training_and_what_a_run_waits_for_know_every_shard(make: Make) -> None:
    round_ = make(scenarios=5, shard=2)
    request(WINDOW)
    assert one("select after from rlfleet.jobs where kind = 'score'")[0] == round_.jobs
    with transaction() as session:
        waits = runs.told(session, lines.run_named(session, "demo"))["waits"]
    assert waits[:3] == [
        f"collect {WINDOW}, scenarios {places}: job {job_id} is queued"
        for places, job_id in zip(("0 to 1", "2 to 3", "4 to 4"), round_.jobs, strict=True)
    ]
