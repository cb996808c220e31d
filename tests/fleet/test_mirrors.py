"""A training and its release in a real fleet whose mirror hangs and refuses, until the mirror is there again."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import text

from backends.steps import FILE, read
from db import fleet_state, job_views, lines, mirrors, overview, session, settings
from db.session import transaction
from fleet.demo import recipe
from fleet.demo.story import Story
from fleet.demo.view import View
from fleet.ports import free_port
from fleet.running import Fleet
from tests.conftest_redis import point_app_at
from tests.wandb_stand_in import KEY, wandb_service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SIZE = recipe.Size(episodes=120, bad_rows=1, sft_steps=40, rounds=1, scenarios=4, group=2, validation=8, held_out=8)
PATIENCE = 300.0


@dataclass
class World:
    story: Story
    port: int
    artifacts: Path

    def until(self, done: Callable[[], bool], what: str) -> None:
        self.story.fleet.wait(done, what, PATIENCE)

    def error(self) -> str:
        return next((one.error for one in mirrors.behind() if one.target == "wandb"), "")

    def until_behind(self, words: str) -> None:
        """Until the mirror says that of why it is behind."""
        self.ringing(lambda: words in self.error(), f"the words {words!r}")

    def ringing(self, done: Callable[[], bool], what: str) -> None:
        """Have the fleet look at once and not in a minute, until it holds; what waits for another try has waited."""
        from tasks import mirror

        def look() -> bool:
            with transaction() as rows:
                rows.execute(text("update rlfleet.mirrors set next_at = now() where done_at is null"))
            mirror.delay()
            return done()

        self.until(look, what)


@pytest.fixture
def world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="rlfleet-mirrors-"))
    folder.chmod(0o711)
    before = dict(os.environ)
    held = socket.socket()  # bound, so that nobody else gets the port; refused until the service listens there
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    port = held.getsockname()[1]
    try:
        environ = {name: value for name, value in before.items() if name not in ("DATABASE_URL", "REDIS_URL")} | {
            "RLFLEET_HOME": str(folder / "home"),
            "RLFLEET_GATEWAY_PORT": str(free_port()),
            "RLFLEET_FLOWER_PORT": str(free_port()),
            "RLFLEET_ADMIN_PORT": str(free_port()),
            "RLFLEET_TICK_SECONDS": "1",
            "RLFLEET_SINKS": "jsonl,tensorboard,wandb",
            "WANDB_API_KEY": KEY,
            "WANDB_BASE_URL": f"http://127.0.0.1:{port}",
        }
        _forget()
        with Fleet(environ) as fleet:
            point_app_at(os.environ["REDIS_URL"])
            fleet.start()
            story = Story(fleet, 7, SIZE, "mirrored", 1, View(Console(quiet=True), SIZE))
            story._logs()
            story._starter()
            story._wait_for_fleet()
            with transaction() as rows:
                config = recipe.line(SIZE, 7, story.name, str(story.starter), f"jsonl://{story.logs}")
                lines.put(rows, story.name, config)
            yield World(story, port, Path(fleet.plan.environ["RLFLEET_ARTIFACTS"]))
    finally:
        os.environ.clear()
        os.environ.update(before)
        held.close()
        _forget()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_training_and_its_release_go_on_without_the_mirror_which_catches_up(world: World) -> None:
    from tasks import train_window

    story = world.story
    train_window.delay(story.hour, story.name)
    world.until_behind("(ConnectError)")
    with wandb_service(world.port) as service:
        service.answer = "hang"
        world.until(lambda: overview.read(story.name).stable is not None, "the release")
        world.until_behind("(ReadTimeout)")
        for status in (500, 401):
            service.answer = status
            world.until_behind(f"answered {status}")
        assert not service.runs, "nothing was sent"
        jobs = job_views.listing()
        assert {(job.state, job.attempt) for job in jobs} == {("succeeded", 1)}
        (told,) = fleet_state.read()["mirrors"]
        assert (told["target"], told["waiting"]) == ("wandb", 2)
        job = next(job for job in jobs if job.kind == "train")
        made = [one.step for one in read(world.artifacts / "jobs" / str(job.job_id) / FILE)]
        assert made == list(range(1, len(made) + 1))
        assert len(made) > 10

        service.answer = "ok"
        world.ringing(lambda: not mirrors.behind() and bool(service.artifacts), "the copy")
        (run,) = service.runs.values()
        assert [line["_step"] for line in run.history] == made
        assert (run.about["displayName"], run.about["groupName"]) == (f"{story.name}-v1.0.0", story.name)
        (artifact,) = service.artifacts.values()
        assert artifact["state"] == "COMMITTED"
        assert artifact["asked"]["artifactCollectionName"] == f"{story.name}-v1.0.0"
    metrics = world.artifacts / "metrics"
    assert [path.suffix for path in metrics.glob(f"{story.name}/*")] == [".jsonl"]
    assert any((metrics / "tensorboard" / story.name).rglob("events.out.tfevents.*"))


def _forget() -> None:
    import worker.settings

    settings.settings.cache_clear()
    session._engine.cache_clear()
    worker.settings.broker_url.cache_clear()
    worker.settings.settings.cache_clear()
