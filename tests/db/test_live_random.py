"""What SQL adds up of random rows is what a loop over them adds up."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from db import live, releases
from db.session import transaction
from gateway.routing import place
from rl.contrast import Reward
from rl.live import Counted
from rl.release_plan import Plan
from tests.conftest_database import add_version, empty
from tests.db import traffic

CANARY, STABLE = "babylon-agent-v1.0.1", "babylon-agent-v1.0.0"
MODELS = [CANARY, STABLE, "base/another", "babylon-agent-v1.0.2"]
NAMES = ["reward", "rating", "speed"]
HOURS = 5


@dataclass
class Episode:
    key: str
    agent: str | None
    models: list[str]
    began: datetime
    is_ended: bool
    reward: float | None
    said: dict[str, float] = field(default_factory=dict)

    @property
    def ours(self) -> set[str]:
        return {model for model in self.models if not model.startswith("base/")}

    def value(self, name: str) -> float | None:
        """The newest that was said; of a reward, else what the end says."""
        return self.said.get(name, self.reward if name == "reward" and self.is_ended else None)


def made(chance: random.Random, number: int, now: datetime) -> Episode:
    return Episode(
        key=f"t{number}",
        agent=chance.choice([None, *(f"agent-{n}" for n in range(6))]),
        models=chance.choices(MODELS, weights=[6, 6, 1, 1], k=chance.choice([1, 1, 1, 2])),
        began=now - timedelta(hours=chance.uniform(0.01, HOURS + 1)),
        is_ended=chance.random() < 0.8,
        reward=chance.choice([None, 0.0, 0.5, 2.0]),
    )


SHARES = [10, 50]


def is_chosen(one: Episode, model: str, stage: int) -> bool:
    """Whether the canary's share of the stage gave the episode's unit that model."""
    return (place("main", one.agent or one.key) < SHARES[stage]) == (model == CANARY)


def expected(episodes: list[Episode], changes: list[datetime]) -> dict[str, dict[tuple[int, str, bool], list[float]]]:
    """Values by signal and (cohort, unit, whether the canary's)."""
    found: dict[str, dict[tuple[int, str, bool], list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in episodes:
        stage = sum(one.began >= change for change in changes) - 1
        if stage < 0 or one.ours not in ({CANARY}, {STABLE}) or not is_chosen(one, min(one.ours), stage):
            continue
        cohort = stage * live.MOST_HOURS + int(one.began.timestamp()) // 3600
        for name in NAMES:
            if (value := one.value(name)) is not None:
                found[name][cohort, one.agent or one.key, one.ours == {CANARY}].append(value)
    return found


def plain(rewards: list[Reward]) -> dict[tuple[int, str, bool], list[float]]:
    return {(one.cohort, one.unit, one.is_canary): [one.total, one.n] for one in rewards}


@pytest.mark.parametrize("seed", range(6))
def test_sums_are_those_of_a_loop(database: str, seed: int) -> None:
    chance = random.Random(seed)
    with transaction() as session:
        empty(session)
        line, *_ = traffic.start(session, Plan(), HOURS)
        add_version(session, line)
        second = HOURS * chance.uniform(0.2, 0.8)
        releases.advance(session, traffic.canary_of(session).release_id, 50, "on")
        change = traffic.hours_ago(session, second)
        for column, state in (("ended_at", "is not null"), ("created_at", "is null")):
            where = f"stage = 'canary' and ended_at {state}"
            session.execute(text(f"update rlfleet.releases set {column} = :at where {where}"), {"at": change})  # noqa: S608
        now = traffic.hours_ago(session, 0)
        episodes = [made(chance, number, now) for number in range(150)]
        for one in episodes:
            for turn, model in enumerate(one.models):
                traffic.call(session, one.key, model, one.began + timedelta(seconds=turn), one.agent, turn)
            if one.is_ended:
                traffic.end(session, one.key, one.reward, now)
            for minute in range(chance.choice([0, 0, 1, 3])):
                name, value = chance.choice(NAMES), chance.choice([0.0, 1.0, 5.0])
                one.said[name] = value
                traffic.think(session, one.key, name, value, one.began + timedelta(seconds=60 * minute + 30))
        canary = traffic.canary_of(session)
        seen = live.seen(session, canary)

    changes = [canary.first_began, canary.began]
    wanted = expected(episodes, changes)
    assert {name: plain(list(rows)) for name, rows in seen.rewards.items()} == {
        name: {key: [sum(values), len(values)] for key, values in cells.items()} for name, cells in wanted.items()
    }
    inside = [one for one in episodes if one.began >= canary.first_began]
    chosen = [one for one in inside if len(one.ours) == 1 and is_chosen(one, min(one.ours), int(one.began >= change))]
    assert seen.counted == Counted(
        canary=sum(one.ours == {CANARY} for one in chosen),
        stable=sum(one.ours == {STABLE} for one in chosen),
        several=sum(len(one.ours) > 1 for one in inside),
    )
    moments = [
        one.began + timedelta(seconds=turn)
        for one in episodes
        for turn, model in enumerate(one.models)
        if model == CANARY and is_chosen(one, CANARY, 1)
    ]
    assert seen.requests == sum(moment >= canary.began for moment in moments)
