"""Rows 21 and 22: the device fails in every way that has a name, and the disk is full."""

from __future__ import annotations

import os
from pathlib import Path

from bench.faults.bench import Bench
from bench.faults.expect import expect, wait_until
from bench.faults.rows import Ours, row
from bench.faults.work import Hours, Job

LONG_AGO = 1.0
"""A moment, in seconds since 1970, for files that are to look left behind."""


@row(21, "the device runs out of memory, breaks, hangs, and diverges", limit_seconds=150)
def device_fails(bench: Bench) -> Ours:
    """Each has its name; what can pass is tried again, a hang is killed, and what cannot is ended with a reason."""
    bench.workers.stand()
    once = {word: bench.work.line(steps=4, behaviour=f"{word}@1") for word in ("broken", "hang")}
    always = {word: bench.work.line(steps=4, behaviour=word) for word in ("broken", "oom", "diverged")}
    bench.work.ask(*once.values(), *always.values())
    bench.work.wait_all(120)
    for word, named in (("broken", "ChildLost"), ("hang", "no progress for")):
        job = _only(bench, once[word])
        expect(job.state == "succeeded", f"{word} once: job {job.id} is {job.state}: {job.error}")
        expect(job.fence == 2, f"{word} once: the job was claimed {job.fence} times")
        _says(bench, job, named)
    dead = _only(bench, always["broken"])
    expect((dead.state, dead.fence) == ("dead", 3), f"broken always: job {dead.id} is {dead.state} at {dead.fence}")
    # The child says so when even one sequence does not fit, and without CUDA nothing smaller is left to try.
    for word, named in (("oom", "out of memory"), ("diverged", "TrainingDiverged")):
        job = _only(bench, always[word])
        expect((job.state, job.fence) == ("failed", 1), f"{word}: job {job.id} is {job.state} at {job.fence}")
        _says(bench, job, named)
    told = {str(one[0]) for one in bench.ground.rows("select name from rlfleet.alerts")}
    expect({"job_dead", "job_failed"} <= told, f"alerts are {sorted(told)}: a person hears of dead and failed jobs")
    return bench.work.ours()


def _only(bench: Bench, hours: Hours) -> Job:
    return bench.work.of(hours)[0]


def _says(bench: Bench, job: Job, words: str) -> None:
    reasons = bench.work.reasons(job.id)
    expect(any(words in reason for reason in reasons), f"job {job.id} says nothing of {words!r}: {reasons}")


@row(22, "the disk is full, for the dataset and for the checkpoint; half of an artifact", limit_seconds=90)
def disk_full(bench: Bench) -> Ours:
    """No version points to what is not there whole, the job is done when there is room, and nothing is left behind."""
    bench.workers.stand(("maint", "collect", "score"))
    bench.workers.stop("gpu0", "gpu1")
    no_dataset = bench.work.line(steps=2)
    no_room, half = bench.work.line(steps=2, behaviour="full@1"), bench.work.line(steps=2, behaviour="partial@1")
    first = bench.work.accept(no_dataset)[0]
    dataset = _attempt(bench, first, 1) / "dataset.jsonl"
    dataset.parent.mkdir(parents=True)
    dataset.symlink_to("/dev/full")
    bench.workers.stand(("gpu0",))
    bench.work.ask(no_room, half)
    bench.work.wait_all(60)
    for hours, named in ((no_dataset, "DiskFull"), (no_room, "DiskFull"), (half, "ChildLost")):
        job = _only(bench, hours)
        expect((job.state, job.fence) == ("succeeded", 2), f"job {job.id} is {job.state} at {job.fence}: {job.error}")
        _says(bench, job, named)
    for (uri,) in bench.ground.rows("select uri from rlfleet.checkpoints"):
        expect((Path(uri) / "weights.json").stat().st_size > 0, f"a version's checkpoint is not whole: {uri}")
    return bench.work.ours(temporaries_left=_left_after_pruning(bench))


def _attempt(bench: Bench, job: int, fence: int) -> Path:
    return bench.ground.folder("artifacts") / "jobs" / str(job) / f"fence-{fence}"


def _left_after_pruning(bench: Bench) -> int:
    """Temporaries that are still there after the daily pruning, a day later."""
    from worker.app import app

    artifacts = bench.ground.folder("artifacts")
    for path in artifacts.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)
    before = _temporaries(artifacts)
    expect(before, "the child that died in the middle has left nothing: the row does not break what it says")
    app.send_task("rlfleet.prune")
    wait_until(lambda: not _temporaries(artifacts), 20, f"the end of {before[0]}")
    return len(_temporaries(artifacts))


def _temporaries(artifacts: Path) -> list[Path]:
    return [*artifacts.glob("jobs/*/*/*.writing")]
