"""One shortened loop through real servers, real workers and a real transformer, with faults on the way."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from rich.console import Console

from db import job_views, lines, overview, session, settings
from db.overview import Facts
from db.session import transaction
from fleet.demo import recipe
from fleet.demo.story import Story
from fleet.demo.view import View
from fleet.ports import free_port
from fleet.running import Fleet
from rl.errors import MalformedWindow, UnknownWindow
from tests.conftest_redis import point_app_at

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SIZE = recipe.Size(episodes=300, bad_rows=5, sft_steps=120, rounds=2, scenarios=8, group=4, validation=24, held_out=40)
WORKERS = {"collect", "score", "maint", "gpu0"}


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """A fleet that runs, with the demo's logs and starter model in place and nothing trained."""
    folder = Path(tempfile.mkdtemp(prefix="rlfleet-loop-"))
    folder.chmod(0o711)
    before = dict(os.environ)
    environ = {name: value for name, value in before.items() if name not in ("DATABASE_URL", "REDIS_URL")} | {
        "RLFLEET_HOME": str(folder / "home"),
        "RLFLEET_GATEWAY_PORT": str(free_port()),
        "RLFLEET_FLOWER_PORT": str(free_port()),
        "RLFLEET_ADMIN_PORT": str(free_port()),
        "RLFLEET_LEASE_SECONDS": "30",
        "RLFLEET_TICK_SECONDS": "1",
    }
    _forget()
    others = set(psutil.Process().children(recursive=True))
    try:
        with Fleet(environ) as fleet:
            point_app_at(os.environ["REDIS_URL"])
            fleet.start()
            started = set(psutil.Process().children(recursive=True)) - others
            story = Story(fleet, 7, SIZE, "loop-7", 1, View(Console(quiet=True), SIZE))
            story._logs()
            story._starter()
            story._wait_for_fleet()
            with transaction() as rows:
                config = recipe.line(SIZE, 7, story.name, str(story.starter), f"jsonl://{story.logs}")
                lines.put(rows, story.name, config)
            yield story
        assert len(started) > 10
        assert [one for one in started if _lives(one)] == []
    finally:
        os.environ.clear()
        os.environ.update(before)
        _forget()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_killed_worker_and_ten_requests_make_one_version(story: Story) -> None:
    from tasks import train_window

    def online() -> set[str]:
        seen = _flower(story, "/api/workers?status=true")
        return {name.split("@")[0] for name, is_online in seen.items() if is_online}

    story.fleet.wait(lambda: online() == WORKERS, "every worker in Flower", 120)

    for _ in range(10):
        train_window.delay(story.hour, story.name)
    _until(story, lambda facts: _training_step(facts) > 0, 180)

    _kill_gpu_worker()
    facts = _until(story, lambda facts: facts.stable is not None, 240)
    training = [job for job in job_views.listing() if (job.kind, job.line) == ("train", story.name)]
    assert [(job.state, job.attempt, job.fence) for job in training] == [("succeeded", 2, 2)]
    assert facts.stable == f"{story.name}-v1.0.0"
    assert [one.version for one in facts.judged] == [facts.stable]
    assert facts.windows == {story.hour: "trained"}
    assert facts.trajectories == 300
    assert sum(facts.quarantined.values()) == 5
    states = [event["to"] for event in job_views.events(training[0].job_id)]
    assert states == ["queued", "running", "queued", "running", "succeeded"]


def test_rounds_of_practice_end_in_a_decision(story: Story) -> None:
    story._practise()
    facts = story._ask()
    assert facts.run_state == "finished"
    assert list(facts.windows.values()) == ["trained"] * 3
    assert facts.trajectories == 300 + 2 * 8 * 4
    assert facts.jobs == {"succeeded": 3 + 1 + 1 + 2 * 3 + 2 + 1 + len(_held_out(facts)), "failed": 0, "dead": 0}
    assert facts.decision is not None
    assert facts.decision["version"] in {one.version for one in facts.judged}
    assert facts.gateway_version == facts.stable
    ids = overview.scenario_ids(story.name)
    assert len(set(ids.values())) == 3


def test_flower_says_which_job_and_what_became_of_it(story: Story) -> None:
    said = [str(task["result"]) for task in _flower(story, "/api/tasks?taskname=rlfleet.train_window").values()]
    assert len(said) == 10
    assert all(f"train {story.name} {story.hour}" in line for line in said)
    trained = _flower(story, "/api/tasks?taskname=rlfleet.train").values()
    assert any("succeeded" in str(task["result"]) for task in trained)
    everything = _flower(story, "/api/tasks?limit=500").values()
    assert all(len(str(task["args"])) < 60 for task in everything)


def test_bad_requests_are_refused_by_name(story: Story) -> None:
    from tasks.requests import request

    with pytest.raises(MalformedWindow, match="window_id = 'yesterday'"):
        request("yesterday", story.name)
    with pytest.raises(UnknownWindow, match="2025-01-15T23:00"):
        request("2025-01-15T23:00", story.name)


def _held_out(facts: Facts) -> list[str]:
    return [one.version for one in facts.judged if one.split == "held_out"]


def _training_step(facts: Facts) -> int:
    steps = [(job.progress or {}).get("step", 0) for job in facts.active if job.kind == "train"]
    return int(max(steps, default=0))


def _until(story: Story, done: Callable[[Facts], bool], seconds: float) -> Facts:
    found: list[Facts] = []

    def look() -> bool:
        found[:] = [overview.read(story.name)]
        return done(found[0])

    story.fleet.wait(look, "what the test waits for", seconds)
    return found[0]


def _kill_gpu_worker() -> None:
    """SIGKILL for the worker, its pool process and the device's child, as the kernel's memory killer might.

    Celery renames its processes where setproctitle is installed: the name is ``gpu0@%h`` before, ``gpu0@host`` after.
    """
    below = psutil.Process().children(recursive=True)
    mine = [one for one in below if "gpu0@" in _command_line(one)]
    assert mine
    for process in mine:
        with suppress(psutil.NoSuchProcess):  # it ended with the one before
            process.send_signal(signal.SIGKILL)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _command_line(process: psutil.Process) -> str:
    """Empty of one that has ended since."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _flower(story: Story, path: str) -> dict[str, Any]:
    """What Flower's API says, once it says something."""
    name, password = story.fleet.plan.environ["FLOWER_BASIC_AUTH"].split(":")
    found: dict[str, Any] = {}

    def ask() -> bool:
        answer = httpx.get(f"{story.fleet.plan.flower_url}{path}", auth=(name, password), timeout=20, trust_env=False)
        found.update(answer.json())
        return bool(found)

    story.fleet.wait(ask, f"an answer of Flower to {path}", 60)
    return found


def _forget() -> None:
    import worker.settings

    settings.settings.cache_clear()
    session._engine.cache_clear()
    worker.settings.broker_url.cache_clear()
    worker.settings.settings.cache_clear()
