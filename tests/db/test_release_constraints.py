"""What no release can be, whoever writes the row: each statement is refused by the database itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from db import decisions
from db.session import transaction
from tests.conftest_database import add_line, add_version, empty, released

INSERT = """
    insert into rlfleet.releases (line_id, version_id, decision_id, stage, share, reason)
    values (:line_id, :version_id, :decision_id, :stage, :share, 'by hand')
"""


@pytest.fixture
def session(database: str) -> Iterator[Session]:
    with transaction() as opened:
        empty(opened)
        yield opened


def row(session: Session, **other: object) -> dict[str, object]:
    """A canary of a line that has a stable version: as it may be, but for ``other``."""
    line = add_line(session)
    released(session, line.id, add_version(session, line).id)
    version = add_version(session, line)
    decision_id = decisions.by_person(session, line.id, version.id, "try it", "a test")
    ids = {"line_id": line.id, "version_id": version.id, "decision_id": decision_id}
    return {**ids, "stage": "canary", "share": 10, **other}


def refused(session: Session, values: dict[str, object], name: str) -> None:
    with pytest.raises(IntegrityError, match=name), session.begin_nested():
        session.execute(text(INSERT), values)


def test_one_canary_is_taken_and_a_second_one_is_not(session: Session) -> None:
    values = row(session)
    session.execute(text(INSERT), values)
    refused(session, values, "uq_releases_live")
    session.execute(text("update rlfleet.releases set ended_at = now() where stage = 'canary'"))
    session.execute(text(INSERT), values)


def test_a_second_stable_version_is_not_taken(session: Session) -> None:
    refused(session, row(session, stage="stable"), "uq_releases_live")


def test_a_stable_version_without_a_decision_is_not_taken(session: Session) -> None:
    values = row(session, stage="stable", decision_id=None)
    session.execute(text("update rlfleet.releases set ended_at = now()"))
    refused(session, values, 'null value in column "decision_id"')
    refused(session, {**values, "decision_id": 987}, "fk_releases_decision_id")


@pytest.mark.parametrize("share", [101, -1])
def test_a_share_is_between_0_and_100(session: Session, share: int) -> None:
    refused(session, row(session, share=share), "ck_releases_share")
    with pytest.raises(IntegrityError, match="ck_releases_share"), session.begin_nested():
        session.execute(text("update rlfleet.releases set share = :share"), {"share": share})


def test_a_stage_is_canary_or_stable(session: Session) -> None:
    refused(session, row(session, stage="production"), "ck_releases_stage")


def test_a_version_of_another_line_is_not_taken(session: Session) -> None:
    values = row(session)
    other = add_version(session, add_line(session, "other"), prefix="other")
    refused(session, {**values, "version_id": other.id}, "fk_releases_line_id_version_id")


def test_a_decision_on_another_version_is_not_taken(session: Session) -> None:
    values = row(session)
    other = add_version(session, add_line(session, "other"), prefix="other")
    decision_id = decisions.by_person(session, other.line_id, other.id, "not this one", "a test", released=False)
    refused(session, {**values, "decision_id": decision_id}, "fk_releases_version_id_decision_id")
    session.execute(text(INSERT), values)
    with pytest.raises(IntegrityError, match="fk_releases_version_id_decision_id"), session.begin_nested():
        session.execute(
            text("update rlfleet.decisions set version_id = :other where id = :decision_id"),
            {"other": other.id, "decision_id": values["decision_id"]},
        )


def test_a_version_of_another_line_is_not_pinned(session: Session) -> None:
    line_id = row(session)["line_id"]
    other = add_version(session, add_line(session, "other"), prefix="other")
    statement = """
        insert into rlfleet.controls (line_id, pinned_id, actor, reason) values (:line_id, :version_id, 'me', 'try')
    """
    with pytest.raises(IntegrityError, match="fk_controls_line_id_pinned_id"), session.begin_nested():
        session.execute(text(statement), {"line_id": line_id, "version_id": other.id})


def test_a_decision_has_one_author_and_an_approval_has_three_words(session: Session) -> None:
    row(session)
    for change in ("actor = null", "job_id = (select min(id) from rlfleet.jobs)"):
        with pytest.raises(IntegrityError, match="ck_decisions_author"), session.begin_nested():
            session.execute(text(f"update rlfleet.decisions set {change}"))  # noqa: S608 - words of this file
    with pytest.raises(DBAPIError, match="ck_decisions_approval"), session.begin_nested():
        session.execute(text("update rlfleet.decisions set approval = 'perhaps'"))
