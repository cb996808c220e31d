"""Which checkpoints are given up, on real rows, and what keeps them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import backup, checkpoints, decisions, dispatch, prune, versions
from db.session import transaction
from db.tables import Decision, Line, Version
from rl.errors import InvalidInput
from tests.db import chains

pytestmark = pytest.mark.usefixtures("fresh")

STEPS = (10, 20, 30, 40, 50, 60)
COUNTS = {10: (2, 20), 20: (18, 20), 30: (17, 20), 40: (5, 20), 50: (4, 20), 60: (3, 20)}
"""Steps 20 and 30 are not told apart."""


def trained(session: Session, line: Line, state: str = "ready", steps: tuple[int, ...] = STEPS) -> Version:
    """A version whose step 20 was chosen."""
    version = chains.add_version(session, line, steps, state=state)
    for step in steps:
        chains.judge(session, version, step, {"move": COUNTS[step]})
    version.checkpoint_id = checkpoints.at_step(session, version, 20).id
    decisions.by_person(session, line.id, version.id, "set by a test", "a test")
    return version


def given_up() -> dict[str, tuple[int, ...]]:
    return {one.version: one.steps for one in checkpoints.give_up()}


def test_a_decided_version_keeps_its_own_the_tied_and_the_last_two() -> None:
    with transaction() as session:
        name = trained(session, chains.add_line(session)).name
    assert given_up() == {name: (10, 40)}
    assert given_up() == {}, "a second pass finds nothing"
    with transaction() as session:
        version = versions.named(session, name)[0]
        rows = {one.step: one.removed_at for one in checkpoints.of_version(session, version)}
        assert [step for step in STEPS if rows[step]] == [10, 40]
        with pytest.raises(InvalidInput, match="retention removed it"):
            checkpoints.at_step(session, version, 40)
        with pytest.raises(InvalidInput, match="has checkpoints of steps 10, 20, 30, 40, 50, 60"):
            checkpoints.at_step(session, version, 11)


def test_the_line_says_how_many_of_the_last_stay() -> None:
    with transaction() as session:
        name = trained(session, chains.add_line(session, retention={"checkpoints": 0})).name
    assert given_up() == {name: (10, 40, 50, 60)}


@pytest.mark.parametrize("state", ["candidate", "ready", "rejected"])
def test_only_a_decided_version_gives_any_up(state: str) -> None:
    with transaction() as session:
        version = trained(session, chains.add_line(session), state)
        session.execute(text("delete from rlfleet.decisions"))
        name = version.name
    assert given_up() == ({name: (10, 40)} if state == "rejected" else {})


def waiting(session: Session, version: Version) -> None:
    session.add(
        Decision(
            line_id=version.line_id,
            version_id=version.id,
            policy="person",
            released=True,
            reason="set by a test",
            evidence={},
            actor="a test",
            approval="waiting",
        )
    )


def evaluation(session: Session, version: Version) -> None:
    spec = dispatch.Spec("evaluate", version.line_id, {"version": version.name, "step": 40}, {}, "gpu")
    dispatch.request(session, spec)


def decision(session: Session, version: Version) -> None:
    inputs = {"candidate": "another", "run": None, "base": version.name}
    dispatch.request(session, dispatch.Spec("decide", version.line_id, inputs, {}, "score"))


def running_training(session: Session, version: Version) -> None:
    job = dispatch.request(session, dispatch.Spec("train", version.line_id, {"windows": []}, {}, "gpu"))
    statement = "update rlfleet.jobs set state = 'running', lease_until = now() + interval '1 hour' where id = :id"
    session.execute(text(statement), {"id": job})


@pytest.mark.parametrize("needs", [waiting, evaluation, decision, running_training])
def test_what_waits_or_runs_keeps_all_of_them(needs: Callable[[Session, Version], None]) -> None:
    with transaction() as session:
        version = trained(session, chains.add_line(session))
        needs(session, version)
    assert given_up() == {}


def test_a_job_of_a_version_with_a_longer_name_keeps_nothing() -> None:
    with transaction() as session:
        version = trained(session, chains.add_line(session))
        spec = dispatch.Spec("evaluate", version.line_id, {"version": version.name + "0"}, {}, "gpu")
        dispatch.request(session, spec)
    assert list(given_up().values()) == [(10, 40)]


PARENT = "update rlfleet.versions set manifest = jsonb_build_object('parent', cast(:n as text), 'parent_step', 40)"


def test_what_was_trained_further_or_rests_on_a_checkpoint_keeps_it() -> None:
    with transaction() as session:
        line = chains.add_line(session, retention={"checkpoints": 0})
        version = trained(session, line)
        child = chains.add_version(session, line)
        session.execute(text(f"{PARENT} where id = :id"), {"n": version.name, "id": child.id})
        session.execute(
            text("update rlfleet.checkpoints set base_uri = :uri where job_id = :job"),
            {"uri": checkpoints.at_step(session, version, 60).uri, "job": child.job_id},
        )
        name = version.name
    assert given_up() == {name: (10, 50)}


def test_the_tie_set_of_a_decision_stays_by_its_labels() -> None:
    with transaction() as session:
        line = chains.add_line(session, retention={"checkpoints": 0})
        version = trained(session, line)
        other = chains.add_version(session, line)
        decided = decisions.by_person(session, line.id, other.id, "of its run", "a test")
        labels = [f"{version.name}@40", f"{version.name}1@50", version.name, other.name]
        session.execute(
            text("update rlfleet.decisions set evidence = cast(:e as jsonb) where id = :id"),
            {"e": json.dumps({"selection": {"tie_set": labels}}), "id": decided},
        )
        name = version.name
    assert given_up() == {name: (10, 50, 60)}


def test_folders_of_given_up_rows_are_named_for_removal_and_by_nobody_else() -> None:
    with transaction() as session:
        version = trained(session, chains.add_line(session))
        job = version.job_id
        session.execute(
            text("update rlfleet.checkpoints set uri = replace(uri, 'fence-1', 'fence-7') where step = 10"),
        )
    assert (job, 7) in prune.named_folders()
    assert checkpoints.removed_folders([job]) == {}
    list(checkpoints.give_up())
    assert checkpoints.removed_folders([job]) == {(job, 1): ["step-000040"], (job, 7): ["step-000010"]}
    assert checkpoints.removed_folders([job + 1]) == {}
    assert [fence for found, fence in prune.named_folders() if found == job] == [1]


def test_a_backup_does_not_miss_what_was_given_up(tmp_path: Path) -> None:
    with transaction() as session:
        trained(session, chains.add_line(session))
    list(checkpoints.give_up())
    dumped = backup.dump(lambda name: (tmp_path / name).open("wb"))
    folders = {path.rsplit("/", 1)[1] for path in dumped.folders if "step-" in path}
    assert folders == {"step-000020", "step-000030", "step-000050", "step-000060"}
