"""Evaluated on somebody else's logs: held-out scenarios, answered anew, judged blind, and released by the verdicts.

The fleet, the database, the training and the engine are real; the judge is a server that prefers the shorter answer,
of equally long ones the first by the alphabet, so that a test can say from what it was shown what it must have said.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from rl.config import Optimizer, Release
from rl.held_out import HeldOut, is_held_out
from rl.objectives import WeightedSft
from rl.scoring_config import Judge
from tests.conftest_database import *  # noqa: F403
from tests.fleet.babylon_fleet import LINE, World, running
from tests.sources.babylon import HOURS, build, reader
from tests.tasks.duel_double import always, answers_of, better
from tests.tasks.judge_double import Reply, Stand, standing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROWS = 2_000
PARTS = (
    ("2025-01-13T00:00", "2025-01-13T16:00"),
    ("2025-01-13T16:00", "2025-01-14T08:00"),
    ("2025-01-14T08:00", "2025-01-15T00:00"),
)
"""What each version learns from: 16 of the 48 hours."""
HELD = HeldOut(
    share=0.25, salt="babylon", hours=16, scenarios=60, max_tokens=4, judge=Judge(model="judge-1", concurrency=8)
)
CLONING = [
    WeightedSft(steps=steps, batch_episodes=16, token_budget=2048, optimizer=Optimizer(learning_rate=3e-3))
    for steps in (30, 1, 1)
]
"""The first version knows what agents say; those after it have only begun to, so that their answers differ from its."""
GATE = Release(strategy="immediate", min_scenarios=30)
NAMES = [f"{LINE}-v1.0.{number}" for number in range(3)]

log = logging.getLogger(__name__)


@dataclass
class Told:
    """The fleet after each part was trained on and decided; ``shown`` has what the judge was asked of each version."""

    world: World
    shown: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def shorter(body: dict[str, Any], _: int = 0) -> Reply:
    """A judge with a rule that says nothing of places."""
    return better(_shorter(answers_of(body)))


def _shorter(said: dict[str, str]) -> str:
    return min(said, key=lambda name: (len(said[name]), said[name]))


@pytest.fixture(scope="module")
def told(database_url: str, request: pytest.FixtureRequest) -> Iterator[Told]:
    seed = int(request.config.getoption("seed"))
    log.info("seed: %d", seed)
    expected = build(database_url, ROWS, seed)
    with standing(shorter) as judge, pytest.MonkeyPatch.context() as patch, reader(database_url) as url:
        patch.setenv("RLFLEET_JUDGE_URL", judge.url)
        with running(database_url, url, expected, seed) as world:
            found = Told(world)
            for number, (name, part) in enumerate(zip(NAMES, PARTS, strict=True)):
                world.put_line(CLONING[number], held_out=HELD, release=GATE)
                judge.behaviour = always("A") if number == 2 else shorter
                _go(found, judge, name, part)
            yield found


def _go(told: Told, judge: Stand, name: str, part: tuple[str, str]) -> None:
    """Train on the part, and wait until what came of it was decided."""
    before, world = len(judge.asked), told.world
    with world.timed(name):
        world.answer("train", "--line", LINE, "--mode", "backfill", "--since", part[0], "--until", part[1], "--json")
        world.finish("train", 180)
        decided = (
            "select 1 from rlfleet.decisions d join rlfleet.versions v on v.id = d.version_id where v.name = :name"
        )
        ended = "select 1 from rlfleet.jobs where kind in ('evaluate', 'decide') and state in ('failed', 'dead')"
        world.fleet.wait(
            lambda: bool(world.rows(decided, name=name) or world.rows(ended)), f"the decision on {name}", 180
        )
    failed = "select kind, error from rlfleet.jobs where state in ('failed', 'dead')"
    assert world.rows(failed) == []
    told.shown[name] = judge.asked[before:]
    log.info("%s: the judge was asked %d times", name, len(told.shown[name]))


def test_nothing_held_out_is_in_any_dataset(told: Told) -> None:
    files = [path for path in told.world.files() if path.name == "dataset.jsonl"]
    assert len(files) == 3
    scenarios: dict[str, str] = dict(told.world.rows("select trajectory_id, scenario_id from rlfleet.trajectories"))
    stored = {name for name in scenarios.values() if is_held_out(name, HELD.share, HELD.salt)}
    assert 150 < len(stored) < len(set(scenarios.values())) / 2
    learned = {scenarios[json.loads(line)["trajectory_id"]] for path in files for line in path.read_text().splitlines()}
    assert learned == set(scenarios.values()) - stored
    frozen = told.world.rows("select trajectory_id from rlfleet.dataset_trajectories")
    assert {scenarios[name] for (name,) in frozen}.isdisjoint(stored)
    left_out = told.world.rows(
        "select (manifest -> 'skipped' ->> 'held out for evaluation')::int from rlfleet.datasets"
    )
    assert sum(number for (number,) in left_out) == sum(name in stored for name in scenarios.values())


def test_the_first_version_is_compared_with_the_logs_and_released(told: Told) -> None:
    [(version, against, judge, k, n, missing)] = _evaluations(told, NAMES[0])
    assert (version, against, missing) == (NAMES[0], "logged", 0)
    assert judge.startswith("pairwise/judge-1/")
    assert k == n >= 30, "a few tokens are shorter than what an agent said and why"
    assert _verdicts(told, NAMES[0]) == [(True, False)] * n
    [(stable, released, policy)] = _decision(told, NAMES[0])
    assert (stable, released, policy) == (None, True, "paired-margin")
    assert told.world.rows("""
        select v.name, r.stage, r.share from rlfleet.releases r join rlfleet.versions v on v.id = r.version_id
         order by r.id
    """)[0] == (NAMES[0], "stable", 100)


def test_the_second_one_is_compared_with_the_stable_one_point_by_point(told: Told) -> None:
    [(sha256,)] = told.world.rows(
        """
        select c.sha256 from rlfleet.versions v join rlfleet.checkpoints c on c.id = v.checkpoint_id
         where v.name = :name
    """,
        name=NAMES[0],
    )
    [(_, against, _, k, n, missing)] = _evaluations(told, NAMES[1])
    assert (against, missing) == (sha256, 0)
    found = _verdicts(told, NAMES[1])
    assert len(found) == n >= 30
    asked = len(told.shown[NAMES[1]]) // 2
    assert 0 < asked <= n
    decided = n - sum(pair == (True, True) for pair in found)
    assert decided >= asked, "answers that differ win or lose by the rule; equal questions are asked once"
    assert k == n - sum(pair == (False, True) for pair in found)
    [(stable, _, policy)] = _decision(told, NAMES[1])
    assert (stable, policy) == (NAMES[0], "paired-margin")


def test_a_judge_that_always_says_a_decides_nothing(told: Told) -> None:
    [(_, _, _, k, n, missing)] = _evaluations(told, NAMES[2])
    assert k == n >= 30
    assert missing == 0
    assert told.shown[NAMES[2]]
    assert _verdicts(told, NAMES[2]) == [(True, True)] * n
    [(stable, released, _)] = _decision(told, NAMES[2])
    assert stable is not None
    assert not released


def test_points_are_of_held_out_scenarios_of_the_later_half_of_the_hours(told: Told) -> None:
    for name, (since, until) in zip(NAMES, PARTS, strict=True):
        found = told.world.rows(
            """
            select distinct t.scenario_id, w.name from rlfleet.verdicts d
              join rlfleet.evaluations e on e.id = d.evaluation_id join rlfleet.versions v on v.id = e.version_id
              join rlfleet.trajectories t on t.scenario_id = d.scenario_id join rlfleet.windows w on w.id = t.window_id
             where v.name = :name
        """,
            name=name,
        )
        assert all(is_held_out(scenario, HELD.share, HELD.salt) for scenario, _ in found)
        hours = {hour for _, hour in found}
        assert min(hours) >= since
        assert max(hours) < until
        assert len({hour for hour in hours if hour >= since}) <= HOURS // 3 // 2


def test_what_is_asked_twice_is_paid_once_and_all_is_blind(told: Told) -> None:
    bodies = [body for several in told.shown.values() for body in several]
    assert not any(name in json.dumps(body) for body in bodies for name in NAMES)
    [(kept,)] = told.world.rows("select count(*) from rlfleet.judgements where request_sha256 not like 'call/%'")
    assert kept == len({json.dumps(body) for body in bodies})


def _evaluations(told: Told, name: str) -> list[tuple[Any, ...]]:
    return told.world.rows(
        """
        select v.name, e.against, e.judge, e.k, e.n, e.missing
          from rlfleet.evaluations e join rlfleet.versions v on v.id = e.version_id where v.name = :name
    """,
        name=name,
    )


def _verdicts(told: Told, name: str) -> list[tuple[Any, ...]]:
    return told.world.rows(
        """
        select d."right", d.rival_right from rlfleet.verdicts d join rlfleet.evaluations e on e.id = d.evaluation_id
          join rlfleet.versions v on v.id = e.version_id where v.name = :name
    """,
        name=name,
    )


def _decision(told: Told, name: str) -> list[tuple[Any, ...]]:
    return told.world.rows(
        """
        select s.name, d.released, d.policy from rlfleet.decisions d join rlfleet.versions v on v.id = d.version_id
          left join rlfleet.versions s on s.id = d.stable_id where v.name = :name
    """,
        name=name,
    )
