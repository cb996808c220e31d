"""What a training takes of its windows: chosen once, counted, and no row of them is marked that it did not see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from db import datasets, dispatch, freezing, lineage, lines, trajectories, versions, windows, withdrawals
from db.session import transaction
from db.tables import Dataset, Line, Version, Window
from rl.config import LineConfig, digest
from rl.errors import DatabaseUnavailable
from rl.scoring import by_reward
from tests.conftest_database import released
from tests.db.test_lineage import HOUR, NEXT, add_window, episode

SFT, GRPO = {"objective": "sft", "lora": {"rank": 4}}, {"objective": "grpo", "lora": {"rank": 4}}
FULL = {"objective": "sft"}


@pytest.fixture
def session(fresh: str) -> Iterator[Session]:
    with transaction() as opened:
        yield opened


def put(session: Session, **scoring: Any) -> Line:
    lines.put(session, "main", LineConfig.model_validate({"base_model": "b", "scoring": scoring}))
    return lines.named(session, "main")


def scored(session: Session, line: Line, name: str, **scores: float) -> Window:
    """A scored window; the scenario of a trajectory is its first letter."""
    add_window(session, line, name, [episode(one) for one in scores])
    trajectories.insert_scores(session, [by_reward(one, score) for one, score in scores.items()])
    return windows.named(session, line.id, name)


def job(session: Session, line: Line, *names: str, **inputs: Any) -> int:
    return dispatch.request(session, dispatch.Spec("train", line.id, {"windows": names} | inputs, SFT, "gpu"))


def froze(session: Session, line: Line, *names: str, config: dict[str, Any] = SFT, **inputs: Any) -> Dataset:
    return freezing.freeze(session, line, job(session, line, *names, **inputs), names, config)


def made(session: Session, line: Line, dataset: Dataset) -> Version:
    """The version that learned from the dataset, whose windows are marked."""
    checkpoint = versions.NewCheckpoint(1, "adapter", "/a", "/base", "0" * 64, {})
    about: dict[str, Any] = {
        "line": line,
        "prefix": "main",
        "job_id": dataset.job_id,
        "fence": 1,
        "checkpoints": [checkpoint],
    }
    stable = versions.stable_name(session, line.id)
    parent = versions.named(session, stable)[0].id if stable else None
    version = versions.add(session, **about, parent_id=parent, base_model="b", manifest={})
    freezing.mark_trained(session, dataset.id, f"made {version.name}")
    return version


def release(session: Session, line: Line, version: Version) -> None:
    versions.set_state(session, [version.id], "ready", "better")
    session.flush()
    released(session, line.id, version.id, 100, "by a test")


def reopen(window_id: int) -> None:
    with transaction() as session:
        session.execute(text("set local lock_timeout = '50ms'"))
        windows.reopen(session, window_id, "1 row came late")


def frozen_rows(session: Session, dataset: Dataset) -> list[tuple[str, str]]:
    return [(one.group, one.trajectory_id) for one in datasets.rows_of(session, dataset.id)]


def states(session: Session) -> dict[str, tuple[str, str | None]]:
    session.expire_all()
    return {one.name: (one.state, one.reason) for one in session.query(Window)}


def test_where_nothing_is_left_out_the_bytes_are_what_they_always_were(session: Session) -> None:
    line = put(session)
    scored(session, line, HOUR, a1=0.25, a2=0.75)
    dataset = froze(session, line, HOUR)
    assert dataset.sha256 == digest([["a1", "s/a", 0.25], ["a2", "s/a", 0.75]])
    assert dataset.manifest == {"windows": [HOUR], "config": SFT, "left_out": 0, "trajectories": 2}
    assert frozen_rows(session, dataset) == [(f"{HOUR} s/a", "a1"), (f"{HOUR} s/a", "a2")]


def test_what_is_left_out_is_counted_by_reason_and_explained(session: Session) -> None:
    line = put(session)
    scored(session, line, HOUR, a1=0.25, a2=0.75, b1=0.5, b2=0.5, c1=1.0)
    add_window(session, line, NEXT, [episode("d1")])
    dataset = froze(session, line, HOUR, NEXT, config=GRPO)
    expected = {"its group has no variance: all 2 scores are 0.5": 2, "alone in its group": 1, "not scored": 1}
    assert (dataset.manifest["left_out"], dataset.manifest["skipped"]) == (4, expected)
    assert [one for _, one in frozen_rows(session, dataset)] == ["a1", "a2"]
    assert lineage.explain(session, str(dataset.id)).left_out == expected


def test_a_later_attempt_has_the_same_dataset_whatever_came_meanwhile(session: Session) -> None:
    line = put(session)
    scored(session, line, HOUR, a1=0.25, a2=0.75)
    asked = job(session, line, HOUR)
    first = freezing.freeze(session, line, asked, [HOUR], SFT)
    trajectories.insert_scores(session, [by_reward("a1", 1.0) | {"input_hash": "other"}])
    again = freezing.freeze(session, line, asked, [HOUR], SFT)
    assert (again.id, again.sha256) == (first.id, digest([["a1", "s/a", 0.25], ["a2", "s/a", 0.75]]))


def test_lone_ones_that_are_one_group_are_found_again_by_the_hash(session: Session) -> None:
    line = put(session, lone="batch_baseline")
    scored(session, line, HOUR, a1=0.25, a2=0.75, b1=0.5, c1=1.0)
    dataset = froze(session, line, HOUR, config=GRPO)
    assert frozen_rows(session, dataset) == [
        (f"{HOUR} lone", "b1"),
        (f"{HOUR} lone", "c1"),
        (f"{HOUR} s/a", "a1"),
        (f"{HOUR} s/a", "a2"),
    ]
    datasets.check(dataset, datasets.rows_of(session, dataset.id))
    assert dataset.sha256 == digest(
        [["b1", "lone", 0.5], ["c1", "lone", 1.0], ["a1", "s/a", 0.25], ["a2", "s/a", 0.75]]
    )


def test_a_trained_window_that_rows_were_added_to_gives_the_new_ones_alone(session: Session) -> None:
    line = put(session)
    window = scored(session, line, HOUR, a1=0.25, a2=0.75)
    version = made(session, line, froze(session, line, HOUR))
    release(session, line, version)
    assert states(session) == {HOUR: ("trained", f"made {version.name}")}
    add_window(session, line, HOUR, [episode("a3"), episode("a4")])
    windows.reopen(session, window.id, "2 rows came late")
    trajectories.insert_scores(session, [by_reward("a3", 0.0), by_reward("a4", 1.0)])
    windows.move(session, window.id, "scored")
    whole = froze(session, line, HOUR, again={HOUR: 1}, config=FULL)  # full weights begin at the base model
    assert [one for _, one in frozen_rows(session, whole)] == ["a1", "a2", "a3", "a4"]
    second = froze(session, line, HOUR, again={HOUR: 1}, number=2)
    assert [one for _, one in frozen_rows(session, second)] == ["a3", "a4"]
    assert second.manifest["skipped"] == {f"already learned from by {version.name}": 2}
    assert second.manifest["again"] == {HOUR: 1}
    later = made(session, line, second)
    assert states(session) == {HOUR: ("trained", f"made {later.name}")}
    release(session, line, later)
    assert freezing.learned_from(session, line.id, [window.id], SFT) == {
        "a1": version.name,
        "a2": version.name,
        "a3": later.name,
        "a4": later.name,
    }


def test_what_another_line_or_a_failed_training_took_was_not_learned_from(session: Session) -> None:
    line = put(session)
    window = scored(session, line, HOUR, a1=0.25, a2=0.75)
    froze(session, line, HOUR)
    other = lines.put(session, "other", LineConfig(base_model="b"))
    assert freezing.learned_from(session, line.id, [window.id], SFT) == {}
    rejected = made(session, line, froze(session, line, HOUR, n=2))
    assert freezing.learned_from(session, other, [window.id], SFT) == {}
    assert freezing.learned_from(session, line.id, [window.id], SFT) == {}, "nothing goes on from it"
    release(session, line, rejected)
    assert set(freezing.learned_from(session, line.id, [window.id], SFT)) == {"a1", "a2"}
    assert freezing.learned_from(session, line.id, [window.id], FULL) == {}


def test_a_window_that_moved_meanwhile_is_not_marked(session: Session) -> None:
    line = put(session)
    for name, one in ((HOUR, "a"), (NEXT, "b")):
        scored(session, line, name, **{f"{one}1": 0.25, f"{one}2": 0.75})
    dataset = froze(session, line, HOUR, NEXT)
    add_window(session, line, NEXT, [episode("b3")])
    windows.reopen(session, windows.named(session, line.id, NEXT).id, "1 row came late")
    version = made(session, line, dataset)
    assert states(session) == {HOUR: ("trained", f"made {version.name}"), NEXT: ("collected", "1 row came late")}
    windows.move(session, windows.named(session, line.id, NEXT).id, "scored")
    freezing.mark_trained(session, dataset.id, "later")
    assert states(session)[NEXT] == ("scored", None)


def test_windows_that_were_skipped_or_not_scored_when_it_was_frozen_are_not_marked(session: Session) -> None:
    line = put(session)
    scored(session, line, HOUR, a1=0.25, a2=0.75)
    names = ["2025-01-15T11:00", "2025-01-15T12:00"]
    for name, state in zip(names, ("skipped", "collected"), strict=True):
        add_window(session, line, name, [], state)
    dataset = froze(session, line, HOUR, *names)
    assert dataset.manifest["unsettled"] == names
    for name in names:  # both are read and scored while the training goes on
        windows.move(session, windows.named(session, line.id, name).id, "scored")
    made(session, line, dataset)
    assert {name: state for name, (state, _) in states(session).items()} == {
        HOUR: "trained",
        names[0]: "scored",
        names[1]: "scored",
    }


def test_nobody_adds_to_the_windows_while_they_are_being_frozen(fresh: str) -> None:
    with transaction() as session:
        line = put(session)
        window = scored(session, line, HOUR, a1=0.25, a2=0.75)
    with transaction() as session:
        froze(session, line, HOUR)
        with pytest.raises(DatabaseUnavailable, match="lock timeout"):
            reopen(window.id)
    reopen(window.id)
    with transaction() as session:
        assert states(session) == {HOUR: ("collected", "1 row came late")}


def test_who_only_looks_cannot_write(session: Session) -> None:
    freezing.only_look(session)
    with pytest.raises(DBAPIError, match="read-only transaction"), session.begin_nested():
        put(session)


def refuse(session: Session, line: Line, *ids: str) -> None:
    withdrawals.refuse(session, line.id, line.name, ids)


def test_what_was_refused_after_a_training_read_it_is_in_no_dataset_after(fresh: str) -> None:
    with transaction() as session:
        line = put(session)
        scored(session, line, HOUR, a1=0.1, a2=0.9)
        first = job(session, line, HOUR)
        freezing.freeze(session, line, first, [HOUR], SFT)
        session.execute(text("update rlfleet.jobs set state = 'dead', resume = '{\"path\": \"/s\"}'"))
    with transaction() as session:
        line = lines.named(session, "main")
        refuse(session, line, "a1")
        scored(session, line, NEXT, b1=0.5)
        second = freezing.freeze(session, line, job(session, line, HOUR, NEXT), [HOUR, NEXT], SFT)
        assert [one.trajectory_id for one in datasets.rows_of(session, second.id)] == ["a2", "b1"]
        assert second.manifest["skipped"] == {"its owner refused consent": 1}
        again = freezing.freeze(session, line, first, [HOUR], SFT)
        assert [one.trajectory_id for one in datasets.rows_of(session, again.id)] == ["a2"]
        assert session.execute(text("select resume from rlfleet.jobs where id = :id"), {"id": first}).scalar() is None
        ids = [windows.named(session, line.id, name).id for name in (HOUR, NEXT)]
        assert freezing.usable_of(session, line, ids, SFT).reasons == {"its owner refused consent": 1}


def test_a_dataset_that_a_version_was_made_of_is_never_dropped(fresh: str) -> None:
    with transaction() as session:
        line = put(session)
        scored(session, line, HOUR, a1=0.1, a2=0.9)
        dataset = froze(session, line, HOUR)
        session.execute(text("update rlfleet.jobs set state = 'succeeded'"))
    with transaction() as session:
        refuse(session, lines.named(session, "main"), "a1")
        assert not freezing.thaw(session, dataset.job_id)
        assert len(datasets.rows_of(session, dataset.id)) == 2
