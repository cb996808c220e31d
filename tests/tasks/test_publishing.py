"""Versions that were left to the fleet to publish, by ticks of the mirror, to a stand-in for the Hub over real HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import update

import tasks
from db import alerts, audit, mirrors, publications, versions
from db.session import transaction
from db.tables import Checkpoint, Version
from fleet.publish import digest
from tasks import publishing
from tests.fleet.publishing import adapter
from tests.hub_stand_in import TOKEN, StandIn, hub
from tests.tasks.mirroring import add_version, end, forget, noted, steps
from tests.tasks.real_worker import worker
from tests.tasks.rows import one, rows
from tests.worker.doubles import wait_until

pytestmark = pytest.mark.usefixtures("fresh")

ROOT = Path(__file__).parents[2]
REPO = "acme/agent"
TARGET = f"hub:{REPO}"
FILES = {".gitattributes", "README.md", "adapter_config.json", "adapter_model.safetensors"}
PATIENCE = 120.0
REVISION = "select done_at, error, options ->> 'revision' as revision from rlfleet.mirrors where target = :at"
NONE = "nothing to copy"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A Hub, and a worker that knows it and has nothing else to copy."""
    for name in ("RLFLEET_METRICS", "RLFLEET_STORE", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with hub() as found:
        values = {"HF_ENDPOINT": found.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "RLFLEET_SINKS": "none"}
        values |= {"RLFLEET_ARTIFACTS": str(tmp_path / "artifacts"), "RLFLEET_STATE": str(tmp_path / "state")}
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        forget()
        yield found
        while publishing._begun:
            left = publishing._begun.pop()
            left.process.kill()
            left.process.wait()
            left.close()
    forget()


@pytest.fixture
def version(there: StandIn, tmp_path: Path) -> str:
    """A version that passed, with its checkpoint, which somebody left to the fleet to publish."""
    job_id, name = add_version("ready")
    steps(tmp_path / "artifacts", job_id, 1, 3)
    end(job_id)
    folder = adapter(tmp_path / "checkpoint", tmp_path / "hub/models--maker--base/snapshots/0a")
    place = {"uri": str(folder), "base_uri": str(tmp_path / "hub/models--maker--base/snapshots/0a")}
    with transaction() as session:
        session.execute(update(Checkpoint).values(**place, sha256=digest(folder)))
    ask(name)
    return name


def ask(name: str, **options: Any) -> None:
    with transaction() as session:
        found = versions.named(session, name)[0]
        wanted = {"private": False, "merged": False, "any": False, "base": None} | options
        publications.ask(session, found.id, REPO, wanted)


def until_it_ended(version: str) -> str:
    """What the tick says that finds the publication ended."""
    deadline = time.monotonic() + PATIENCE
    while (said := tasks.mirror()) == f"hub: {version} is on its way":
        assert time.monotonic() < deadline, publishing._begun
        time.sleep(0.1)
    return said


def at_once() -> None:
    rows("update rlfleet.mirrors set next_at = now() where done_at is null returning 1")


def assert_published_once(there: StandIn) -> None:
    assert len(there.repositories[REPO].commits) == 2, "one made the repository, and one has the files"
    assert set(there.files(REPO)) == FILES
    row = one(REVISION, at=TARGET)
    assert (row.done_at is not None, row.error, row.revision) == (True, None, there.repositories[REPO].commits[-1][0])
    assert mirrors.behind() == []


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


def ticking(**variables: str) -> subprocess.Popen[bytes]:
    """A process of its own that ticks until somebody kills it."""
    argv = [sys.executable, "-c", "import tasks, time\nwhile True:\n    tasks.mirror()\n    time.sleep(0.1)"]
    return subprocess.Popen(argv, cwd=ROOT, env=os.environ | variables)


def goes_on(version: str) -> None:
    """The next tick that finds nothing published from this host begins anew, which is the last time."""
    deadline = time.monotonic() + PATIENCE
    while (said := tasks.mirror()) == NONE:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert said == f"hub: {version} begun"
    assert until_it_ended(version) == f"hub: {version} published"


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


def test_a_worker_that_is_killed_before_it_wrote_it_down_publishes_nothing_twice(version: str, there: StandIn) -> None:
    process = ticking(RLFLEET_ENV="test", RLFLEET_CRASH_AT="mirror:after-put")
    assert process.wait(PATIENCE) == -signal.SIGKILL
    assert noted(TARGET) == [("version", 0, 0, False)]
    assert len(there.repositories[REPO].commits) == 2
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
