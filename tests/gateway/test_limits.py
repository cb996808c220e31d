"""Limits of calls, counted by a clock that the tests move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from gateway.answers import Answer, Deadlines, stream_of_body
from gateway.configured import Most
from gateway.limits import DAY, Gate, full


@dataclass
class Clock:
    """Seconds that pass when a test says so: since the machine started, and since 1970."""

    now: float = 1000.0
    since_1970: float = 20_000 * DAY + 100.0

    def gate(self, **most: int) -> Gate:
        return Gate(Most(**most), lambda: self.now, lambda: self.since_1970)


async def answered() -> Answer:
    return Answer(200, "application/json", None)


async def failed() -> Answer:
    raise ConnectionError


def let_pass(gate: Gate, asking: Callable[[], object] = answered) -> None:
    assert gate.wait() == 0
    asyncio.run(gate.hold(asking()))  # type: ignore[arg-type]


def test_without_limits_every_call_passes() -> None:
    gate = Clock().gate()
    for _ in range(1000):
        let_pass(gate)


def test_a_minute_is_any_sixty_seconds() -> None:
    clock = Clock()
    gate = clock.gate(per_minute=3)
    for seconds in (0, 10, 20):
        clock.now = 1000.0 + seconds
        let_pass(gate)

    assert gate.wait() == 40
    clock.now = 1059.5
    assert gate.wait() == 0.5
    clock.now = 1060.0
    let_pass(gate)
    assert gate.wait() == 10, "of the last sixty seconds three calls are left"
    clock.now = 1200.0
    for _ in range(3):
        let_pass(gate)
    assert gate.wait() == 60


def test_a_day_ends_at_midnight_utc() -> None:
    clock = Clock()
    gate = clock.gate(per_day=2)
    let_pass(gate)
    with pytest.raises(ConnectionError):
        let_pass(gate, failed)  # it was sent, so it counts

    assert gate.wait() == DAY - 100
    clock.since_1970 += DAY - 100 - 1
    assert gate.wait() == 1
    clock.since_1970 += 1
    let_pass(gate)
    let_pass(gate)
    assert gate.wait() == DAY


def test_the_longest_wait_counts() -> None:
    gate = Clock().gate(per_minute=1, per_day=1)
    let_pass(gate)
    assert gate.wait() == DAY - 100


def test_calls_under_way_are_counted_until_they_are_answered_or_fail() -> None:
    async def check() -> None:
        gate, over = Clock().gate(concurrent=2), asyncio.Event()

        async def slow() -> Answer:
            await over.wait()
            return await answered()

        calls = [asyncio.create_task(gate.hold(slow())) for _ in range(2)]
        await asyncio.sleep(0)
        assert gate.wait() > 0
        calls[0].cancel()
        await asyncio.wait(calls[:1])
        assert gate.wait() == 0
        over.set()
        await calls[1]
        with pytest.raises(ConnectionError):
            await gate.hold(failed())
        assert gate._under_way == 0

    asyncio.run(check())


def test_a_stream_is_under_way_until_it_is_closed() -> None:
    async def check() -> None:
        gate = Clock().gate(concurrent=1)
        wants = {"stream": True}

        async def streamed() -> Answer:
            body = b'{"choices": [{"message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]}'
            answer = await answered()
            answer.stream = stream_of_body(body, wants, Deadlines())
            return answer

        answer = await gate.hold(streamed())
        assert gate.wait() > 0
        assert answer.stream is not None
        await answer.stream.aclose()
        await answer.stream.aclose()
        assert (gate.wait(), gate._under_way) == (0, 0)

    asyncio.run(check())


def test_what_a_caller_hears() -> None:
    answer = full("paid", 11.2)
    assert (answer.status, answer.retry_after) == (429, "12")
    assert b"paid has reached its limit of calls; try again in 12 s" in answer.body
