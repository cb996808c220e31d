from __future__ import annotations

import pytest
from sqlalchemy import text

from db import audit, tokens
from db.session import transaction

pytestmark = pytest.mark.usefixtures("fresh")


def test_what_was_asked_for_is_listed_the_newest_first() -> None:
    with transaction() as session:
        tokens.create(session, "ann", "operator", "a test")
        audit.note(session, "ann", "deploy", "v1.0.3", "done", detail={"share": 40}, token_id=1, address="10.0.0.7")
        audit.note(session, "ann", "rollback", "main", "refused")
    with transaction() as session:
        newest, oldest = audit.listing(session)
    assert (newest.action, newest.outcome, newest.detail, newest.address) == ("rollback", "refused", {}, "")
    assert (oldest.actor, oldest.subject, oldest.detail) == ("ann", "v1.0.3", {"share": 40})
    assert oldest.at.endswith("Z") or "+00:00" in oldest.at


def test_it_is_paged_by_id() -> None:
    with transaction() as session:
        for number in range(5):
            audit.note(session, "ann", "requeue job", str(number), "done")
        first = audit.listing(session, 2)
        second = audit.listing(session, 2, first[-1].entry_id)
    assert [one.subject for one in first + second] == ["4", "3", "2", "1"]


def test_what_cannot_be_stored_is_replaced_and_what_is_long_is_cut() -> None:
    with transaction() as session:
        audit.note(
            session,
            "a\0b",
            "deploy",
            "x" * 900,
            "failed",
            detail={"reason": "\0" + "y" * 900, "n": 1},
            address="\ud800",
        )
        (entry,) = audit.listing(session)
    assert (entry.actor, len(entry.subject), entry.address) == ("a\N{REPLACEMENT CHARACTER}b", 500, "?")
    assert (len(entry.detail["reason"]), entry.detail["n"]) == (500, 1)


def test_an_outcome_is_one_of_three() -> None:
    with transaction() as session:
        for outcome in ("done", "refused", "failed"):
            audit.note(session, "ann", "pause", "train", outcome)  # type: ignore[arg-type]
        known = session.execute(text("select distinct outcome from rlfleet.audit order by 1")).scalars().all()
    assert known == ["done", "failed", "refused"]
