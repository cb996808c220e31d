from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from db import jobs
from db.session import transaction
from rl.errors import TransientError
from rl.records import Trajectory
from tasks import gather
from tasks.carry import Lease
from tasks.gather import from_source
from tests.conftest_database import empty
from tests.tasks.conftest import HOUR, trajectory
from tests.tasks.rows import add_line, add_window, asked, claimed, one, rows

NEXT_HOUR = "2025-01-15T11:00"


@pytest.fixture(autouse=True)
def fresh(database: str) -> str:
    """The folder's fixture without a broker: nothing here sends a message."""
    with transaction() as session:
        empty(session)
    return database


def an_hour_later(number: int, key: str) -> Trajectory:
    """Trajectory ``number`` in the next hour, under the id ``key``."""
    first = trajectory(number)
    moment = first.ended_at + timedelta(hours=1)
    call = first.calls[0].model_copy(update={"call_id": f"{key}/later"})
    changes = {"trajectory_id": key, "started_at": moment, "ended_at": moment, "calls": [call]}
    return first.model_copy(update=changes)


def source(path: Path, *found: Trajectory) -> str:
    path.write_text("".join(one.model_dump_json() + "\n" for one in found))
    return f"jsonl://{path}"


def collect(line: int, window: str, url: str) -> Mapping[str, Any]:
    """The counts of a collecting job on that window, whose effect is committed."""
    claim = claimed(asked(line, kind="collect", queue="collect", inputs={"window": window}, config={"source": url}))
    effect = from_source(claim, Lease(claim, 60))
    with transaction() as session:
        return jobs.finish(session, claim, effect)


def window_state(line: int, window: str) -> tuple[str, str | None]:
    where = "select state, reason from rlfleet.windows where line_id = :line and name = :name"
    return tuple(one(where, line=line, name=window))


def stored() -> dict[str, str]:
    """Every trajectory's window."""
    found = "select t.trajectory_id, w.name from rlfleet.trajectories t join rlfleet.windows w on w.id = t.window_id"
    return {row[0]: row[1] for row in rows(found)}


def test_an_id_of_another_window_is_quarantined_and_the_others_go_on(tmp_path: Path) -> None:
    line = add_line()
    for hour in (HOUR, NEXT_HOUR):
        add_window(line, hour, "closed")
    again, good = an_hour_later(0, "t0"), an_hour_later(2, "t2")
    url = source(tmp_path / "agent.jsonl", trajectory(0), trajectory(1), again, good)

    assert collect(line, HOUR, url) == {"trajectories": 2, "new": 2, "quarantined": 0}
    assert collect(line, NEXT_HOUR, url) == {"trajectories": 1, "new": 1, "quarantined": 1}
    assert stored() == {"t0": HOUR, "t1": HOUR, "t2": NEXT_HOUR}
    assert window_state(line, NEXT_HOUR) == ("collected", None)
    source_, row, field, reason = one("select source, row, field, reason from rlfleet.quarantine")
    assert (source_, row, field) == ("ids", "t0", "trajectory_id")
    assert "give each agent its own prefix" in reason
    calls = rows("select call_id from rlfleet.calls order by call_id")
    assert [call[0] for call in calls] == ["t0/0", "t1/0", "t2/later"], "a quarantined row brings no call"


def test_an_id_of_another_line_is_quarantined_there_and_counted(tmp_path: Path) -> None:
    line, other = add_line(), add_line("other")
    for one_line in (line, other):
        add_window(one_line, HOUR, "closed")
    collect(line, HOUR, source(tmp_path / "agent.jsonl", trajectory(0)))
    url = source(tmp_path / "other.jsonl", trajectory(0), trajectory(1))
    assert collect(other, HOUR, url) == {"trajectories": 1, "new": 1, "quarantined": 1}
    owners = rows("select trajectory_id, line_id from rlfleet.trajectories order by trajectory_id")
    assert [tuple(row) for row in owners] == [("t0", line), ("t1", other)]
    assert tuple(one("select line_id, row from rlfleet.quarantine")) == (other, "t0")


def test_a_window_with_nothing_but_ids_of_others_is_skipped_with_the_count(logs: str) -> None:
    line, other = add_line(), add_line("other")
    for one_line in (line, other):
        add_window(one_line, HOUR, "closed")
    collect(line, HOUR, logs)
    assert collect(other, HOUR, logs) == {"trajectories": 0, "new": 0, "quarantined": 2}
    assert window_state(other, HOUR) == ("skipped", "no usable trajectory (2 quarantined)")


def test_a_source_that_hangs_is_given_up_and_the_job_is_tried_again(logs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line, ends = add_line(), threading.Event()
    add_window(line, HOUR, "closed")
    monkeypatch.setattr(gather, "READ_SECONDS", 0.1)
    monkeypatch.setattr(gather, "_read", lambda *_: ends.wait(60))
    try:
        with pytest.raises(TransientError, match=r"^the source was not read within 0\.1 s"):
            collect(line, HOUR, logs)
    finally:
        ends.set()
    assert window_state(line, HOUR) == ("closed", None)


def test_what_a_source_raises_is_what_the_job_fails_with(logs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise TimeoutError("the source's own")

    line = add_line()
    add_window(line, HOUR, "closed")
    monkeypatch.setattr(gather, "_read", read)
    with pytest.raises(TimeoutError, match="the source's own"):
        collect(line, HOUR, logs)
