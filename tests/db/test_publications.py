from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import alerts, mirrors, publications
from db.publications import Publication
from db.session import transaction
from tests.db import trained

pytestmark = pytest.mark.usefixtures("fresh")

REPO = "acme/agent"
OPTIONS = {"private": True, "merged": False, "any": False, "base": None}


@pytest.fixture
def versions(fresh: str) -> dict[str, int]:
    """Three versions, by their short names."""
    with transaction() as session:
        line = trained.add_line(session)
        made = [trained.add_version(session, line, state="ready") for _ in range(3)]
        return {one.name.rpartition("-")[2]: one.id for one in made}


def ask(version_id: int, repository: str = REPO, **options: Any) -> None:
    with transaction() as session:
        publications.ask(session, version_id, repository, OPTIONS | options)


def due() -> list[Publication]:
    with transaction() as session:
        return publications.due(session)


def said(of: Any, one: Publication, words: str) -> None:
    with transaction() as session:
        of(session, one, words)


def done(session: Session, one: Publication, revision: str) -> None:
    publications.done(session, one.version_id, one.repository, one.asked, revision)


def wait_is_over() -> None:
    with transaction() as session:
        session.execute(text("update rlfleet.mirrors set next_at = now()"))


def test_of_a_repository_the_first_that_was_asked_for_goes_first(versions: dict[str, int]) -> None:
    first, second, third = sorted(versions.values(), reverse=True)
    ask(first)
    ask(second)
    ask(third, "acme/other")
    assert [(one.version_id, one.repository) for one in due()] == [(first, REPO), (third, "acme/other")]
    said(publications.failed, due()[0], "no answer")
    assert [one.version_id for one in due()] == [third], "the second waits for the first"
    wait_is_over()
    said(done, due()[0], "c0ffee")
    assert [one.version_id for one in due()] == [second, third]
    assert due()[0].options.items() >= OPTIONS.items()


def test_what_fails_waits_twice_as_long_each_time_and_nothing_is_tried_before(versions: dict[str, int]) -> None:
    ask(versions["v1.0.0"])
    assert [vars(one) for one in mirrors.behind()] == [
        {"target": "hub:acme/agent", "waiting": 1, "error": "not tried yet", "error_seconds": None}
    ]
    waits = []
    for _ in range(3):
        said(publications.failed, due()[0], "no\0answer" + "!" * 900)
        assert due() == []
        with transaction() as session:
            waits.append(
                session.scalar(text("select extract(epoch from next_at - failed_at)::int from rlfleet.mirrors"))
            )
        wait_is_over()
    assert waits == [15, 30, 60]
    (behind,) = mirrors.behind()
    assert behind.error_seconds is not None
    assert (behind.error[:10], len(behind.error)) == ("no\ufffdanswer!", 500)


def test_nothing_is_said_of_what_was_asked_for_again_meanwhile(versions: dict[str, int]) -> None:
    ask(versions["v1.0.0"])
    (before,) = due()
    ask(versions["v1.0.0"], private=False)
    for of in (done, publications.failed, publications.refused):
        said(of, before, "of the one before")
    (one,) = due()
    assert not one.options["private"]
    assert alerts.waiting() == []
    said(done, one, "c0ffee")
    said(publications.failed, one, "a look that came late")
    assert (due(), mirrors.behind()) == ([], [])


def test_what_cannot_be_is_given_up_with_an_alert_and_lets_the_next_go(versions: dict[str, int]) -> None:
    first, second, _ = versions.values()
    ask(first)
    ask(second)
    (one,) = due()
    said(publications.refused, one, "it is rejected")
    assert [one.version_id for one in due()] == [second]
    (alert,) = alerts.waiting()
    detail = {"version": one.version, "repository": REPO, "error": "it is rejected"}
    assert (alert.name, alert.subject, alert.detail) == ("publication_refused", one.version, detail)


def test_one_whose_checkpoint_was_removed_needs_no_folder_to_be_refused(versions: dict[str, int]) -> None:
    ask(versions["v1.0.0"], merged=True)
    assert len(due()[0].needs) == 2
    with transaction() as session:
        session.execute(text("update rlfleet.checkpoints set removed_at = now()"))
    assert due()[0].needs == ()


def test_one_that_waits_can_be_cancelled(versions: dict[str, int]) -> None:
    ask(versions["v1.0.0"])
    (one,) = due()
    with transaction() as session:
        assert not publications.cancel(session, one.version, "acme/other")
        assert publications.cancel(session, one.version, REPO)
        assert not publications.cancel(session, one.version, REPO)
    assert (due(), mirrors.behind()) == ([], [])
