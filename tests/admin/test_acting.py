"""An effect and the row of the audit about it are there together, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from db import audit, pauses
from rl.errors import DatabaseUnavailable
from tests.admin.world import Api, audited, dispatch_one
from tests.tasks import rows


def test_nothing_is_done_that_the_audit_cannot_say(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    note = audit.note

    def full(*given: Any, **more: Any) -> None:
        if given[4] == "done":
            raise DatabaseUnavailable("the disk is full")
        note(*given, **more)

    monkeypatch.setattr(audit, "note", full)
    assert api.post("pauses/score/pause", 503, reason="the judge is down")["success"] is False
    assert pauses.paused() == []
    assert audited() == [("otto", "pause", "score", "failed")]


def test_what_fails_after_it_is_done_does_not_make_it_undone(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> str:
        raise DatabaseUnavailable("the server went away")

    rows.add_line()
    job = dispatch_one("score")
    rows.rows("update rlfleet.jobs set state = 'dead' returning 1")
    monkeypatch.setattr("tasks.ring.ring_or_later", away)
    api.post(f"jobs/{job}/requeue", 503)
    assert rows.one("select state from rlfleet.jobs")[0] == "queued"
    assert audited() == [("otto", "requeue job", str(job), "done")]
