"""Rows 11 to 13: the broker is half gone, not there yet, full, or slow."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.faults.bench import Bench
from bench.faults.expect import expect, wait_until
from bench.faults.rows import Ours, Raw, raw, row
from bench.faults.work import Hours
from rl.errors import BrokerUnavailable

ROOT = Path(__file__).resolve().parents[3]
CONSUMER_SECONDS = 45.0
PRODUCER_SECONDS = 15.0
ASK_AGAIN_SECONDS = 5.0
SLOW_SECONDS = 60.0
"""How long the broker is slow; workers publish in spite of it, so some work is done by then."""
TIGHT_BYTES = 1024
"""Less than one message: Valkey refuses every write."""

PRODUCE = """
import sys, time
from rl.errors import BrokerUnavailable
from tasks import train_window
train_window.delay("2025-01-15T10:00", "nobody")
print("sent", flush=True)
sys.stdin.readline()
began = time.monotonic()
try:
    train_window.delay("2025-01-15T10:00", "nobody")
except BrokerUnavailable:
    print(time.monotonic() - began, flush=True)
"""
"""A caller that has a connection, then the broker goes silent, and it calls again."""


@row(11, "half-open broker: an idle consumer, one in mid-task, and a producer", limit_seconds=150)
def half_open(bench: Bench) -> Ours:
    """Connections that stay open and silent must not hang a worker for ever, nor a caller.

    Valkey hands a message to a connection that nobody reads any more, and it is gone: of a job it is sent again, of a
    request (``train_window``) it is lost, and whoever asked must ask again.
    """
    bench.workers.stop("maint", "collect", "score", "gpu0", "gpu1")
    proxy = bench.proxy(bench.ground.redis_url)
    through = {"REDIS_URL": proxy.url}
    idle = bench.workers.start("half-idle", "collect,score", through)
    busy, maint = bench.workers.start("half-busy", "gpu", through), bench.workers.start("half-maint", "maint", through)
    bench.workers.ready(idle, busy, maint)
    before, after = bench.work.line(steps=60), bench.work.line(steps=2)
    bench.work.ask(before)
    bench.work.in_training(before)
    proxy.strand()
    began = time.monotonic()
    sent = _ask_until_heard(bench, after)
    heard = time.monotonic() - began
    bench.work.wait_job(after, lambda job: job.fence > 0, CONSUMER_SECONDS + 5, "collected", "collect")
    resumed = time.monotonic() - began
    expect(heard <= CONSUMER_SECONDS, f"the consumer of requests resumed after {heard:.0f} s")
    expect(resumed <= CONSUMER_SECONDS, f"the idle consumer resumed after {resumed:.0f} s")
    done = bench.work.wait_job(before, lambda job: job.state == "succeeded", 30, "ended")
    expect(done.fence == 1, f"the training under way was done {done.fence} times")
    bench.work.wait_all(CONSUMER_SECONDS)
    lost = sent - _written_down(bench, after)
    expect(0 <= lost < sent, f"{lost} of {sent} requests were lost")
    called = _call_in_silence(bench)
    expect(called <= PRODUCER_SECONDS, f"the caller got its answer after {called:.0f} s")
    return bench.work.ours(
        requests_sent=sent,
        requests_lost=lost,
        request_seconds=round(heard, 1),
        idle_seconds=round(resumed, 1),
        producer_seconds=round(called, 1),
    )


def _ask_until_heard(bench: Bench, hours: Hours) -> int:
    """Ask, and ask again every few seconds until there is a job, as a caller does; how many messages it took."""
    for sent in itertools.count(1):
        bench.work.ask(hours)
        with contextlib.suppress(TimeoutError):
            bench.work.wait_job(hours, lambda _: True, ASK_AGAIN_SECONDS, "asked for")
            return sent
    raise AssertionError("unreachable")


def _written_down(bench: Bench, hours: Hours) -> int:
    """How many requests for these hours were written down, once no message waits to be."""
    wait_until(lambda: not bench.ground.broker.llen("rlfleet:maint"), CONSUMER_SECONDS, "the end of the requests")
    return bench.work.deliveries(bench.work.of(hours)[0].id).get("requested", 0)


def _call_in_silence(bench: Bench) -> float:
    """Seconds until a caller hears that the broker is away, when its connection has fallen silent."""
    proxy = bench.proxy(bench.ground.redis_url)
    caller = subprocess.Popen(
        [sys.executable, "-c", PRODUCE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ) | {"REDIS_URL": proxy.url, "PYTHONPATH": str(ROOT)},
    )
    with caller:
        assert caller.stdin is not None
        assert caller.stdout is not None
        try:
            expect(caller.stdout.readline() == "sent\n", "the caller could not send while the broker was there")
            proxy.freeze()
            caller.stdin.write("\n")
            caller.stdin.flush()
            answer = caller.stdout.readline()
            expect(answer, "the caller did not hear that the broker is away")
            return float(answer)
        finally:
            caller.kill()


@raw(11)
def raw_half_open(bench: Bench) -> Raw:
    """As it comes, without a timeout on its sockets, the consumer waits for ever; here for as long as ours may."""
    with bench.raw() as celery:
        proxy = bench.proxy(bench.ground.redis_url)
        celery.start("idle", redis_url=proxy.url)
        celery.send(1, 0.1)
        celery.until_done(1, 20)
        proxy.strand()
        celery.send(1, 0.1, first=2)
        seconds = celery.until_done(2, CONSUMER_SECONDS)
        return Raw(2, sum(celery.effects().values()), seconds, {"waited_seconds": CONSUMER_SECONDS})


@row(12, "Redis down when workers start, and when somebody calls", limit_seconds=90)
def down_at_boot(bench: Bench) -> Ours:
    """Workers wait for it, a call says so at once, and what was recorded is rung when it is there."""
    bench.workers.stop("collect", "maint")
    bench.workers.stand(("score", "gpu0"))
    wanted, called = bench.work.lines(3, steps=2), bench.work.line(steps=2)
    bench.ground.kill_valkey()
    late = [bench.workers.start(name, name) for name in ("collect", "maint")]
    began = time.monotonic()
    refused = _is_refused(bench, called)
    answered = time.monotonic() - began
    expect(refused, "the broker is down, and the call did not say so")
    expect(answered <= PRODUCER_SECONDS, f"the caller got its answer after {answered:.0f} s")
    bench.work.accept(*wanted)
    wait_until(lambda: all("Trying again in" in one.log for one in late), 30, "workers that wait for the broker")
    bench.ground.start_valkey()
    bench.workers.ready(*late)
    bench.work.ask(called)
    bench.work.wait_all(40)
    return bench.work.ours(refused_after_seconds=round(answered, 1))


def _is_refused(bench: Bench, hours: Hours) -> bool:
    try:
        bench.work.ask(hours)
    except BrokerUnavailable:
        return True
    return False


@row(13, "Redis out of memory, then slow by half a second", limit_seconds=150)
def full_and_slow(bench: Bench) -> Ours:
    """While nothing can be written, rows accumulate; slow answers make the fleet slow and nothing else."""
    bench.workers.stand()
    full, called = bench.work.lines(3, steps=2), bench.work.line(steps=2)
    with _no_memory(bench):
        refused = _is_refused(bench, called)
        bench.work.accept(*full)
        waiting = bench.work.jobs("collect")
    expect(refused, "Valkey refuses writes, and the call did not say so")
    expect(len(waiting) == len(full), f"{len(waiting)} of {len(full)} requests were recorded without the broker")
    bench.work.ask(called)
    bench.work.wait_all(40)
    slow, proxy = bench.work.lines(2, steps=2), bench.proxy(bench.ground.redis_url)
    proxy.latency(0.5)
    bench.workers.stop(*("maint", "collect", "score", "gpu0", "gpu1"))
    through = {"REDIS_URL": proxy.url}
    workers = [bench.workers.start(f"slow-{queue}", queue, through) for queue in ("maint", "collect", "score", "gpu")]
    bench.workers.ready(*workers)
    began = time.monotonic()
    bench.work.ask(*slow)
    with contextlib.suppress(TimeoutError):
        bench.work.wait_all(SLOW_SECONDS)
    while_slow = sum(job.state == "succeeded" for job in bench.work.jobs("train")) - len(full) - 1
    took = time.monotonic() - began
    expect(while_slow >= 1, f"no training ended in {took:.0f} s while the broker was slow")
    proxy.latency(0)
    bench.work.wait_all(30)
    return bench.work.ours(trained_while_slow=while_slow, of=len(slow), seconds=round(took, 1))


@contextlib.contextmanager
def _no_memory(bench: Bench) -> Iterator[None]:
    """Valkey refuses every write within the block."""
    broker = bench.ground.broker
    broker.config_set("maxmemory", TIGHT_BYTES)
    try:
        yield
    finally:
        broker.config_set("maxmemory", 0)
