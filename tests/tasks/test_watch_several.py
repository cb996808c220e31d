"""When canaries are looked at, and which: several, one that fails, one that nobody looks at, and without a beat."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

import tasks
from db import decisions, jobs, live, releases
from db.canaries import Canary
from db.session import transaction
from rl.errors import DatabaseUnavailable, InvalidInput
from tasks import watch as watch_module
from tasks.maintain import reconcile_once
from tests.conftest_database import add_line, add_version, released
from tests.db import traffic
from tests.tasks.rows import Sent, asked, claimed, messages, one, rows
from tests.tasks.test_watch import CANARY, PLAN, alerts, begin, serve, watch


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
