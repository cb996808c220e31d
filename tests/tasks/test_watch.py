"""Canaries on rows of traffic, with moments of the past in place of a wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import text

import tasks
from db import decisions, jobs, lineage, live, releases, watching
from db.canaries import Canary
from db.session import transaction
from db.tables import Line
from rl.errors import DatabaseUnavailable, InvalidInput
from rl.release_plan import Plan, held_at
from rl.sequential import Rules
from rl.stages import Stage, Stages
from tasks import watch as watch_module
from tasks.maintain import reconcile_once
from tests.conftest_database import add_line, add_version, released
from tests.db import traffic
from tests.tasks.rows import Sent, asked, claimed, messages, one, rows

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


def test_what_somebody_else_looks_at_is_left_to_them(fresh: str) -> None:
    begin()
    serve((0.2, 0.8), hours=6)
    with transaction() as session:
        assert live.is_alone(session, traffic.canary_of(session))
        assert watch() == f"{CANARY}: somebody else looks at it"
    assert watch().startswith(f"{CANARY}: roll back at 20 %: worse")


def begin_another() -> int:
    """A canary of a line whose name comes before the first one's; the line's id."""
    with transaction() as session:
        other = add_line(session, "another")
        first, second = (add_version(session, other, prefix="another") for _ in range(2))
        released(session, other.id, first.id)
        decision = decisions.by_person(session, other.id, second.id, "tried by a test", "a test")
        releases.start_canary(session, other.id, second.id, decision, PLAN, "tried by a test")
        return other.id


@pytest.mark.parametrize("error", [DatabaseUnavailable("no answer within 180 s"), ZeroDivisionError("a mistake")])
def test_whatever_goes_wrong_with_one_canary_the_others_are_looked_at(
    fresh: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    begin()
    serve((0.2, 0.8), hours=6)
    begin_another()
    rows("update rlfleet.releases set looked_at = '2025-01-15' where line_id = 2 and stage = 'canary' returning 1")
    seen, asked = live.seen, []

    def fails(session: Any, canary: Canary, patience: float) -> Any:
        asked.append(canary.line)
        if canary.line == "another":
            raise error
        return seen(session, canary, patience)

    monkeypatch.setattr(live, "seen", fails)
    with pytest.raises(type(error), match=str(error)):
        watch()

    assert asked == ["another", "main"]
    assert alerts() == [("canary_rolled_back", CANARY)]


def test_canaries_share_the_time_and_the_one_longest_unseen_comes_first(
    fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin()
    begin_another()
    now, looks = [0.0], []

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now[0]

    def slow(canary: Canary, seconds: float) -> str:
        looks.append((canary.line, seconds))
        now[0] += 100 if len(looks) == 1 else seconds
        return canary.version

    monkeypatch.setattr(watch_module, "time", Clock)
    monkeypatch.setattr(watch_module, "_watch", slow)
    for line, at in ((1, "2025-01-15"), (2, "2025-01-16")):
        rows("update rlfleet.releases set looked_at = :at where line_id = :line returning 1", at=at, line=line)
    watch()
    assert looks == [("main", 120.0), ("another", 140.0)]
    assert now[0] == watch_module.WATCH_SECONDS

    rows("update rlfleet.releases set looked_at = '2025-01-17' where line_id = 1 returning 1")
    now[0], looks[:] = 0.0, [("", 0.0)]
    watch()
    assert looks[1:] == [("another", 120.0), ("main", 120.0)]

    looks.clear()
    monkeypatch.setattr(watch_module, "WATCH_SECONDS", 0.5)
    watch()
    assert looks == [], "there is no time; they come first at the next tick"


def test_a_canary_that_nobody_looked_at_for_ten_minutes_is_told(fresh: str) -> None:
    def pass_(minutes: int) -> None:
        with transaction() as session:
            traffic.age(session, minutes / 60)
        rows("delete from rlfleet.schedule_slots where name = 'look-around' returning 1")
        reconcile_once()

    begin()
    pass_(9)
    assert alerts() == []
    pass_(2)
    pass_(2)
    assert alerts() == [("canary_unwatched", CANARY)]
    detail = one("select detail from rlfleet.alerts").detail
    assert (detail["line"], "`rlfleet rollback`" in detail["remedy"]) == ("main", True)

    rows("delete from rlfleet.alerts returning 1")
    watch()
    pass_(9)
    assert alerts() == [], "the look counts, and not the beginning"


def test_a_line_that_cannot_be_looked_at_does_not_keep_the_others_from_it(fresh: str) -> None:
    begin()
    serve((0.2, 0.8), hours=6)
    other = begin_another()
    rows("update rlfleet.releases set place = 7 where line_id = :id and stage = 'canary' returning 1", id=other)

    with pytest.raises(InvalidInput, match="give an index below 3"):
        watch()

    assert alerts() == [("canary_rolled_back", CANARY)]


def test_the_reconciler_rings_for_a_look_when_no_beat_does(fresh: str, broker: Redis) -> None:
    begin()
    reconcile_once()
    assert messages(broker)["maint"] == [Sent("rlfleet.watch_releases", [60])]
    broker.flushdb()
    tasks.watch_releases.run(60)
    reconcile_once()
    assert messages(broker) == {}, "somebody looked"
    rows("update rlfleet.schedule_slots set taken_at = now() - interval '181 s' where name = 'release' returning 1")
    reconcile_once()
    assert messages(broker)["maint"] == [Sent("rlfleet.watch_releases", [60])]


def test_a_decision_that_waits_for_a_canary_which_has_ended_is_due_at_once(fresh: str, broker: Redis) -> None:
    begin()
    begin_another()
    waits = [asked(line, kind="decide") for line in (1, 2)]
    fails = asked(1, kind="decide")
    held = [claimed(one) for one in waits]
    jobs.fail(claimed(fails), "away", retry=True)
    with transaction() as session:
        releases.roll_back(session, 1, None, "it ended while the decision was put off", "a test")
    for claim in held:
        assert jobs.release(claim, "a canary is live", tomorrow=True)
    rows("update rlfleet.jobs set run_at = now() + interval '6 hours' where id = any(:ids) returning 1", ids=waits)
    rows("update rlfleet.jobs set run_at = now() + interval '5 minutes' where id = :id returning 1", id=fails)

    reconcile_once()

    assert Sent("rlfleet.decide", [waits[0]]) in messages(broker)["score"]
    due = "select id from rlfleet.jobs where kind = 'decide' and run_at <= now()"
    assert [row.id for row in rows(due)] == waits[:1], "the other line's canary is live, and a failure backs off"
