"""The mirror where steps of a file, time of a tick or word of a copy are lacking."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import tasks
from backends import wandb_orders
from backends.jsonl_sink import JsonlSink
from backends.steps import FILE
from db import mirrored, mirrors
from db.session import transaction
from tasks.mirrored_run import key_of
from tests.tasks.mirroring import add_version, artifacts, copied, end, forget, noted, steps
from tests.tasks.rows import rows

__all__ = ["artifacts"]

pytestmark = pytest.mark.usefixtures("fresh")

MIRROR: Any = sys.modules["tasks.mirror"]


def made_more(job_id: int) -> None:
    """The training is at step 200, and its file is not."""
    progress = {"step": 200, "curves": {"step": [1, 100, 200], "loss": [1.0, 0.01, 0.005]}}
    rows(
        "update rlfleet.jobs set progress = cast(:progress as jsonb) where id = :id returning 1",
        id=job_id,
        progress=json.dumps(progress),
    )


def test_what_a_file_lacks_at_its_end_is_of_the_row_when_the_training_ended(artifacts: Path) -> None:
    job_id, _ = add_version()
    steps(artifacts, job_id, 1, 10)
    made_more(job_id)
    assert tasks.mirror() == "jsonl: 1 copied; tensorboard: 1 copied"
    assert tasks.mirror() == "nothing to copy", "nothing more is known of it"
    assert [row["step"] for row in copied(artifacts)["metrics"]] == list(range(1, 11)), "they may be written yet"
    end(job_id)
    assert tasks.mirror() == "jsonl: 1 copied; tensorboard: 1 copied"
    found = copied(artifacts)["metrics"]
    assert [row["step"] for row in found] == [*range(1, 11), 100, 200]
    assert found[-1]["metrics"] == {"loss": 0.005}
    assert noted("jsonl")[0] == ("training", 200, 0, True)


def test_a_file_that_is_ahead_of_its_row_is_taken_as_it_is(artifacts: Path) -> None:
    job_id, _ = add_version()
    steps(artifacts, job_id, 1, 30)
    lines = (artifacts / "jobs" / str(job_id) / FILE).read_text()
    steps(artifacts, job_id, 1, 10)
    (artifacts / "jobs" / str(job_id) / FILE).write_text(lines)
    end(job_id)
    tasks.mirror()
    assert [row["step"] for row in copied(artifacts)["metrics"]] == list(range(1, 31))
    assert noted("jsonl")[0] == ("training", 30, 0, True)


def test_a_training_that_takes_long_for_its_next_copy_is_not_behind_and_one_that_ended_is(artifacts: Path) -> None:
    job_id, _ = add_version()
    steps(artifacts, job_id, 1, 600)
    tasks.mirror()
    rows("update rlfleet.mirrors set next_at = next_at - interval '9 hours' returning 1")
    steps(artifacts, job_id, 601, 620)
    assert tasks.mirror() == "nothing to copy"
    assert mirrors.behind() == []
    end(job_id)
    assert mirrors.behind() == [], "the next tick is to copy it"
    rows("update rlfleet.jobs set finished_at = now() - interval '2 hours' where id = :id returning 1", id=job_id)
    assert [(one.target, one.waiting) for one in mirrors.behind()] == [("jsonl", 1), ("tensorboard", 1)]


def test_a_slow_sink_leaves_the_others_their_time(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        job_id, _ = add_version()
        steps(artifacts, job_id, 1, 1)
        end(job_id)
    put, now = JsonlSink.put, [0.0]

    class Clock:
        monotonic = staticmethod(lambda: now[0])

    def slow(self: JsonlSink, run: Any) -> Any:
        now[0] += 6
        return put(self, run)

    monkeypatch.setattr(MIRROR, "time", Clock)
    monkeypatch.setattr(MIRROR, "BUDGET_SECONDS", 20.0)
    monkeypatch.setattr(JsonlSink, "put", slow)
    assert tasks.mirror() == "jsonl: 1 copied, 2 more follow; tensorboard: 3 copied"


def test_each_tick_brings_each_sink_on_also_when_its_time_is_over(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MIRROR, "BUDGET_SECONDS", -1.0)
    for _ in range(2):
        job_id, _ = add_version()
        steps(artifacts, job_id, 1, 1)
        end(job_id)
    assert tasks.mirror() == "jsonl: 1 copied, 1 more follow; tensorboard: 1 copied, 1 more follow"
    assert tasks.mirror() == "jsonl: 1 copied; tensorboard: 1 copied"
    assert tasks.mirror() == "nothing to copy"


def test_word_of_another_database_is_none(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_SINKS", "wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr("backends.wandb_sink.WandbSink._see_to_it", lambda self: None)
    forget()
    job_id, _ = add_version()
    steps(artifacts, job_id, 1, 5)
    end(job_id)
    with transaction() as session:
        origin = mirrored.origin(session, job_id)
        assert mirrored.origin(session, job_id + 9000) is None
    assert origin is not None
    folder = artifacts.parent / "state" / "wandb" / "arrived"
    folder.mkdir(parents=True)
    mark = {"fence": 1, "step": 5, "ended": True, "version": None, "facts": 0, "place": ""}
    for job, key, error in (
        (job_id, f"job-{job_id}-ffffffffff", None),
        (job_id + 9000, f"job-{job_id + 9000}-ffffffffff", "no answer"),
    ):
        wandb_orders.write(folder / f"{key}.json", {"mark": {"job": job, "key": key, **mark}, "error": error})
    tasks.mirror()
    assert noted("wandb") == []
    known = mark | {"job": job_id, "key": key_of(origin)}
    wandb_orders.write(folder / f"{key_of(origin)}.json", {"mark": known, "error": None})
    tasks.mirror()
    assert noted("wandb") == [("training", 5, 0, True)]
