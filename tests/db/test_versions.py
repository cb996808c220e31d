from __future__ import annotations

import threading

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from db import decisions, dispatch, lines, versions
from db.session import transaction
from db.tables import Checkpoint, Version
from db.versions import NewCheckpoint
from rl.errors import InvalidInput
from tests.conftest_database import add_line, add_version

pytestmark = pytest.mark.usefixtures("fresh")


def checkpoint(step: int) -> NewCheckpoint:
    return NewCheckpoint(step, "adapter", f"/c/{step}", "/base", "0" * 64, {"loss": 0.5})


def job_of(number: int) -> int:
    with transaction() as session:
        line = lines.named(session, "main")
        return dispatch.request(session, dispatch.Spec("train", line.id, {"n": number}, {}, "gpu"))


def add(job: int, steps: tuple[int, ...] = (1,)) -> str:
    with transaction() as session:
        version = versions.add(
            session,
            line=lines.named(session, "main"),
            prefix="babylon-agent",
            job_id=job,
            fence=1,
            checkpoints=[checkpoint(step) for step in steps],
            parent_id=None,
            base_model="b",
            manifest={"windows": ["2025-01-15T10:00"]},
        )
        return version.name


@pytest.fixture(autouse=True)
def _line(fresh: str) -> None:
    with transaction() as session:
        add_line(session)


def test_numbers_have_no_gaps_whoever_asks_at_once() -> None:
    ids = [job_of(number) for number in range(8)]
    names: list[str] = []
    barrier = threading.Barrier(2)

    def work(mine: list[int]) -> None:
        barrier.wait()
        names.extend(add(job) for job in mine)

    threads = [threading.Thread(target=work, args=(ids[place::2],)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names) == [f"babylon-agent-v1.0.{number}" for number in range(8)]


def test_a_version_that_was_rolled_back_leaves_no_gap() -> None:
    job = job_of(0)

    def interrupted() -> None:
        with transaction() as session:
            add_version(session, lines.named(session, "main"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert add(job) == "babylon-agent-v1.0.0"


def test_a_job_makes_one_version() -> None:
    job = job_of(0)
    add(job)
    with pytest.raises(IntegrityError):
        add(job)
    with transaction() as session:
        assert session.scalar(select(func.count()).select_from(Version)) == 1


def test_the_last_checkpoint_is_the_versions_and_all_are_kept() -> None:
    name = add(job_of(0), steps=(10, 20, 30))
    with transaction() as session:
        version, last = versions.named(session, name)
        kept = session.scalars(select(Checkpoint.step).order_by(Checkpoint.step)).all()
    assert (version.number, version.state, last.step, last.uri, last.metrics) == (
        0,
        "candidate",
        30,
        "/c/30",
        {"loss": 0.5},
    )
    assert kept == [10, 20, 30]


def test_each_line_counts_from_zero() -> None:
    with transaction() as session:
        other = add_line(session, "other")
        names = [add_version(session, line, prefix=line.name).name for line in (lines.named(session, "main"), other)]
    assert names == ["main-v1.0.0", "other-v1.0.0"]


def test_an_unknown_version_is_answered_with_the_newest() -> None:
    with transaction() as session, pytest.raises(InvalidInput, match="the newest are: none yet"):
        versions.named(session, "x")
    add(job_of(0))
    with transaction() as session, pytest.raises(InvalidInput, match=r"the newest are: babylon-agent-v1\.0\.0"):
        versions.named(session, "x")


def test_a_state_outside_the_life_of_a_version_is_refused() -> None:
    with pytest.raises(IntegrityError, match="ck_versions_state"), transaction() as session:
        add_version(session, lines.named(session, "main"), state="released")


def test_only_a_live_stable_release_names_the_stable_version() -> None:
    with transaction() as session:
        line = lines.named(session, "main")
        assert versions.stable_name(session, line.id) is None
        version = add_version(session, line)
        session.execute(
            text("""
                insert into rlfleet.releases (line_id, version_id, decision_id, stage, share, reason, ended_at)
                values (:line, :version, :decision, 'stable', 100, 'past', now()),
                       (:line, :version, :decision, 'canary', 5, 'try', null)
            """),
            {
                "line": line.id,
                "version": version.id,
                "decision": decisions.by_person(session, line.id, version.id, "try", "a test"),
            },
        )
        assert versions.stable_name(session, line.id) is None
