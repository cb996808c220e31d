"""From somebody else's database to a version: 10,000 rows of another model's agents, with every malformed variant.

Everything is real: the database, read through a role that may only read, the fleet's servers and processes, and the
(small) model. What must come of it is told by the generator of the rows, or asked of that database by SQL.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest

from rl.config import GrpoTrain, Optimizer
from rl.objectives import WeightedSft
from tests.conftest_database import *  # noqa: F403
from tests.fleet.babylon_fleet import LINE, SOURCE, World, running
from tests.sources.babylon import HOURS, RIGHT, SENTINEL, SYSTEM, build, checksums, reader
from tests.sources.babylon_tables import cursor_on

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROWS = 10_000
SINCE, LAST = "2025-01-13T00:00", "2025-01-14T23:00"
"""The hours before the last are trained on; that one is left for an objective that must not have it."""
VERSION = f"{LINE}-v1.0.0"
CLONING = WeightedSft(steps=20, batch_episodes=16, token_budget=2048, optimizer=Optimizer(learning_rate=1e-3))
FORBIDDEN = (
    """update trajectories set "usedInTraining" = true""",
    "delete from llm_call_logs",
    "insert into market_outcomes (id) values ('x')",
    "truncate trajectories",
    "select * from trained_models",
    "create table public.ours (i int)",
)
"""What a role for reading need not be able to do."""

log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def world(database_url: str, request: pytest.FixtureRequest) -> Iterator[World]:
    seed = int(request.config.getoption("seed"))
    log.info("seed: %d", seed)
    expected = build(database_url, ROWS, seed)
    with reader(database_url) as url, running(database_url, url, expected, seed) as world:
        world.put_line(CLONING)
        yield world


@pytest.fixture(scope="module")
def before(world: World) -> dict[str, str]:
    """What the source held before anything read it."""
    return checksums(world.owner)


@pytest.fixture(scope="module")
def trained(world: World, before: dict[str, str]) -> World:
    """The range of time was collected, scored and trained on."""
    words = ("--line", LINE, "--mode", "backfill", "--since", SINCE, "--until", LAST, "--json")
    with world.timed("dry run"):
        world.foretold = world.answer("train", *words, "--dry-run")
    assert world.rows("select count(*) from rlfleet.windows") == [(0,)], "a dry run writes nothing"
    with world.timed("backfill"):
        world.answer("train", *words)
        world.finish("train", 600)
    assert world.rows("select state, error from rlfleet.jobs where kind = 'train'") == [("succeeded", None)]
    return world


@pytest.fixture(scope="module")
def refused(trained: World) -> World:
    """The line would learn on policy, and was asked to do so from the hour that is left."""
    trained.put_line(GrpoTrain(optimizer=Optimizer(learning_rate=1e-3)))
    told = trained.command("train", LAST, "--line", LINE, "--dry-run", "--json")
    assert told.returncode == 1, told.stderr
    trained.foretold_refusal = json.loads(told.stdout)["refused"]
    with trained.timed("refusal"):
        done = trained.command("train", LAST, "--line", LINE)
        assert done.returncode == 0, done.stderr
        trained.finish("train", 240)
    return trained


def test_assess_counts_what_is_there(world: World, before: dict[str, str]) -> None:
    with world.timed("assess"):
        found = world.answer("assess", SOURCE, "--json")
    expected = world.expected
    assert found["rows"]["read"] == expected.rows == ROWS
    assert found["rows"]["usable"] == len(expected.usable)
    assert found["rows"]["quarantined"] == len(expected.quarantined) == ROWS - len(expected.usable)
    assert _by_reason(found["rows"]["reasons"]) == expected.reasons
    assert found["calls"]["total"] == expected.calls
    allowed = {one["objective"]: one["allowed"] for one in found["objectives"]}
    assert allowed["weighted_sft"]
    assert not allowed["grpo"]
    assert world.rows("select count(*) from rlfleet.windows") == [(0,)], "assessing writes nothing"


def test_every_row_of_the_hours_is_stored_or_quarantined_with_its_reason(refused: World) -> None:
    expected = refused.expected
    stored = refused.rows("""
        select w.name, (select count(*) from rlfleet.trajectories t where t.window_id = w.id)
                     + (select count(*) from rlfleet.quarantine q where q.window_id = w.id)
          from rlfleet.windows w
    """)
    assert dict(stored) == dict(expected.windows)
    assert len(stored) == HOURS
    placed = {row: why for row, why in expected.quarantined.items() if row not in expected.unplaced}
    assert {
        row: (field, why) for row, field, why in refused.rows("select row, field, reason from rlfleet.quarantine")
    } == placed
    assert {name for (name,) in refused.rows("select trajectory_id from rlfleet.trajectories")} == expected.usable
    assert refused.rows("select count(*) from rlfleet.calls") == [(expected.calls,)]
    assert refused.rows("select distinct model from rlfleet.calls") == [("gpt-4o-mini-2024-07-18",)]


def test_every_score_is_what_the_formula_gives_for_the_source(refused: World) -> None:
    """0.5 * profits from -1000 to 1000 + 0.3 * wins + 0.2: in an hour each agent acts more than 20 times."""
    hours: dict[str, str] = dict(
        refused.rows(
            "select t.trajectory_id, w.name from rlfleet.trajectories t join rlfleet.windows w on w.id = t.window_id"
        )
    )
    with cursor_on(refused.owner) as cursor:
        cursor.execute("""select "trajectoryId", "agentId", "finalPnL" from trajectories""")
        told = [row for row in cursor.fetchall() if row[0] in refused.expected.usable]
    earned: dict[tuple[str, str], list[float]] = defaultdict(list)
    for name, agent, profit in told:
        earned[hours[name], agent].append(profit)
    right = {name: pytest.approx(_formula(earned[hours[name], agent])) for name, agent, _ in told}
    scores = refused.rows("select trajectory_id, score, method, method_version from rlfleet.scores")
    assert {name: score for name, score, _, _ in scores} == right
    assert len(scores) == len(right) == len(refused.expected.usable)
    assert {(method, version) for _, _, method, version in scores} == {("heuristic:agent", "1")}


def test_the_version_learned_from_every_usable_row_of_its_hours(trained: World) -> None:
    assert trained.rows("select name, state from rlfleet.versions") == [(VERSION, "candidate")]
    learned = trained.rows("""
        select d.trajectory_id, d.score, s.trajectory_id, s.score, w.name
          from rlfleet.versions v join rlfleet.datasets o on o.job_id = v.job_id
          join rlfleet.dataset_trajectories d on d.dataset_id = o.id join rlfleet.scores s on s.id = d.score_id
          join rlfleet.trajectories t on t.trajectory_id = d.trajectory_id join rlfleet.windows w on w.id = t.window_id
    """)
    assert all((name, score) == (scored, given) for name, score, scored, given, _ in learned)
    assert {name for name, *_ in learned} == _usable_before_last(trained)
    states: dict[str, str] = dict(trained.rows("select name, state from rlfleet.windows"))
    assert Counter(state for name, state in states.items() if name != LAST) == {"trained": HOURS - 1}


def test_a_dry_run_foretold_exactly_these_rows(trained: World) -> None:
    learned = trained.rows(
        """
        select d.trajectory_id, d."group", d.score from rlfleet.versions v
          join rlfleet.datasets o on o.job_id = v.job_id join rlfleet.dataset_trajectories d on d.dataset_id = o.id
         where v.name = :name
    """,
        name=VERSION,
    )
    told = [(one["trajectory_id"], one["group"], one["score"]) for one in trained.foretold["trajectories"]]
    assert sorted(told) == sorted(learned)
    assert trained.foretold["left_out"] == []
    assert len(trained.foretold["windows"]) == HOURS - 1


def test_what_is_trained_on_was_really_said(trained: World) -> None:
    rows = _dataset(trained)
    assert {row["trajectory_id"] for row in rows} == _usable_before_last(trained)
    with cursor_on(trained.owner) as cursor:
        cursor.execute("""select "trajectoryId", "systemPrompt", "userPrompt", response from llm_call_logs""")
        said = Counter(cursor.fetchall())
    learned = Counter(
        (row["trajectory_id"], *(one["content"] for one in call["messages"]), call["response"]["content"])
        for row in rows
        for call in row["calls"]
    )
    names = {row["trajectory_id"] for row in rows}
    assert Counter({key: count for key, count in said.items() if key[0] in names}) - learned == Counter()
    assert {key[2:] for key in learned - said} == {
        ("Say what the news mean.", "They mean little."),
        ("And now?", "Wait and see."),
    }, "calls that the log lacks and the steps have"
    assert {key[1] for key in learned} == {SYSTEM}
    news = [key for key in learned if "The news are" in key[2]]
    assert {key[3] for key in news} == set(RIGHT.values())


def test_nothing_of_the_future_is_near_a_prompt(refused: World) -> None:
    files = refused.files()
    assert any(path.name == "dataset.jsonl" for path in files)
    assert [path for path in files if SENTINEL.encode() in path.read_bytes()] == []
    assert refused.columns_with(SENTINEL) == {"outcomes.body"}


def test_the_password_of_the_source_is_nowhere(refused: World) -> None:
    password = str(urlsplit(refused.reader).password)
    assert [path for path in refused.files() if password.encode() in path.read_bytes()] == []
    assert refused.columns_with(password) == set()


def test_a_version_leads_back_to_rows_and_scores(trained: World) -> None:
    with trained.timed("explain"):
        found = trained.answer("explain", VERSION, "--line", LINE, "--all", "--json")
    usable = _usable_before_last(trained)
    assert {one["trajectory_id"] for one in found["trajectories"]} == usable
    assert found["trajectory_count"] == len(usable)
    assert {one["source"] for one in found["trajectories"]} == {SOURCE}
    assert {(one["method"], one["method_version"]) for one in found["trajectories"]} == {("heuristic:agent", "1")}
    assert {tuple(one["models"]) for one in found["trajectories"]} == {("gpt-4o-mini-2024-07-18",)}
    assert [one["name"] for one in found["versions"]] == [VERSION]
    assert len(found["windows"]) == HOURS - 1
    drawn = CLONING.steps * CLONING.batch_episodes
    assert found["left_out"] == {"chosen, and drawn by no step": len(usable) - drawn}
    with cursor_on(trained.owner) as cursor:
        cursor.execute("""select "trajectoryId", "agentId", "totalReward" from trajectories""")
        told = {name: (agent, reward) for name, agent, reward in cursor.fetchall()}
    assert all((one["agent_id"], one["reward"]) == told[one["trajectory_id"]] for one in found["trajectories"])


def test_learning_on_policy_from_another_models_words_is_refused_and_costs_nothing(refused: World) -> None:
    newest = refused.rows("select state, error from rlfleet.jobs where kind = 'train' order by id desc limit 1")
    [(state, error)] = newest
    assert state == "failed"
    assert error == f"OffPolicyRefused: {refused.foretold_refusal}"
    assert "gpt-4o-mini-2024-07-18" in error
    assert "use an objective for foreign data (sft, weighted_sft, dpo)" in error
    assert refused.rows("select name from rlfleet.versions") == [(VERSION,)]
    assert refused.rows("select state from rlfleet.windows where name = :name", name=LAST) == [("scored",)]
    assert refused.rows("select count(*) from rlfleet.trajectories") == [(len(refused.expected.usable),)]


def test_the_refused_rows_still_teach_where_they_may(refused: World) -> None:
    refused.put_line(CLONING)
    with refused.timed("one hour more"):
        done = refused.command("train", LAST, "--line", LINE)
        assert done.returncode == 0, done.stderr
        refused.finish("train", 240)
    learned = refused.rows("""
        select v.name, count(*) from rlfleet.versions v join rlfleet.datasets o on o.job_id = v.job_id
          join rlfleet.dataset_trajectories d on d.dataset_id = o.id group by v.id order by v.id
    """)
    earlier = len(_usable_before_last(refused))
    assert learned == [(VERSION, earlier), (f"{LINE}-v1.0.1", len(refused.expected.usable) - earlier)]
    assert refused.rows("select distinct state from rlfleet.windows") == [("trained",)]


def test_the_source_is_as_it_was_and_could_not_be_changed(refused: World, before: dict[str, str]) -> None:
    for statement in FORBIDDEN:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege), cursor_on(refused.reader) as cursor:
            cursor.execute(statement)
    assert checksums(refused.owner) == before


def _by_reason(reasons: list[dict[str, Any]]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for one in reasons:
        found[one["reason"]] += one["count"]
    return dict(found)


def _formula(profits: list[float]) -> float:
    decided = [one for one in profits if one]
    wins = sum(one > 0 for one in decided) / len(decided)
    return 0.5 * max(0.0, min(1.0, (math.fsum(profits) + 1000) / 2000)) + 0.3 * wins + 0.2


def _usable_before_last(world: World) -> set[str]:
    """The generator puts row n into hour n modulo their number."""
    return {name for name in world.expected.usable if int(name.removeprefix("traj-")) % HOURS != HOURS - 1}


def _dataset(world: World) -> list[dict[str, Any]]:
    """The rows of the file that the version was trained on."""
    [(job, fence)] = world.rows("select job_id, fence from rlfleet.versions where name = :name", name=VERSION)
    path = world.artifacts / "jobs" / str(job) / f"fence-{fence}" / "dataset.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]
