"""Events in memory, in order and bounded, between the agent's threads and the one thread that takes them."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Literal

from recorder.counts import Counts

Drop = Literal["newest", "oldest"]
OVERHEAD = 100


class Buffer:
    """``put`` and ``wait_settled`` are the agent's side, ``peek`` and ``release`` the taker's. Thread-safe.

    Events are numbered from 1. An event is settled when it needs this memory no more: the disk or the server has it,
    or it was dropped and counted.
    """

    def __init__(self, capacity: int, drop: Drop, counts: Counts) -> None:
        self.capacity, self.drop, self.counts = capacity, drop, counts
        self.urgent = threading.Event()
        self._changed = threading.Condition()
        self._events: deque[bytes] = deque()
        self._bytes = self._held = 0
        self._last = self._drained = self._settled = 0
        self._is_stalled = self._is_closed = False

    def __len__(self) -> int:
        return len(self._events)

    @property
    def last(self) -> int:
        """The number of the newest event."""
        return self._last

    @property
    def drained(self) -> int:
        """The number of the newest event that was taken or dropped, with all before it."""
        return self._drained

    def put(self, event: bytes, budget_seconds: float) -> None:
        """Add the event; wait for room at most ``budget_seconds``, then drop one and count it.

        After a wait in vain nobody waits again until there is room: a disk that hangs costs the budget once.
        """
        cost = len(event) + OVERHEAD
        with self._changed:
            self.counts.add("recorded")
            if self._is_closed or cost > self.capacity:
                reason = "the recorder is closed" if self._is_closed else "an event is larger than buffer_bytes"
                self.counts.dropped(1, reason)
                return
            if not self._wait_for_room(cost, budget_seconds) and not self._make_room(cost):
                self.counts.dropped(1, "the buffer is full")
                return
            self._events.append(event)
            self._bytes += cost
            self._last += 1
            if len(self._events) == 1:
                self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until there are events, or until a flush or the end is asked for; whether there are events."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self.urgent.is_set(), seconds)
            return bool(self._events)

    def peek(self, max_events: int, max_bytes: int) -> list[bytes]:
        """The first events, held until ``release``; none while somebody else holds some."""
        with self._changed:
            if self._held:
                return []
            taken: list[bytes] = []
            size = 0
            for event in self._events:
                size += len(event)
                if len(taken) == max_events or (taken and size > max_bytes):
                    break
                taken.append(event)
            self._held = len(taken)
            return taken

    def release(self, count: int) -> None:
        """Let go of what was peeked; the first ``count`` events are taken, the rest stay."""
        with self._changed:
            for _ in range(min(count, len(self._events))):
                self._bytes -= len(self._events.popleft()) + OVERHEAD
            self._held = 0
            self._drained = self._last - len(self._events)
            self._is_stalled = self._is_stalled and count == 0
            self._changed.notify_all()

    def settle(self, number: int) -> None:
        """Everything up to ``number`` is settled."""
        with self._changed:
            self._settled = max(self._settled, number)
            self._changed.notify_all()

    def wait_settled(self, number: int, seconds: float) -> bool:
        """Whether everything up to ``number`` is settled within the time."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._settled < number:
                self._hurry()
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 1.0))
        return True

    def close(self) -> None:
        """Take no more events."""
        with self._changed:
            self._is_closed = True
            self._hurry()

    def hurry(self) -> None:
        """Have the taker not wait for more events."""
        with self._changed:
            self._hurry()

    def discard(self) -> int:
        """Forget every event; how many there were."""
        with self._changed:
            left = len(self._events)
            self._events.clear()
            self._bytes = self._held = 0
            return left

    def _hurry(self) -> None:
        self.urgent.set()
        self._changed.notify_all()

    def _wait_for_room(self, cost: int, budget_seconds: float) -> bool:
        if self._bytes + cost <= self.capacity:
            return True
        if self._is_stalled:
            return False
        has_room = self._changed.wait_for(lambda: self._bytes + cost <= self.capacity, budget_seconds)
        self._is_stalled = not has_room
        return has_room

    def _make_room(self, cost: int) -> bool:
        """Drop the oldest events that nobody holds, if that is the policy, until there is room."""
        while self.drop == "oldest" and self._bytes + cost > self.capacity and len(self._events) > self._held:
            self._bytes -= len(self._events[self._held]) + OVERHEAD
            del self._events[self._held]
            self.counts.dropped(1, "the buffer is full")
        return self._bytes + cost <= self.capacity
