from __future__ import annotations

import threading
import time

from recorder.buffer import OVERHEAD, Buffer
from recorder.counts import Counts

ROOMY = 10 * (1 + OVERHEAD)


def filled(capacity_events: int, drop: str = "newest") -> Buffer:
    """A buffer that holds that many events of one byte, and does."""
    buffer = Buffer(capacity_events * (1 + OVERHEAD), "oldest" if drop == "oldest" else "newest", Counts())
    for number in range(capacity_events):
        buffer.put(b"%d" % number, 0.0)
    return buffer


def test_events_leave_in_order_and_only_when_they_are_released() -> None:
    buffer = filled(5)
    assert buffer.peek(2, 100) == [b"0", b"1"]
    assert buffer.peek(2, 100) == [], "somebody holds some"
    buffer.release(0)
    assert buffer.peek(9, 3) == [b"0", b"1", b"2"], "three bytes"
    buffer.release(2)
    assert buffer.peek(9, 100) == [b"2", b"3", b"4"]
    assert (buffer.last, buffer.drained) == (5, 2)


def test_a_full_buffer_drops_the_newest_or_the_oldest_that_nobody_holds() -> None:
    newest = filled(3)
    newest.put(b"x", 0.0)
    assert (newest.peek(9, 99), newest.counts["dropped"], newest.counts["recorded"]) == ([b"0", b"1", b"2"], 1, 4)
    oldest = filled(3, "oldest")
    assert oldest.peek(1, 99) == [b"0"]
    oldest.put(b"x", 0.0)
    oldest.release(0)
    assert (oldest.peek(9, 99), oldest.counts["dropped"], oldest.counts["recorded"]) == ([b"0", b"2", b"x"], 1, 4)


def test_an_event_waits_for_room_within_its_budget() -> None:
    buffer = filled(2)
    buffer.peek(1, 99)
    release = threading.Timer(0.05, buffer.release, [1])
    release.start()
    buffer.put(b"x", 30.0)
    release.join()
    assert buffer.counts["dropped"] == 0
    assert buffer.peek(9, 99) == [b"1", b"x"]


def test_after_a_wait_in_vain_nobody_waits_until_there_is_room() -> None:
    buffer = filled(1)
    before = time.monotonic()
    buffer.put(b"x", 0.2)
    assert time.monotonic() - before >= 0.2
    for _ in range(1_000):
        buffer.put(b"x", 3_600.0)
    assert buffer.counts["dropped"] == 1_001


def test_an_event_that_can_never_fit_is_dropped_at_once() -> None:
    buffer = Buffer(1_000, "oldest", Counts())
    buffer.put(b"a", 0.0)
    buffer.put(b"b" * 1_000, 3_600.0)
    assert (buffer.peek(9, 99), buffer.counts["dropped"]) == ([b"a"], 1)


def test_settled_means_everything_before_too() -> None:
    buffer = filled(3)
    assert not buffer.wait_settled(3, 0.0)
    assert buffer.urgent.is_set()
    buffer.settle(2)
    assert buffer.wait_settled(2, 0.0)
    assert not buffer.wait_settled(3, 0.01)
    threading.Timer(0.02, buffer.settle, [3]).start()
    assert buffer.wait_settled(3, 30.0)


def test_a_closed_buffer_takes_nothing() -> None:
    buffer = filled(1)
    buffer.close()
    buffer.put(b"x", 3_600.0)
    assert (len(buffer), buffer.counts["dropped"]) == (1, 1)
    assert buffer.discard() == 1
