from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from celery.beat import Scheduler
from redis import Redis

import tasks
from beat_schedule import ENTRIES
from rl.protocol import TASK_QUEUES
from tasks import maintain
from tests.tasks.rows import EAGER, add_line, add_scored, messages, rows, within_a_period
from worker.app import app

ROOT = Path(__file__).parents[2]
PLANS = sorted(name for name, entry in ENTRIES.items() if entry["task"] == "rlfleet.plan")
BEAT = """
import sys
from celery.apps.beat import Beat
from celery.beat import Service
from worker.app import app
beat = Beat(app=app, schedule=sys.argv[1])
beat.init_loader()
app.finalize()
scheduler = Service(app, schedule_filename=sys.argv[1]).get_scheduler()
print(*sorted(scheduler.schedule))
scheduler.close()
print(*sorted(name for name in sys.modules if name.split(".")[0] in ("db", "gpu", "tasks", "torch")))
"""


@pytest.mark.parametrize("name", ENTRIES)
def test_beat_sends_each_entry_to_its_queue_with_an_expiry_that_no_second_tick_overtakes(
    broker: Redis, name: str
) -> None:
    broker.flushdb()
    scheduler = Scheduler(app)
    entry = scheduler.schedule[name]
    now = datetime.now(UTC)
    scheduler.apply_async(entry, advance=False)

    (queue,) = found = messages(broker)
    (sent,) = found[queue]
    assert (sent.task, queue) == (ENTRIES[name]["task"], TASK_QUEUES[sent.task])
    assert sent.task in app.tasks
    assert sent.args == list(ENTRIES[name].get("args", ()))
    assert sent.expires is not None
    expires_in = (sent.expires - now).total_seconds()
    assert 0 < expires_in <= ENTRIES[name]["options"]["expires"] + 5
    assert ENTRIES[name]["options"]["expires"] <= _period(name)


def _period(name: str) -> float:
    schedule = ENTRIES[name]["schedule"]
    if hasattr(schedule, "total_seconds"):
        return float(schedule.total_seconds())
    return float(ENTRIES[name]["args"][-1])


def test_the_schedule_has_nothing_of_celerys_own() -> None:
    assert set(Scheduler(app).schedule) == set(ENTRIES)


@pytest.mark.parametrize("name", PLANS)
def test_of_two_beats_one_has_the_tick(fresh: str, name: str) -> None:
    stage, _ = ENTRIES[name]["args"]
    hours = 10**9  # no tick ends while this runs
    assert tasks.plan(stage, hours) == f"{stage}: asked for 0, rang 0"
    assert tasks.plan(stage, hours) == f"{stage}: this tick is taken"


def test_stages_have_ticks_of_their_own(fresh: str) -> None:
    assert [tasks.plan(stage, 10**9) for stage in ("collect", "score")] == [
        "collect: asked for 0, rang 0",
        "score: asked for 0, rang 0",
    ]


def test_a_beat_process_loads_the_schedule_and_no_task(broker: Redis, redis_url: str, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "REDIS_URL": redis_url}
    words = [sys.executable, "-c", BEAT, str(tmp_path / "schedule")]
    run = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    entries, heavy = run.stdout.splitlines()
    assert entries.split() == sorted(ENTRIES)
    assert heavy.split() == []


def test_the_daily_training_is_due_when_its_entry_says() -> None:
    schedule = ENTRIES["train"]["schedule"]
    ((hour,), (minute,)) = (schedule.hour, schedule.minute)
    assert ((hour * 60 + minute) * 60, ENTRIES["train"]["args"][1]) == (maintain.TRAIN_SECONDS, maintain.DAY_SECONDS)


def test_the_reconciler_asks_for_the_daily_training_once_when_no_beat_did(
    fresh: str, broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    within_a_period(maintain.DAY_SECONDS)
    monkeypatch.setattr(maintain, "TRAIN_SECONDS", 0)  # due since midnight
    line = add_line(automatic=True, readiness=EAGER)
    add_scored(line, "2025-01-15T10:00")
    assert maintain.reconcile_once() == "took back 0, rang 0", "the fleet was not there at that time"
    rows("update rlfleet.schedule_slots set taken_at = now() - interval '2 days' returning 1")
    assert maintain.reconcile_once() == "took back 0, rang 1"
    assert [sent.task for sent in messages(broker)["gpu"]] == ["rlfleet.train"]
    add_scored(line, "2025-01-15T11:00")
    assert maintain.reconcile_once() == "took back 0, rang 0", "this day's slot is taken"
