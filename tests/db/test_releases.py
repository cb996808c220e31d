from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import decisions, engines, releases
from db.session import transaction
from db.tables import Release
from rl.errors import InvalidInput
from tests.conftest_database import add_line, add_version, empty, released


@pytest.fixture
def session(database: str) -> Iterator[Session]:
    with transaction() as opened:
        empty(opened)
        yield opened


def test_a_stable_version_replaces_the_one_before(session: Session) -> None:
    line = add_line(session)
    first, second = add_version(session, line), add_version(session, line)

    released(session, line.id, first.id, 100, "the first one")
    released(session, line.id, second.id, 50, "better")

    (live,) = releases.live(session, "main")
    assert (live.stage, live.share, live.version, live.number) == ("stable", 50, "babylon-agent-v1.0.1", 1)
    assert (live.uri, live.base_uri, live.kind) == ("/checkpoints/babylon-agent-v1.0.1", "/base", "adapter")
    ended = session.execute(text("select version_id, ended_at >= created_at from rlfleet.releases order by id")).all()
    assert ended == [(first.id, True), (second.id, None)]


def test_releasing_what_is_released_changes_nothing(session: Session) -> None:
    line = add_line(session)
    version = add_version(session, line)

    first = released(session, line.id, version.id, 100, "the first one")
    again = released(session, line.id, version.id, 100, "told twice")

    assert again == first
    assert session.execute(text("select count(*) from rlfleet.releases")).scalar_one() == 1


@pytest.mark.parametrize("state", ["candidate", "rejected"])
def test_only_a_ready_version_is_released(session: Session, state: str) -> None:
    line = add_line(session)
    version = add_version(session, line, state)

    with pytest.raises(InvalidInput, match=f"the version is {state}; only a ready one"):
        released(session, line.id, version.id, 100, "no")


def test_a_version_of_another_line_is_refused(session: Session) -> None:
    line, other = add_line(session), add_line(session, "other")
    version = add_version(session, other, prefix="other")

    with pytest.raises(InvalidInput, match="it is no version of this line"):
        released(session, line.id, version.id, 100, "no")


def test_a_share_is_a_percentage(session: Session) -> None:
    line = add_line(session)
    version = add_version(session, line)

    with pytest.raises(InvalidInput, match="share = 101"):
        released(session, line.id, version.id, 101, "no")


def test_lines_are_listed_with_the_canary_first(session: Session) -> None:
    line, quiet = add_line(session), add_line(session, "quiet", base_model="qwen3-0.6b")
    stable, canary = add_version(session, line), add_version(session, line)
    released(session, line.id, stable.id, 100, "the first one")
    decision_id = decisions.by_person(session, line.id, canary.id, "try it", "a test")
    session.add(
        Release(
            line_id=line.id,
            version_id=canary.id,
            decision_id=decision_id,
            stage="canary",
            share=10,
            reason="try it",
        )
    )
    session.flush()

    found = releases.by_line(session)

    assert [(one.stage, one.share) for one in found["main"].releases] == [("canary", 10), ("stable", 100)]
    assert found["main"].releases == tuple(releases.live(session, "main"))
    assert found["quiet"] == releases.LineReleases("quiet", "qwen3-0.6b", ())
    assert releases.live(session, quiet.name) == releases.live(session, "unknown") == []


def test_a_version_is_found_by_name_in_any_state(session: Session) -> None:
    version = add_version(session, add_line(session), "rejected")

    found = releases.version_named(session, "babylon-agent-v1.0.0")

    assert found is not None
    assert (found.version_id, found.state, found.line, found.uri) == (
        version.id,
        "rejected",
        "main",
        "/checkpoints/babylon-agent-v1.0.0",
    )
    assert releases.version_named(session, "babylon-agent-v1.0.9") is None


def test_the_newest_engine_is_the_one_announced_last(session: Session) -> None:
    assert engines.known(session) == []
    engines.announce(session, "cpu@a", "http://127.0.0.1:1/", "cpu", 10)
    session.execute(text("update rlfleet.engines set seen_at = seen_at - interval '1 minute'"))
    engines.announce(session, "gpu0@b", "http://127.0.0.1:2", "gpu0", 11)
    assert engines.known(session)[0].url == "http://127.0.0.1:2"

    session.execute(text("update rlfleet.engines set seen_at = seen_at - interval '1 minute'"))
    engines.announce(session, "cpu@a", "http://127.0.0.1:3", "cpu", 12)

    assert [(one.name, one.url) for one in engines.known(session)] == [
        ("cpu@a", "http://127.0.0.1:3"),
        ("gpu0@b", "http://127.0.0.1:2"),
    ]
