"""Every registered task is done twice, and killed at every boundary that it passes: the rows must be those of once.

A task that is added without a recipe fails here, and one whose second run changes anything does too.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import text

import tasks
from db import jobs
from db import session as db_session
from db.session import transaction
from environments.play import Outcome
from rl.errors import TransientError
from tasks import carry
from tasks import settings as tasks_settings
from tests.conftest_database import empty
from tests.tasks.recipes import RECIPES, World
from worker import child as worker_child
from worker import crash
from worker import settings as worker_settings
from worker.app import app

TABLES = {
    "jobs": "kind, state, inputs - 'n', error",
    "windows": "name, state, reason",
    "trajectories": "trajectory_id, window_id",
    "turns": "trajectory_id, turn, action",
    "calls": "call_id, model",
    "scores": "trajectory_id, score",
    "datasets": "job_id, sha256",
    "dataset_trajectories": "trajectory_id, score",
    "versions": "name, state, job_id",
    "checkpoints": "job_id, step, kind, sha256",
    "evaluations": "job_id, k, n",
    "verdicts": 'scenario_id, sample, "right"',
    "decisions": "job_id, released, reason",
    "releases": "stage, share, reason, ended_at is null",
    "engines": "name, url",
    "alerts": "name, subject, sent_at is null",
    "mirrors": "target, kind, ref, sent, done_at is null, error",
    "schedule_slots where slot_at < now() - interval '1 day'": "name",
    "deliveries where at < now() - interval '1 day'": "message_id",
}
"""What an effect is made of; leases, fences, attempts and moments may differ."""


@pytest.fixture(scope="module")
def webhook() -> Iterator[str]:
    """Takes every alert."""

    class Takes(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Takes)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module", autouse=True)
def gpu_worker(tmp_path_factory: pytest.TempPathFactory, webhook: str) -> Iterator[Path]:
    """This process is one, with a child that has no model."""
    state = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLFLEET_ENV", "test")
        patch.setenv("RLFLEET_CHILD", "bench.faults.child")
        patch.setenv("RLFLEET_DEVICE", "cpu")
        patch.setenv("RLFLEET_STATE", str(state))
        patch.setenv("RLFLEET_STEP_SECONDS", "0.01")
        patch.setenv("RLFLEET_JOURNAL", str(state / "journal"))
        patch.setenv("RLFLEET_ALERT_WEBHOOK", webhook)
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        patch.setattr(worker_child, "_resident", None)
        patch.setattr(worker_child, "TICK_SECONDS", 0.05)
        forget_settings()
        yield state
        worker_child.resident().kill()
    forget_settings()


def forget_settings() -> None:
    worker_settings.settings.cache_clear()
    tasks_settings.alert_settings.cache_clear()


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The episodes of an evaluation, without a model: every second one succeeds."""

    async def play(_: object, task_set: Any, *__: object) -> list[Outcome]:
        prefix = f"{task_set.environment}/{task_set.split}"
        return [outcome(f"{prefix}/{number}", number) for number in range(task_set.count)]

    def outcome(scenario_id: str, number: int) -> Outcome:
        success = number % 2 == 0
        return Outcome(
            trajectory_id=f"t{number}",
            scenario_id=scenario_id,
            content_hash=str(number),
            reward=float(success),
            success=success,
            truncated=False,
            turns=1,
        )

    monkeypatch.setattr(sys.modules["tasks.evaluate"], "_play", play)  # the package has the task under that name
    monkeypatch.setattr(sys.modules["tasks.evaluate"], "_prompt_hash", lambda _: "")


@pytest.fixture
def world(database: str, broker: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("RLFLEET_ARTIFACTS", str(tmp_path / "artifacts"))
    return World(tmp_path)


def prepared(world: World, broker: Redis, name: str) -> tuple[Any, ...]:
    """The same rows with the same ids each time; the arguments to send the task with."""
    forget_settings()
    with transaction() as session:
        empty(session)
    broker.flushdb()
    return RECIPES[name](world)


def heal() -> None:
    """What the fleet does by itself, without waiting for it."""
    from tasks.ring import advance

    with transaction() as session:
        session.execute(text("update rlfleet.jobs set lease_until = now() - interval '1 s' where state = 'running'"))
        session.execute(text("update rlfleet.alerts set next_at = now()"))
    jobs.reap()
    with transaction() as session:
        session.execute(text("update rlfleet.jobs set run_at = now()"))
    advance(again=True)


def do(name: str, args: tuple[Any, ...]) -> None:
    result = app.tasks[name].apply(args=args)
    assert result.successful() or isinstance(result.result, TransientError), result.traceback


def effects() -> dict[str, list[Any]]:
    with transaction() as session:
        return {
            table: sorted(map(repr, session.execute(text(f"select {what} from rlfleet.{table}"))))  # noqa: S608
            for table, what in TABLES.items()
        }


def files(world: World) -> list[str]:
    """The artifacts, whichever attempt wrote them."""
    found = (path.relative_to(world.folder) for path in world.folder.glob("artifacts/jobs/*/fence-*"))
    return sorted(str(path) for path in found if path.name == "fence-77")


def crashed(name: str, args: tuple[Any, ...], point: str, state: Path) -> bool:
    """Whether a process that does the task was killed at the point."""
    from kombu import pools

    worker_child.resident().kill()  # the process below starts its own, and the device is one
    db_session.dispose()
    pools.reset()  # type: ignore[no-untyped-call]
    app._pool = app.amqp._producer_pool = None
    marker = state / "crash" / point
    marker.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        os.environ["RLFLEET_CRASH_AT"] = point
        worker_settings.settings.cache_clear()
        try:
            app.tasks[name].apply(args=args)
        finally:
            os._exit(0)
    killed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert killed == marker.exists()
    return killed


def points_of(name: str, args: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Do the task, and say which points it passed."""
    seen: dict[str, None] = {}
    with monkeypatch.context() as patch:
        for module in [one for key, one in sys.modules.items() if key.startswith("tasks.")]:
            patch.setattr(module, "crash_point", lambda point, task="": seen.setdefault(point), raising=False)
        do(name, args)
    return list(seen)


def test_every_task_has_a_recipe() -> None:
    assert set(RECIPES) == {name for name, task in app.tasks.items() if task.__module__.startswith("tasks.")}
    assert set(RECIPES) == {getattr(tasks, name).name for name in tasks.__all__}


@pytest.mark.parametrize("name", RECIPES)
def test_twice_is_once_and_a_crash_at_any_boundary_changes_nothing(
    name: str, world: World, broker: Redis, monkeypatch: pytest.MonkeyPatch, gpu_worker: Path
) -> None:
    # Whether a beat is written, which is a boundary too, must not depend on how long anything takes.
    monkeypatch.setenv("RLFLEET_LEASE_SECONDS", "3600")
    monkeypatch.setattr(carry, "BEAT_SECONDS", 0.0 if name == "rlfleet.train" else math.inf)
    points = points_of(name, prepared(world, broker, name), monkeypatch)
    assert points, f"{name} can be killed nowhere: give it a crash_point of its own"
    heal()
    once, left = effects(), files(world)
    assert any(once.values())

    args = prepared(world, broker, name)
    for _ in range(2):
        do(name, args)
    heal()
    do(name, args)
    assert (effects(), files(world)) == (once, left), "done twice"

    for point in points:
        assert point in crash.POINTS
        args = prepared(world, broker, name)
        assert crashed(name, args, point, gpu_worker), point
        heal()
        do(name, args)
        heal()
        assert (effects(), files(world)) == (once, left), f"killed at {point}"
