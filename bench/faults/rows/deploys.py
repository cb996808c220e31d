"""Rows 17, 18 and 26: workers are replaced while they work, politely and not, by others of another version."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.faults.bench import ENVIRON, Bench
from bench.faults.expect import expect
from bench.faults.rows import Ours, row
from bench.faults.work import Hours, Job
from bench.faults.workers import STANDING, Worker

ROOT = Path(__file__).resolve().parents[3]
DRAIN_SECONDS = float(ENVIRON["RLFLEET_DRAIN_SECONDS"])
STEPS = 24
IMPATIENCE_SECONDS, GRACE_SECONDS = 0.1, 1.0
PING_SECONDS = 5.0


@row(17, "SIGTERM of a worker in mid-training, as a deployment does", limit_seconds=90)
def deploy(bench: Bench) -> Ours:
    """The state is saved, the job goes back at once and uncharged, and another worker goes on from that step."""
    bench.workers.stand()
    hours, job, worker = _training(bench)
    answered = _ping(bench, job)
    began = time.monotonic()
    worker.send(signal.SIGTERM)
    released = bench.work.wait_job(hours, lambda one: one.interruptions == 1, DRAIN_SECONDS + 5, "handed back")
    took = time.monotonic() - began
    expect(took <= DRAIN_SECONDS, f"handed back {took:.1f} s after SIGTERM, and the drain is {DRAIN_SECONDS:g} s")
    expect(released.attempt == job.attempt - 1 or released.fence == 2, "the interrupted attempt was charged")
    expect(worker.wait_end() == 0, "the worker did not end well")
    bench.work.wait_all(40)
    done = bench.work.of(hours)[-1]
    step = _resumed(bench, done)
    expect((done.state, done.attempt) == ("succeeded", 1), f"job {done.id} is {done.state} on attempt {done.attempt}")
    expect(step > 0, "the training began anew, and a state had been saved")
    return bench.work.ours(ping_seconds=answered, handed_back_seconds=round(took, 1), resumed_from_step=step, of=STEPS)


def _ping(bench: Bench, job: Job) -> float:
    """Seconds until every standing worker has answered ``inspect ping``, one of them in the middle of a training."""
    from worker.app import app

    began = time.monotonic()
    answers = app.control.ping(timeout=PING_SECONDS, limit=len(STANDING))
    took = time.monotonic() - began
    names = sorted(name.partition("@")[0] for answer in answers for name in answer)
    expect(names == sorted(STANDING), f"{names} answered a ping in {took:.1f} s, and {sorted(STANDING)} stand")
    still = next(one for one in bench.work.jobs("train") if one.id == job.id)
    expect(still.state == "running" and still.fence == job.fence, f"job {job.id} was {still.state} during the ping")
    return round(took, 2)


def _training(bench: Bench, behaviour: str = "") -> tuple[Hours, Job, Worker]:
    hours = bench.work.line(steps=STEPS, behaviour=behaviour)
    bench.work.ask(hours)
    job = bench.work.in_training(hours)
    return hours, job, bench.workers.holder(job.owner or "")


def _resumed(bench: Bench, job: Job) -> int:
    """The step that the version's training went on from."""
    manifest: dict[str, Any] = bench.ground.one("select manifest from rlfleet.versions where job_id = :id", id=job.id)[
        0
    ]
    return int(manifest["resumed"]["step"])


@row(18, "SIGTERM twice; SIGTERM, then SIGKILL at the end of the grace", limit_seconds=120, recovery=True)
def impatient(bench: Bench) -> Ours:
    """However a worker is hurried, the job is done by another, within the bound of a killed one."""
    slowest = 0.0
    for hurry in (_twice, _kill_after_grace):
        bench.workers.stand()
        _, job, worker = _training(bench)
        since = bench.ground.now()
        hurry(worker)
        slowest = max(slowest, bench.work.recovery(job.id, since))
        worker.wait_end()
        bench.work.wait_all(60)
    return bench.work.ours(slowest)


def _twice(worker: Worker) -> None:
    worker.send(signal.SIGTERM)
    time.sleep(IMPATIENCE_SECONDS)
    if worker.alive:
        worker.send(signal.SIGTERM)


def _kill_after_grace(worker: Worker) -> None:
    """The device's child is stopped, so that nothing can be saved."""
    worker.trainer().suspend()
    worker.send(signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    expect(worker.alive, "the worker has ended within the grace: the row does not break what it says")
    worker.kill()


@row(26, "two versions at once: newer senders, newer workers, a newer schema", limit_seconds=120)
def mixed_versions(bench: Bench) -> Ours:
    """What neither knows of the other does not matter: both finish their work."""
    bench.workers.stand(("maint", "collect", "score", "gpu0"))
    bench.workers.stop("gpu1")
    newer = bench.workers.start("newer", "gpu", {"PYTHONPATH": str(_newer_tasks(bench))})
    bench.workers.ready(newer)
    wanted = bench.work.lines(4, steps=4)
    with _newer_schema(bench):
        for hours in wanted[:2]:
            _ask_as_newer(bench, hours)
        bench.work.ask(*wanted)
        bench.work.wait_all(60)
    owners = {bench.workers.holder(job.owner or "").name for job in bench.work.jobs("train")}
    expect(owners == {"gpu0", "newer"}, f"only {owners} have trained: the row needs both versions")
    rejected = bench.ground.rows("select reason, subject, count from rlfleet.rejections")
    expect(not rejected, f"messages of the other version were rejected: {[tuple(one) for one in rejected]}")
    return bench.work.ours()


def _newer_tasks(bench: Bench) -> Path:
    """A copy of the tasks in which a training takes one argument more."""
    folder = bench.ground.folder("newer")
    shutil.copytree(ROOT / "tasks", folder / "tasks", ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    module = folder / "tasks" / "train.py"
    older, newer = "def train(job_id: int)", "def train(job_id: int, reason: str | None = None)"
    expect(older in module.read_text(), f"{module} has no {older!r} to make newer")
    module.write_text(module.read_text().replace(older, newer))
    return folder


def _ask_as_newer(bench: Bench, hours: Hours) -> None:
    """A request, and a ring for its training, with an argument that the present tasks do not know."""
    from worker.app import app

    ids = bench.work.accept(hours)
    app.send_task("rlfleet.train_window", (hours.windows[0], hours.line), {"reason": "new"}, queue="maint")
    app.send_task("rlfleet.train", (ids[0],), {"reason": "new"}, queue="gpu")


@contextmanager
def _newer_schema(bench: Bench) -> Iterator[None]:
    """A nullable column that the present code does not know, added while work runs."""
    bench.ground.do("alter table rlfleet.jobs add column newer text")
    try:
        yield
    finally:
        bench.ground.do("alter table rlfleet.jobs drop column newer")
