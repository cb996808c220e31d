"""Rows 23 and 25: messages that no task can be made of, and jobs that nobody wants any more."""

from __future__ import annotations

import base64
import json
import pickle
import time
import uuid
from typing import Any

from bench.faults.bench import Bench
from bench.faults.expect import expect, wait_until
from bench.faults.rows import Ours, row
from db import jobs
from db.job_states import State

PREFIX = "rlfleet:"
HEARTBEAT_SECONDS = 2.0
"""A holder hears of a request to cancel at its next heartbeat, a quarter of the lease at most."""
WRONG = {
    "bad_arguments": 3,
    "unknown_task": 1,
    "refused_content_type": 1,
    "undecodable": 1,
    "not_a_message": 1,
}
"""What ``_send_wrong`` sends, by the reason that it is counted under."""


@row(23, "wrong arguments, unknown tasks and queues, pickles, and no messages at all", limit_seconds=90)
def rejected_messages(bench: Bench) -> Ours:
    """Each is rejected and counted, runs nothing, and the workers take the next message."""
    bench.workers.stand()
    mains = {name: bench.workers[name].main.pid for name in ("maint", "gpu0", "score")}
    _send_wrong(bench)
    unrouted = _unknown_queue_is_refused()
    _await_counted(bench, sum(WRONG.values()))
    hours = bench.work.line(steps=2)
    bench.work.ask(hours)
    bench.work.wait_all(60)
    for name, pid in mains.items():
        worker = bench.workers[name]
        expect(worker.alive and worker.main.pid == pid, f"{worker} did not outlive what it was sent")
    expect(unrouted, "a message for a queue that nobody has was taken")
    counted = _counted(bench)
    expect(counted == WRONG, f"counted as rejected: {counted}, and sent were {WRONG}")
    return bench.work.ours(rejected=counted)


def _send_wrong(bench: Bench) -> None:
    """Seven messages, each wrong in its own way."""
    from worker.app import app

    app.send_task("rlfleet.train", (), queue="gpu")
    app.send_task("rlfleet.train", ("seven",), queue="gpu")
    app.send_task("rlfleet.score", (1, 2, 3), queue="score")
    app.send_task("rlfleet.nothing", (1,), queue="maint")
    _publish(bench, "maint", pickle.dumps(((1,), {}, {})), "application/x-python-serialize", "binary")
    _publish(bench, "maint", b"[1, 2", "application/json", "utf-8")
    bench.ground.broker.lpush(f"{PREFIX}maint", "this is no message")


def _publish(bench: Bench, queue: str, body: bytes, content_type: str, encoding: str) -> None:
    """A message as kombu lays it into Redis, with a body of our own."""
    number = str(uuid.uuid4())
    message: dict[str, Any] = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": encoding,
        "content-type": content_type,
        "headers": {"lang": "py", "task": "rlfleet.reconcile", "id": number, "root_id": number},
        "properties": {
            "correlation_id": number,
            "delivery_mode": 2,
            "delivery_tag": number,
            "delivery_info": {"exchange": "rlfleet", "routing_key": queue},
            "body_encoding": "base64",
            "priority": 0,
        },
    }
    bench.ground.broker.lpush(f"{PREFIX}{queue}", json.dumps(message))


def _unknown_queue_is_refused() -> bool:
    """Whether a sender of ours that mistypes a queue hears of it."""
    from kombu.exceptions import KombuError

    from rl.errors import RlfleetError
    from worker.app import app

    try:
        app.send_task("rlfleet.reconcile", queue="mantle")
    except (KombuError, RlfleetError, LookupError):
        return True
    return False


def _counted(bench: Bench) -> dict[str, int]:
    """How many messages were counted as rejected, by reason."""
    rows = bench.ground.rows("select reason, sum(count) from rlfleet.rejections group by reason")
    return {str(row[0]): int(row[1]) for row in rows}


def _await_counted(bench: Bench, number: int) -> None:
    """Until so many messages were counted as rejected."""
    try:
        wait_until(lambda: sum(_counted(bench).values()) >= number, 40, f"{number} messages counted as rejected")
    except TimeoutError as error:
        raise TimeoutError(f"{error}: {_counted(bench)}") from error


@row(25, "jobs are cancelled while they wait, while they run, and while the broker is down", limit_seconds=90)
def cancelled(bench: Bench) -> Ours:
    """A job that waits ends at once, one that runs at its next heartbeat; nothing of them is committed."""
    bench.workers.stand(("maint", "collect", "score"))
    bench.workers.stop("gpu0", "gpu1")
    waits, runs, cut_off = bench.work.lines(3, steps=60)
    bench.work.ask(waits)
    waiting = bench.work.wait_job(waits, lambda job: _is_ready(bench, job.id), 30, "waiting for a device")
    expect(jobs.cancel(waiting.id) is State.CANCELLED, "a job that waits was not cancelled at once")
    bench.workers.stand(("gpu0",))
    bench.work.ask(runs)
    while_running = _cancel(bench, bench.work.in_training(runs).id)
    bench.work.ask(cut_off)
    job = bench.work.in_training(cut_off)
    bench.ground.kill_valkey()
    broker_down = _cancel(bench, job.id)
    bench.ground.start_valkey()
    after = bench.work.line(steps=2)
    bench.work.ask(after)
    bench.work.wait_all(60)
    states = [job.state for job in bench.work.jobs("train")]
    expect(states == ["cancelled"] * 3 + ["succeeded"], f"the trainings are {states}")
    expect(bench.work.effects() == 1, f"{bench.work.effects()} versions, and one training was not cancelled")
    return bench.work.ours(while_running_seconds=while_running, broker_down_seconds=broker_down)


def _is_ready(bench: Bench, job_id: int) -> bool:
    """Whether nothing that the job comes after is left to be done."""
    query = """
        select count(*) from rlfleet.jobs j join rlfleet.jobs d on d.id = any(j.after)
         where j.id = :id and d.state <> 'succeeded'
    """
    return bool(bench.ground.one(query, id=job_id)[0] == 0)


def _cancel(bench: Bench, job_id: int) -> float:
    """Cancel a running job; the seconds until it has ended."""
    began = time.monotonic()
    expect(jobs.cancel(job_id) is State.RUNNING, "the job did not run when it was to be cancelled")
    ended = "select state from rlfleet.jobs where id = :id"
    wait_until(lambda: bench.ground.one(ended, id=job_id)[0] == "cancelled", 20, f"the end of job {job_id}")
    seconds = time.monotonic() - began
    limit = bench.lease_seconds / 4 + HEARTBEAT_SECONDS
    expect(seconds <= limit, f"the holder stopped after {seconds:.1f} s, and hears of it within {limit:g} s")
    return round(seconds, 1)
