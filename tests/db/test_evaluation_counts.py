"""What is known of checkpoints is read once, and machines and pages are told the same numbers of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from db import evaluation_counts, version_views
from db.session import transaction
from rl.config import TaskSet
from tests.db import chains

HELD = TaskSet(environment="gridworld", split="held_out", count=30)


@pytest.fixture
def session(fresh: str) -> Iterator[Session]:
    with transaction() as opened:
        yield opened


def test_both_tell_the_same_of_each_checkpoint(session: Session) -> None:
    line = chains.add_line(session)
    version = chains.add_version(session, line, (4, 8))
    chains.judge(session, version, 4, {"A": (3, 10)}, missing=1)
    chains.judge(session, version, 8, {"A": (6, 10), "B": (9, 10)})
    chains.judge(session, version, 8, {"A": (5, 10)}, by="an older judge")
    chains.judge(session, version, 8, {"A": (20, 30)}, HELD)
    told = evaluation_counts.of_version(session, version)
    of_8 = sorted((one.task_set["split"], one.judge, one.is_newest, one.overall.k, one.overall.n) for one in told[1:])
    assert (told[0].step, told[0].overall.k, told[0].overall.n, told[0].coverage) == (4, 3, 10, 0.5)
    assert of_8 == [
        ("held_out", "environment", True, 20, 30),
        ("validation", "an older judge", True, 5, 10),
        ("validation", "environment", False, 15, 20),
    ]
    own, stable = version_views.weighed(session, version.name)
    assert stable is None
    seen = [[(one.split, one.key[1], one.count.k, one.count.n) for one in each.judged if one.count] for each in own]
    assert seen == [
        [("validation", "environment", 3, 10)],
        [("held_out", "environment", 20, 30), ("validation", "an older judge", 5, 10)],
    ]
    assert own[0].judged[0].missing == 1
    (listed,), count = version_views.listing(session, line.name)
    assert listed.judged is not None
    assert (count, listed.judged.count, listed.judged.task_set) == (
        1,
        own[1].judged[0].count,
        "gridworld held_out: 30 scenarios from seed 0",
    )


def test_of_no_checkpoint_nothing_is_known(session: Session) -> None:
    assert evaluation_counts.of_checkpoints(session, []) == {}
    version = chains.add_version(session, chains.add_line(session))
    assert evaluation_counts.of_version(session, version) == []
    assert [each.judged for each in version_views.weighed(session, version.name)[0]] == [[]]


def test_a_set_that_is_stored_while_they_are_read_is_told_the_next_time(fresh: str) -> None:
    with transaction() as session:
        version = chains.add_version(session, chains.add_line(session))
        chains.judge(session, version, 4, {"A": (3, 10)})
    stored: list[str] = []

    def store(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        """Another transaction commits as soon as the first statement of the evaluations has read."""
        if stored or "rlfleet.evaluations" not in statement:
            return
        stored.append(statement)
        with transaction() as other:
            chains.judge(other, version, 4, {"A": (20, 30)}, HELD)

    with transaction() as reader:
        event.listen(reader.connection(), "after_cursor_execute", store)
        assert [one.task_set["split"] for one in evaluation_counts.of_version(reader, version)] == ["validation"]
    assert stored
    with transaction() as reader:
        told = {one.task_set["split"]: one.overall.n for one in evaluation_counts.of_version(reader, version)}
    assert told == {"validation": 10, "held_out": 30}
