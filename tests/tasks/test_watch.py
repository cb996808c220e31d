"""Canaries on rows of traffic, with moments of the past in place of a wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

import tasks
from db import lineage, live, releases, watching
from db.canaries import Canary
from db.session import transaction
from db.tables import Line
from rl.release_plan import Plan, held_at
from rl.sequential import Rules
from rl.stages import Stage, Stages
from tests.conftest_database import add_version, released
from tests.db import traffic
from tests.tasks.rows import one, rows

CANARY, STABLE = "babylon-agent-v1.0.1", "babylon-agent-v1.0.0"
NAMES = (CANARY, STABLE)
PLAN = Plan(stages=Stages(stages=(Stage(share=20, min_rewards=100, tolerance=0.2), Stage(share=50), Stage(share=100))))


def begin(plan: Plan = PLAN, hours: float = 0.0) -> None:
    with transaction() as session:
        traffic.start(session, plan, hours)


def serve(rates: tuple[float, float], hours: float = 24, **fields: Any) -> None:
    """So many hours pass, with traffic."""
    with transaction() as session:
        traffic.age(session, hours)
        share = traffic.canary_of(session).share
        traffic.serve(session, NAMES, share, rates, hours=hours, **fields)


def watch() -> str:
    return str(tasks.watch_releases.run())


def states() -> list[tuple[str, str, int, bool, str]]:
    """(version, stage, share, whether live, the version's state) of all release rows."""
    found = rows("""
        select v.name, r.stage, r.share, r.ended_at is null, v.state
          from rlfleet.releases r join rlfleet.versions v on v.id = r.version_id order by r.id
    """)
    return [tuple(row) for row in found]


def alerts() -> list[tuple[str, str]]:
    return [tuple(row) for row in rows("select name, subject from rlfleet.alerts order by id")]


def test_without_a_canary_there_is_nothing_to_do(fresh: str) -> None:
    assert watch() == "no canary is live"


def test_of_two_beats_one_has_the_tick(fresh: str) -> None:
    assert tasks.watch_releases.run(10**9) == "no canary is live"
    assert tasks.watch_releases.run(10**9) == "release: this tick is taken"


def test_a_worse_canary_is_rolled_back_with_its_numbers(fresh: str) -> None:
    begin()
    serve((0.2, 0.8), hours=6)

    assert watch().startswith(f"{CANARY}: roll back at 20 %: worse: reward 0.")

    assert states() == [(STABLE, "stable", 100, True, "ready"), (CANARY, "canary", 20, False, "rejected")]
    release = one("select ended_reason, looked from rlfleet.releases where stage = 'canary'")
    version = one("select reason from rlfleet.versions where name = :name", name=CANARY)
    decision = one("select reason, released, evidence, actor, stable_id from rlfleet.decisions where policy = 'canary'")
    assert release.ended_reason == version.reason == decision.reason == release.looked["step"]["reason"]
    assert "at any look" in release.ended_reason
    assert (decision.released, decision.actor, decision.evidence) == (False, "rlfleet", release.looked)
    assert one("select name from rlfleet.versions where id = :id", id=decision.stable_id)[0] == STABLE
    with transaction() as session:
        explained = lineage.explain(session, CANARY, "main")
    assert [(row["policy"], row["reason"]) for row in explained.decisions][-1] == ("canary", decision.reason)
    assert alerts() == [("canary_rolled_back", CANARY)]
    assert watch() == "no canary is live"
    assert alerts() == [("canary_rolled_back", CANARY)]


def test_a_better_canary_takes_over_stage_by_stage(fresh: str) -> None:
    begin()
    serve((0.9, 0.5), hours=23)
    assert "at 20 %: 23 of 24 hours" in watch()
    for share in (50, 100):
        serve((0.9, 0.5), hours=24, seed=share)
        assert watch().startswith(f"{CANARY}: advance at ")
        assert traffic_share() == share
        assert watch().startswith(f"{CANARY}: hold at {share} %: at {share} %: 0 of 24 hours"), "a second look"
    serve((0.9, 0.5), hours=24)

    assert watch().startswith(f"{CANARY}: finish at 100 %: reward 0.")

    assert states() == [
        (STABLE, "stable", 100, False, "ready"),
        (CANARY, "canary", 20, False, "ready"),
        (CANARY, "canary", 50, False, "ready"),
        (CANARY, "canary", 100, False, "ready"),
        (CANARY, "stable", 100, True, "ready"),
    ]
    assert [tuple(row) for row in rows("select place, decision_id from rlfleet.releases where stage = 'canary'")] == [
        (place, one("select min(decision_id) from rlfleet.releases where stage = 'canary'")[0]) for place in range(3)
    ]
    assert one("select released from rlfleet.decisions where policy = 'canary'").released
    assert alerts() == [("canary_finished", CANARY)]


def traffic_share() -> int:
    with transaction() as session:
        return traffic.canary_of(session).share


def test_an_equal_canary_is_not_promoted_and_ends_as_undecided(fresh: str) -> None:
    stages = Stages(stages=(Stage(share=50), Stage(share=100)), give_up_rewards=600)
    begin(Plan(stages=stages))
    serve((0.6, 0.6), hours=24, episodes=800)
    assert "more than that needs a canary that is shown to be better" in watch()
    serve((0.6, 0.6), hours=24, episodes=800, seed=1)
    assert ": roll back at 50 %: not shown to be better in " in watch()
    assert states()[1][3:] == (False, "rejected")


def test_without_rewards_it_waits_and_says_so_once(fresh: str) -> None:
    begin()
    serve((0.5, 0.5), hours=23, rewards=False)
    assert "no reward of either version has come" in watch()
    assert alerts() == []
    for hours in (2, 30):
        serve((0.5, 0.5), hours=hours, rewards=False)
        assert "hold at 20 %: at 20 %: 0 of 100 rewards; no reward of either version has come" in watch()
        assert alerts() == [("canary_without_rewards", CANARY)]
    detail = one("select detail from rlfleet.alerts").detail
    assert "end trajectories with a reward" in detail["remedy"]
    assert detail["reason"].startswith("at 20 %: 0 of 100 rewards")
    assert states()[1] == (CANARY, "canary", 20, True, "ready")


def test_late_and_corrected_rewards_count_at_the_next_look(fresh: str) -> None:
    begin()
    serve((0.2, 0.8), hours=6, rewards=False)
    assert ": hold at" in watch()
    with transaction() as session:
        ids = session.execute(text("select trajectory_id, model, created_at from rlfleet.calls")).all()
        for n, row in enumerate(ids):
            traffic.end(session, row.trajectory_id, float(n % 5 > 0), row.created_at)
    assert ": hold at" in watch(), "they came late, and are equal"
    with transaction() as session:
        for row in ids:
            if row.model == CANARY:
                traffic.think(session, row.trajectory_id, "reward", 0.0, traffic.hours_ago(session, 0))
    assert ": roll back at 20 %: worse: reward 0 in " in watch(), "they were corrected"


def test_two_who_watch_at_once_do_it_once(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begin()
    serve((0.2, 0.8), hours=6)
    both = threading.Barrier(2)
    carry_out = watching.carry_out
    monkeypatch.setattr(live, "is_alone", lambda *_: True)  # else the second does not even look

    def together(*args: Any) -> bool:
        both.wait(30)
        return carry_out(*args)

    monkeypatch.setattr(watching, "carry_out", together)
    said: list[str] = []
    threads = [threading.Thread(target=lambda: said.append(watch())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted("its line changed meanwhile" in words for words in said) == [False, True]
    assert alerts() == [("canary_rolled_back", CANARY)]
    assert len(rows("select 1 from rlfleet.decisions where policy = 'canary'")) == 1


def by_a_person(session: Any, canary: Canary) -> None:
    releases.roll_back(session, canary.line_id, None, "a person saw it", "a test")


def with_another_stable(session: Any, canary: Canary) -> None:
    third = add_version(session, session.get_one(Line, canary.line_id))
    released(session, canary.line_id, third.id)


@pytest.mark.parametrize("change", [by_a_person, with_another_stable])
def test_what_a_person_does_between_look_and_commit_stands(
    fresh: str, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any, Canary], None]
) -> None:
    begin()
    serve((0.9, 0.5), hours=30)
    carry_out = watching.carry_out

    def later(session: Any, canary: Canary, look: Any) -> bool:
        with transaction() as other:
            change(other, canary)
        return carry_out(session, canary, look)

    monkeypatch.setattr(watching, "carry_out", later)
    assert watch() == f"{CANARY}: its line changed meanwhile"
    assert [row[2] for row in states() if row[1] == "canary"] == [20]
    assert alerts() == []
    assert one("select looked from rlfleet.releases where stage = 'canary'").looked is None


def test_a_test_of_two_versions_is_reported_and_never_advanced(fresh: str) -> None:
    begin(held_at(50, Rules()))
    serve((0.9, 0.5), hours=100)
    assert f"{CANARY}: hold at 50 %: it keeps its share until a person ends the test; reward 0." in watch()
    assert one("select looked from rlfleet.releases where stage = 'canary'").looked["verdict"]["say"] == "promote"
    assert [row[3] for row in states()] == [True, True]
