"""Weeks that retention drops whole, and those in which rows are deleted; what others do at the same moment."""

from __future__ import annotations

import time
from collections import Counter
from math import inf
from threading import Barrier, Thread
from typing import Any

import pytest
from sqlalchemy import text

from db import erasure, freezing, lines, partitions, prune, retention
from db import weeks as db_weeks
from db.calls import NewCall, insert
from db.session import transaction
from tests.db.kept import (
    AT,
    HOUR,
    NEXT,
    OTHER_WEEK,
    add_line,
    add_window,
    episode,
    job,
    left,
    old,
    removed,
    run,
    weeks,
)

pytestmark = pytest.mark.usefixtures("without_weeks")

SAID = {"role": "assistant", "content": "left"}


def test_a_week_goes_only_when_nothing_in_it_must_stay() -> None:
    old("a", "b")
    old("c", window=NEXT)
    old("d", window=OTHER_WEEK)
    holder = job("score", window=NEXT)
    assert weeks() == {"2025w03", "2025w04"}
    assert removed() == {
        "weeks": 1,
        "windows": 2,
        "calls": 2,
        "call keys": 3,
        "turns": 2,
        "trajectories": 2,
        "judgements": 2,
        "explanations": 3,
        "feedback": 3,
        "outcomes": 3,
    }
    assert (weeks(), left()) == ({"2025w03"}, {"c"})
    run("update rlfleet.jobs set state = 'succeeded' where id = :id", id=holder)
    assert removed()["weeks"] == 1
    assert (weeks(), left()) == (set(), set())


def test_a_week_with_rows_of_a_line_that_keeps_all_is_not_dropped() -> None:
    old("a")
    old("b", line="other", days=None)
    assert "weeks" not in removed()
    assert (weeks(), left()) == ({"2025w03"}, {"b"})


def test_a_week_with_what_no_window_collected_is_not_dropped() -> None:
    old("a")
    with transaction() as session:
        add_line(session, "other", None)
        insert(session, [NewCall("c", "nowhere", 0, "other", "m", "x", [], SAID, at=AT)])
    assert "weeks" not in removed()
    assert run("select call_id from rlfleet.calls") == run("select call_id from rlfleet.call_keys") == ["c"]


def test_a_week_that_is_dropped_is_made_again_for_what_comes_late() -> None:
    old("a")
    partitions.ensure([AT])
    removed()
    old("b", window=NEXT)
    assert (weeks(), left()) == ({"2025w03"}, {"b"})


def test_a_week_that_somebody_reads_is_put_off_and_its_rows_go() -> None:
    old("a")
    with transaction() as reader:
        reader.execute(text("select count(*) from rlfleet.trajectories")).one()
        counts: Counter[str] = Counter()
        assert db_weeks.drop(counts, inf)
        assert (counts, weeks(), left()) == ({"weeks put off": 1}, {"2025w03"}, {"a"})
        found = removed()
        assert (found["weeks put off"], found["trajectories"]) == (1, 1)
    assert (weeks(), left()) == ({"2025w03"}, set())
    assert removed() == {"weeks": 1}


def test_a_job_that_appears_before_the_lock_keeps_the_week(monkeypatch: pytest.MonkeyPatch) -> None:
    old("a")
    made: list[int] = []
    name_of = partitions.name_of

    def asked_meanwhile(table: str, week: Any) -> str:
        if not made:
            made.append(job("train", windows=[HOUR]))
        return name_of(table, week)

    monkeypatch.setattr(partitions, "name_of", asked_meanwhile)
    assert removed() == {}
    assert len(made) == 1
    assert (weeks(), left()) == ({"2025w03"}, {"a"})


def test_a_job_that_appears_between_look_and_delete_keeps_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    window = old("a")
    job("train", windows=[HOUR])
    monkeypatch.setattr(retention, "may_go", lambda session: [window])
    assert removed() == {}
    assert left() == {"a"}


def test_a_training_that_freezes_at_this_moment_keeps_the_window() -> None:
    old("a", "b")
    old("c", window=NEXT)
    job("collect", window=NEXT)  # else the week is dropped
    with transaction() as freezer:
        line = lines.named(freezer, "main")
        freezing.freeze(freezer, line, job("score"), [HOUR], {"objective": "sft"})
        assert removed() == {}
    assert left() == {"a", "b", "c"}


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Trajectories go one at a time, and the second is killed as soon as its rows are deleted."""
    seen: list[int] = []
    erase = erasure.erase

    def dies(session: Any, ids: Any, at: Any) -> Counter[str]:
        counts = erase(session, ids, at)
        seen.append(len(ids))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return counts

    monkeypatch.setattr(erasure, "BATCH", 1)
    monkeypatch.setattr(erasure, "erase", dies)
    return seen


def test_a_pass_that_is_killed_between_batches_is_finished_by_the_next(killed: list[int]) -> None:
    old("a", "b", "c")
    old("d", window=NEXT)
    job("score", window=NEXT)
    with pytest.raises(KeyboardInterrupt):
        removed()
    assert left() == {"b", "c", "d"}
    removed()
    assert (left(), killed) == ({"d"}, [1] * 4)
    assert run("select count(distinct erased_at) from rlfleet.trajectory_keys where erased_at is not null") == [1]


def test_a_pass_that_is_killed_after_a_week_was_dropped_is_finished_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old("a", "b")
    monkeypatch.setattr(partitions, "forget", killed_here)
    with pytest.raises(KeyboardInterrupt):
        removed()
    monkeypatch.undo()
    assert (weeks(), run("select count(*) from rlfleet.call_keys")) == (set(), [2])
    assert removed()["call keys"] == 2
    assert left() == set()
    assert run("select count(*) from rlfleet.trajectory_keys where erased_at is null") == [0]


def killed_here() -> None:
    raise KeyboardInterrupt


def test_ids_of_calls_are_looked_at_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db_weeks, "KEYS_PAGE", 2)
    old(*"abcde")
    old("f", window=OTHER_WEEK)
    job("score", window=OTHER_WEEK)
    assert removed()["call keys"] == 5
    assert run("select call_id from rlfleet.call_keys") == ["c-f"]


def test_a_pass_that_has_no_time_left_says_so() -> None:
    old("a")
    assert prune.old_trajectories(time.monotonic() - 1) == ({}, False)
    assert left() == {"a"}


def test_two_passes_at_once_do_the_work_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "BATCH", 2)
    with transaction() as session:
        line = add_line(session)
        for hour in range(5):
            add_window(session, line, f"2025-01-15T1{hour}:00", *(episode(f"{hour}{n}") for n in range(5)))
        add_window(session, line, OTHER_WEEK, *(episode(f"o{n}") for n in range(5)))
    job("score", window=HOUR)  # so that one week goes by rows, and the other as a whole
    start, found = Barrier(3), []

    def one() -> None:
        start.wait()
        found.append(prune.old_trajectories(inf))

    threads = [Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [over for _, over in found] == [True] * 3
    last = removed()
    total = sum((counts for counts, _ in found), Counter(last))
    assert left() == {f"0{n}" for n in range(5)}
    assert (total["windows"], total["weeks"]) == (5, 1)
    put_off = last.get("weeks", 0)  # by each of the three, where others held its tables; then its rows went one by one
    assert total["trajectories"] == 20 + 5 * put_off
    assert run("select count(*) from rlfleet.trajectory_keys where erased_at is null") == [5]
