"""Versions that were left to the fleet to publish, by ticks of the mirror, to a stand-in for the Hub over real HTTP."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import update

import tasks
from db import alerts, audit, mirrors
from db.session import transaction
from db.tables import Version
from tasks import publishing
from tests.hub_stand_in import TOKEN, StandIn
from tests.tasks.left_to_publish import (
    NONE,
    PATIENCE,
    REPO,
    TARGET,
    ask,
    assert_published_once,
    at_once,
    goes_on,
    there,
    ticking,
    until_it_ended,
    version,
)
from tests.tasks.mirroring import forget, noted
from tests.tasks.real_worker import worker
from tests.worker.doubles import wait_until

__all__ = ["there", "version"]

pytestmark = pytest.mark.usefixtures("fresh")


def test_it_is_published_by_itself_and_the_audit_has_the_commit(version: str, there: StandIn) -> None:
    assert tasks.mirror() == f"hub: {version} begun"
    assert until_it_ended(version) == f"hub: {version} published"
    assert_published_once(there)
    assert tasks.mirror() == NONE
    assert not any(TOKEN in target for target in there.targets)
    revision = there.repositories[REPO].commits[-1][0]
    with transaction() as session:
        told = [(row.actor, row.subject, row.outcome, row.detail.get("revision")) for row in audit.listing(session)]
    assert told == [("mirror@shell", version, "done", revision), ("mirror@shell", version, "done", None)]
    ask(version)
    tasks.mirror()
    assert until_it_ended(version) == f"hub: {version} published"
    assert_published_once(there)


@pytest.mark.slow
def test_a_hub_that_is_away_is_told_stops_no_other_and_has_it_once_it_answers(
    version: str, there: StandIn, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("RLFLEET_SINKS", "jsonl")
    forget()
    assert tasks.mirror() == f"jsonl: 1 copied; hub: {version} begun"
    assert noted("jsonl") == [("training", 3, 0, True), ("version", 1, 0, True)]
    assert until_it_ended(version) == f"hub: {version} failed"
    (behind,) = mirrors.behind()
    assert (behind.target, behind.waiting) == (TARGET, 1)
    assert behind.error == (
        f"maker/base: the Hub at http://127.0.0.1:{closed_port} did not answer (ConnectError); see that this machine "
        "reaches it (HF_ENDPOINT, proxies)"
    )
    assert tasks.mirror() == NONE, "it is not tried before its time"
    monkeypatch.setenv("HF_ENDPOINT", there.url)
    at_once()
    assert tasks.mirror() == f"hub: {version} begun"
    assert until_it_ended(version) == f"hub: {version} published"
    assert_published_once(there)


def test_a_token_that_is_refused_is_told_and_tried_again(
    version: str, there: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    tasks.mirror()
    assert until_it_ended(version) == f"hub: {version} failed"
    (behind,) = mirrors.behind()
    said = "acme/agent: the Hub refuses the token (401) (Invalid username or password.); set HF_TOKEN"
    assert behind.error.startswith(said)
    assert "hf_wrong" not in behind.error
    assert noted(TARGET) == [("version", 0, 1, False)]
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    at_once()
    tasks.mirror()
    assert until_it_ended(version) == f"hub: {version} published"
    assert_published_once(there)


def test_a_worker_without_a_token_says_so_and_starts_nothing(
    version: str, there: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert tasks.mirror() == f"hub: {version} failed"
    assert mirrors.behind()[0].error.startswith("HF_TOKEN = '': set it to a token with write access")
    assert publishing._begun == []


def test_what_may_not_be_published_any_more_is_given_up_with_an_alert(version: str, there: StandIn) -> None:
    with transaction() as session:
        session.execute(update(Version).values(state="rejected"))
    tasks.mirror()
    assert until_it_ended(version) == f"hub: {version} refused"
    assert (mirrors.behind(), tasks.mirror(), there.asked) == ([], NONE, [])
    (alert,) = alerts.waiting()
    assert (alert.name, alert.subject, alert.detail["repository"]) == ("publication_refused", version, REPO)
    assert alert.detail["error"].startswith(f"version = '{version}': it is rejected: only what passed")


def test_a_checkpoint_of_another_host_is_that_hosts_to_publish(version: str, there: StandIn, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").rename(tmp_path / "elsewhere")
    assert tasks.mirror() == NONE
    assert [behind.error for behind in mirrors.behind()] == ["not tried yet"]


def test_the_command_knows_no_secret_that_it_does_not_need(
    version: str, there: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("hunter2")
    for name in ("RLFLEET_JUDGE_KEY", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("RLFLEET_ENGINE_KEY_FILE", str(tmp_path / "key"))
    there.faults["create"] = ["hold"]
    tasks.mirror()
    assert there.reached.wait(PATIENCE)
    folder = Path("/proc") / str(publishing._begun[0].process.pid)
    environ = dict(one.split("=", 1) for one in (folder / "environ").read_text().split("\0") if "=" in one)
    assert {name: environ.get(name) for name in ("HF_TOKEN", "HF_ENDPOINT", "USER")} == {
        "HF_TOKEN": TOKEN,
        "HF_ENDPOINT": there.url,
        "USER": "mirror",
    }
    assert "DATABASE_URL" in environ
    assert not {"RLFLEET_JUDGE_KEY", "WANDB_API_KEY", "RLFLEET_ENGINE_KEY_FILE"} & environ.keys()
    assert TOKEN not in (folder / "cmdline").read_text()


def test_one_that_takes_too_long_is_ended(version: str, there: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "LIMIT_SECONDS", 2)
    there.faults["create"] = ["hold"]
    tasks.mirror()
    assert until_it_ended(version) == f"hub: {version} failed"
    assert mirrors.behind()[0].error == "it took longer than 2 s"


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["put:hold", "commit:held"])
def test_a_worker_that_is_killed_takes_the_command_with_it_and_the_next_goes_on(
    fault: str, version: str, there: StandIn
) -> None:
    stage, what = fault.split(":")
    there.faults[stage] = [what]
    process = ticking()
    try:
        assert there.reached.wait(PATIENCE)
        assert tasks.mirror() == NONE, "one at a time is published from a host"
    finally:
        process.kill()
        process.wait()
    goes_on(version)
    assert_published_once(there)


def test_a_command_that_is_killed_before_it_wrote_it_down_publishes_nothing_twice(
    version: str, there: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as crashing:
        crashing.setenv("RLFLEET_ENV", "test")
        crashing.setenv("RLFLEET_CRASH_AT", "mirror:after-put")
        assert tasks.mirror() == f"hub: {version} begun"
        assert until_it_ended(version) == f"hub: {version} failed"
    assert mirrors.behind()[0].error == "signal 9 ended it"
    assert len(there.repositories[REPO].commits) == 2
    at_once()
    goes_on(version)
    assert_published_once(there)


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_leaves_no_process_and_the_next_one_publishes(
    version: str, there: StandIn, broker: Redis, tmp_path: Path
) -> None:
    there.faults["put"] = ["hold"]
    log = tmp_path / "state" / "worker.log"
    log.parent.mkdir()
    with worker(log, "maint") as process:
        tasks.mirror.delay()
        assert there.reached.wait(PATIENCE), log.read_text()
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)

    def is_over() -> bool:
        with publishing._alone() as lock:
            return lock is not None

    wait_until(is_over, PATIENCE)
    there.released.set()

    def is_done() -> bool:
        tasks.mirror.delay()
        time.sleep(0.5)
        return noted(TARGET) == [("version", 0, 0, True)]

    with worker(log, "maint"):
        wait_until(is_done, PATIENCE)
    assert_published_once(there)
