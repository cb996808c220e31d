from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from sqlalchemy import select, text

from db import dispatch, episodes, erasure, jobs, lines, withdrawals
from db.dispatch import Spec
from db.jobs import Claim
from db.recordings import Start
from db.session import transaction
from db.tables import Dataset, DatasetTrajectory, Line, Window
from tests.conftest_database import add_line
from tests.db.test_lineage import HOUR, add_window, episode
from tests.db.test_recordings import START, _collect, rows, step, store
from tests.planted import tables_with

WORD = "hunter2"


@pytest.fixture
def collected(fresh: str) -> str:
    """t1 was collected, with a call and feedback that say the word."""
    _collect()
    store(START, step(7, said=WORD))
    return fresh


def trained() -> Claim:
    """A running training job that froze a dataset with t1."""
    with transaction() as session:
        line = session.scalars(select(Line)).one()
        job_id = dispatch.request(session, Spec("train", line.id, inputs={"n": 1}, config={}, queue="gpu"))
        dataset = Dataset(line_id=line.id, job_id=job_id, sha256="0" * 64, manifest={})
        session.add(dataset)
        session.flush()
        session.add(DatasetTrajectory(dataset_id=dataset.id, trajectory_id="t1", group="g", score=1.0))
    claim = jobs.claim(job_id, "a test", 60)
    assert claim is not None
    return claim


def refuse(line: str = "main") -> None:
    """A source of the line says that nobody agrees to t1."""
    with transaction() as session:
        row = lines.named(session, line)
        withdrawals.refuse(session, row.id, line, ["t1"])


def swept() -> tuple[int, list[str], list[int]]:
    """What a sweep says, and of which jobs it had the files removed."""
    removed: list[int] = []

    def remove(job_ids: Sequence[int]) -> int:
        removed.extend(job_ids)
        return 1

    done = withdrawals.sweep(remove, time.monotonic() + 60)
    assert done.is_over
    return done.gone, list(done.waiting), removed


def test_what_a_source_takes_back_goes_at_once_and_stays_away(collected: str) -> None:
    assert tables_with(WORD) != []
    refuse()
    assert tables_with(WORD) == []
    assert rows("select erased_at is not null from rlfleet.trajectory_keys") == [(True,)]
    for table in ("trajectories", "turns", "calls", "call_keys", "recordings"):
        assert rows(f"select 1 from rlfleet.{table}") == []  # noqa: S608
    refuse()
    assert store(START, step(8, said=WORD)) == [True, True]
    assert tables_with(WORD) == []
    assert swept() == (0, [], [])


def test_what_was_reported_or_captured_and_not_collected_goes_too(fresh: str) -> None:
    with transaction() as session:
        add_line(session)
    store(START, step(said=WORD))
    refuse()
    assert tables_with(WORD) == []
    assert rows("select trajectory_id, consent, agent_id, details from rlfleet.recordings") == [("t1", False, None, {})]
    assert store(step(1, said=WORD)) == [True]
    assert tables_with(WORD) == []


@pytest.mark.parametrize("what", ["collected", "reported"])
def test_a_source_cannot_take_back_what_is_another_lines(fresh: str, what: str) -> None:
    with transaction() as session:
        add_line(session, "other")
    if what == "collected":
        _collect()
        store(START, step(7, said=WORD))
    else:
        store(START, step(said=WORD))
    before = tables_with(WORD)
    refuse("other")
    assert tables_with(WORD) == before != []


def test_what_a_training_has_read_waits_for_its_end_and_is_shown_to_no_judge(collected: str) -> None:
    claim = trained()
    assert store(Start("t1", "a1", consent=False)) == [True]
    assert tables_with(WORD) != []
    with transaction() as session:
        window = session.scalars(select(Window.id)).one()
        assert [one.consent for one in episodes.of_window(session, window)] == [False]
    gone, [why], removed = swept()
    assert (gone, removed) == (0, [])
    assert f"job {claim.job_id} of line main is training on" in why
    with transaction() as session:
        jobs.finish(session, claim, lambda _: {})
    assert swept() == (1, [], [claim.job_id])
    assert tables_with(WORD) == []
    assert rows("select erased_at is not null from rlfleet.datasets") == [(True,)]
    assert swept() == (0, [], [])


def test_a_refusal_while_a_dataset_is_frozen_does_not_wait_for_it(collected: str) -> None:
    with transaction() as session:
        session.scalars(select(Window).with_for_update(read=True)).all()
        refuse()
    assert tables_with(WORD) != []
    assert swept() == (1, [], [])
    assert tables_with(WORD) == []


def test_a_call_that_was_under_way_when_the_refusal_came_is_found(fresh: str) -> None:
    store(START, step(said=WORD))
    with transaction() as session:  # as if it had been committed by another at that moment
        session.execute(text("update rlfleet.recordings set consent = false"))
    assert tables_with(WORD) != []
    assert swept() == (1, [], [])
    assert tables_with(WORD) == []
    assert rows("select consent from rlfleet.recordings") == [(False,)]
    assert swept() == (0, [], [])


def test_a_sweep_that_is_killed_is_finished_by_the_next(collected: str) -> None:
    claim = trained()
    with transaction() as session:
        jobs.finish(session, claim, lambda _: {})
    refuse()

    def killed(_: Sequence[int]) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        withdrawals.sweep(killed, time.monotonic() + 60)
    assert tables_with(WORD) != []
    assert swept() == (1, [], [claim.job_id])
    assert tables_with(WORD) == []


def read_and_refused(number: int, monkeypatch: pytest.MonkeyPatch, batch: int) -> Claim:
    """So many trajectories that were refused after a training read them; its job has ended."""
    monkeypatch.setattr(erasure, "BATCH", batch)
    with transaction() as session:
        line = add_line(session)
        names = [f"t{index}" for index in range(number)]
        add_window(session, line, HOUR, [episode(name) for name in names])
    claim = trained()
    with transaction() as session:
        dataset = session.scalars(select(Dataset.id)).one()
        rest = [DatasetTrajectory(dataset_id=dataset, trajectory_id=name, group="g", score=1.0) for name in names]
        session.add_all(one for one in rest if one.trajectory_id != "t1")
    with transaction() as session:
        jobs.finish(session, claim, lambda _: {})
    with transaction() as session:
        withdrawals.refuse(session, lines.named(session, "main").id, "main", names)
    return claim


def left() -> list[str]:
    return [row[0] for row in rows("select trajectory_id from rlfleet.trajectories order by 1")]


def test_a_sweep_erases_in_batches_and_stops_at_its_deadline(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = read_and_refused(5, monkeypatch, batch=2)
    removed: list[Sequence[int]] = []

    def remove(job_ids: Sequence[int]) -> int:
        removed.append(job_ids)
        return 1

    first = withdrawals.sweep(remove, time.monotonic())
    assert (first.gone, first.is_over, removed) == (2, False, [[claim.job_id]])
    assert left() == ["t2", "t3", "t4"]
    second = withdrawals.sweep(remove, time.monotonic() + 60)
    assert (second.gone, second.is_over, len(removed)) == (3, True, 3), "one transaction a batch"
    assert left() == []


def test_those_that_somebody_holds_stay_and_the_others_of_their_batch_go(
    fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_and_refused(5, monkeypatch, batch=100)
    with transaction() as session:
        session.execute(text("select 1 from rlfleet.trajectory_keys where trajectory_id = 't3' for update")).all()
        gone, [why], _ = swept()
        assert (gone, left()) == (4, ["t3"])
        assert "could not obtain lock" in why
    assert swept()[0] == 1
    assert left() == []


def test_what_a_running_job_trains_on_stays_and_the_others_go(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = read_and_refused(3, monkeypatch, batch=100)
    with transaction() as session:
        spec = Spec("train", session.scalars(select(Line.id)).one(), inputs={"n": 2}, config={}, queue="gpu")
        job_id = dispatch.request(session, spec)
        dataset = Dataset(line_id=spec.line_id, job_id=job_id, sha256="0" * 64, manifest={})
        session.add(dataset)
        session.flush()
        session.add_all(
            DatasetTrajectory(dataset_id=dataset.id, trajectory_id=name, group="g", score=1.0) for name in ("t1", "t2")
        )
    assert jobs.claim(job_id, "a test", 60) is not None
    gone, [why], removed = swept()
    assert (gone, left(), removed) == (1, ["t1", "t2"], [claim.job_id])
    assert f"job {job_id} of line main is training on" in why
