from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery.signals import worker_shutting_down
from redis import Redis

from worker import drain, lifecycle


class Timer:
    """Keeps what it is to repeat."""

    def __init__(self) -> None:
        self.repeated: list[tuple[float, Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []

    def call_repeatedly(
        self, seconds: float, call: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> None:
        self.repeated.append((seconds, call, args, kwargs or {}))


def started(*queues: str) -> Timer:
    """The timer of a worker of these queues that has just said that it is ready."""
    consumer = SimpleNamespace(queues=[SimpleNamespace(name=queue) for queue in queues])
    timer = Timer()
    lifecycle.ring_by_timer(sender=SimpleNamespace(task_consumer=consumer, timer=timer))
    return timer


def waiting(broker: Redis) -> dict[str, int]:
    lengths = {queue: broker.llen(f"rlfleet:{queue}") for queue in ("collect", "score", "maint", "gpu")}
    return {queue: int(length) for queue, length in lengths.items() if length}


def test_a_maint_worker_rings_the_reconciler_without_beat(broker: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_TICK_SECONDS", "7")
    broker.flushdb()
    ((seconds, call, args, kwargs),) = started("maint").repeated
    assert (seconds, kwargs) == (7, {"expires": 7})
    assert waiting(broker) == {}
    call(*args, **kwargs)
    assert waiting(broker) == {"maint": 1}


def test_a_gpu_worker_announces_its_device(broker: Redis) -> None:
    broker.flushdb()
    started("gpu")
    assert waiting(broker) == {"gpu": 1}


def test_an_idle_gpu_worker_tends_its_child_and_a_busy_one_does_not(
    broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((seconds, call, args, kwargs),) = started("gpu").repeated
    assert seconds == 30
    broker.flushdb()
    monkeypatch.setattr("celery.worker.state.reserved_requests", {"a training"})
    call(*args, **kwargs)
    assert waiting(broker) == {}, "behind a training of hours they would pile up"
    monkeypatch.setattr("celery.worker.state.reserved_requests", set())
    call(*args, **kwargs)
    assert waiting(broker) == {"gpu": 1}


def test_a_worker_that_is_told_to_stop_tells_the_processes_it_forked() -> None:
    ready, told = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(ready[1], b"1")
            os.read(told[0], 1)
            os._exit(7 if drain.draining() else 8)
        finally:
            os._exit(9)
    try:
        os.read(ready[0], 1)
        assert not drain.draining()
        worker_shutting_down.send(sender="w", sig="SIGTERM", how="Cold", exitcode=0)
        os.write(told[1], b"1")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    finally:
        drain.reset()
        for descriptor in (*ready, *told):
            os.close(descriptor)


def test_other_workers_send_nothing(broker: Redis) -> None:
    broker.flushdb()
    assert started("collect", "score").repeated == []
    assert waiting(broker) == {}


@pytest.mark.parametrize("device", ["cpu", ""])
def test_only_a_worker_that_owns_a_device_has_a_child(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    did: list[str] = []
    child = SimpleNamespace(start=lambda: did.append("start"), stop=lambda: did.append("stop"))
    monkeypatch.setenv("RLFLEET_DEVICE", device)
    monkeypatch.setattr(lifecycle, "resident", lambda: child)
    lifecycle.start_child()
    lifecycle.stop_child()
    assert did == (["start", "stop"] if device else [])
