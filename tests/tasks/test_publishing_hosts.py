"""Publications that were left to a fleet of more than one host, each with a state folder of its own."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest
from sqlalchemy import update

import tasks
from db import alerts, audit, hub_lock, mirrors, publications
from db.session import transaction
from db.tables import Checkpoint
from tasks import publishing
from tests.fleet.publishing import published
from tests.hub_stand_in import StandIn
from tests.tasks.left_to_publish import (
    NONE,
    PATIENCE,
    REPO,
    TARGET,
    add_another,
    ask,
    assert_published_once,
    goes_on,
    there,
    ticking,
    until_it_ended,
    version,
)
from tests.tasks.mirroring import noted
from tests.tasks.rows import rows

__all__ = ["there", "version"]

pytestmark = pytest.mark.usefixtures("fresh")


def shown(there: StandIn) -> str:
    """The version that the card at the newest commit names."""
    return there.files(REPO)["README.md"].decode().split("version `")[1].split("`")[0]


@pytest.mark.slow
def test_of_two_hosts_one_publishes_to_a_repository_and_the_newest_commit_is_the_last_that_was_asked_for(
    version: str, there: StandIn, tmp_path: Path
) -> None:
    second = add_another(tmp_path / "checkpoint2")
    there.faults["commit"] = ["hold"]
    other = ticking(RLFLEET_STATE=str(tmp_path / "elsewhere"))
    try:
        assert there.reached.wait(PATIENCE)
        assert [tasks.mirror() for _ in range(3)] == [NONE] * 3, "the other host is at it"
        there.released.set()
        deadline = time.monotonic() + PATIENCE
        while mirrors.behind():
            assert time.monotonic() < deadline
            tasks.mirror()
            time.sleep(0.1)
    finally:
        other.kill()
        other.wait()
    assert shown(there) == second
    assert len(there.repositories[REPO].commits) == 3, "one made the repository, and one is of each version"
    assert noted(TARGET) == [("version", 0, 0, True)] * 2


def test_a_tick_that_comes_second_to_the_repository_has_not_tried(version: str, there: StandIn) -> None:
    with hub_lock.alone(REPO, "v1.0.0 by ann@elsewhere"):
        assert tasks.mirror() == NONE
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hub_lock, "holder", lambda *_: None)  # as when the other began just after the look
            assert tasks.mirror() == f"hub: {version} begun"
        assert until_it_ended(version) == f"hub: {version} is on its way elsewhere"
    assert (noted(TARGET), there.asked, alerts.waiting()) == ([("version", 0, 0, False)], [], [])
    with transaction() as session:
        assert audit.listing(session) == []


def test_what_was_done_elsewhere_meanwhile_is_not_done_again(version: str, there: StandIn) -> None:
    due = publishing._next()
    assert due is not None
    rows("update rlfleet.mirrors set done_at = now() returning 1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "_next", lambda: due)
        assert tasks.mirror() == f"hub: {version} begun"
    assert until_it_ended(version) == f"hub: {version} is on its way elsewhere"
    assert there.asked == []


@pytest.mark.slow
def test_what_was_published_by_hand_since_stays_the_newest_where_no_tick_wrote_down_the_end(
    version: str, there: StandIn, tmp_path: Path
) -> None:
    assert tasks.mirror() == f"hub: {version} begun"
    begun = publishing._begun.pop()  # as where the worker was killed when the command had ended, or another one ticks
    assert begun.process.wait(PATIENCE) == 0
    begun.close()
    second = add_another(tmp_path / "checkpoint2")
    with transaction() as session:
        assert publications.cancel(session, second, REPO)
    published(there, second, "--hub", REPO)
    assert tasks.mirror() == NONE
    assert shown(there) == second
    assert noted(TARGET) == [("version", 0, 0, True)]


def test_a_checkpoint_that_retention_removed_is_given_up_and_lets_the_next_go(
    version: str, there: StandIn, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint").rename(tmp_path / "elsewhere")
    rows("update rlfleet.checkpoints set removed_at = now() returning 1")
    second = add_another(tmp_path / "checkpoint2")
    assert tasks.mirror() == f"hub: {version} begun"
    assert until_it_ended(version) == f"hub: {version} refused, {second} begun"
    (alert,) = alerts.waiting()
    assert "retention removed its checkpoint" in alert.detail["error"]


def test_a_base_of_another_host_is_that_hosts_to_merge(version: str, there: StandIn, tmp_path: Path) -> None:
    ask(version, merged=True)
    assert tasks.mirror() == NONE
    assert ([behind.error for behind in mirrors.behind()], alerts.waiting()) == (["not tried yet"], [])


def test_a_store_has_only_what_lies_below_jobs(
    version: str, there: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLFLEET_STORE", f"file://{tmp_path / 'store'}")
    (tmp_path / "checkpoint").rename(tmp_path / "elsewhere")
    assert publishing._next() is None
    with transaction() as session:
        session.execute(update(Checkpoint).values(uri="/theirs/jobs/1/fence-1/step-000003"))
    due = publishing._next()
    assert due is not None
    assert due.version == version


def test_merged_weights_that_nobody_came_back_for_are_removed(there: StandIn, tmp_path: Path) -> None:
    merged = tmp_path / "state" / "publish"
    for name in ("old", "new", "held", ".old.7.writing", ".held.7.writing"):
        (merged / name).mkdir(parents=True)
        (merged / name / "model.safetensors").write_bytes(b"w")
        if name != "new":
            os.utime(merged / name, (0, 0))
    with (merged / "held.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert tasks.mirror() == NONE
    assert {path.name for path in merged.iterdir() if path.is_dir()} == {"new", "held", ".held.7.writing"}


@pytest.mark.slow
def test_a_host_that_dies_leaves_the_repository_to_the_next(version: str, there: StandIn, tmp_path: Path) -> None:
    there.faults["put"] = ["hold"]
    other = ticking(RLFLEET_STATE=str(tmp_path / "elsewhere"))
    try:
        assert there.reached.wait(PATIENCE)
        assert tasks.mirror() == NONE
    finally:
        other.kill()
        other.wait()
    goes_on(version)
    assert_published_once(there)
