"""From the agent to the server: a buffer in memory, a spool on disk, and the two threads that move events along.

    put ──► buffer ──writer──► spool ──sender──► server
               └────────sender, while no disk takes them────►┘

What breaks without the spool in between: events that wait while the server is away are lost with their process.
"""

from __future__ import annotations

import atexit
import functools
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recorder.buffer import Buffer, Drop
from recorder.counts import Counts, Stats, log
from recorder.ingest import MAX_EVENTS
from recorder.sender import BATCH_BYTES, Sender
from recorder.spool import Spool

WRITE_SECONDS = 0.02
RETRY_DISK_SECONDS = 2.0
IDLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a pipeline needs to know; ``Recorder`` documents each."""

    endpoint: str
    key: str | None
    spool: Path | None
    budget_seconds: float
    buffer_bytes: int
    spool_bytes: int
    drop: Drop
    is_gzip: bool
    linger_seconds: float
    exit_seconds: float

    def __repr__(self) -> str:
        return f"Options(endpoint={self.endpoint!r}, spool={self.spool!r})"


class Pipeline:
    """The threads start with the first event or flush. A forked child begins anew, with nothing of its parent's."""

    def __init__(self, options: Options, counts: Counts) -> None:
        self.options, self.counts = options, counts
        self._begin()
        _alive.add(self)

    def _begin(self) -> None:
        options = self.options
        self.buffer = Buffer(options.buffer_bytes, options.drop, self.counts)
        self.spool = (
            None if options.spool is None else Spool(options.spool, options.spool_bytes, options.drop, self.counts)
        )
        self.sender = Sender(
            options.endpoint, options.key, options.is_gzip, options.linger_seconds, self.buffer, self.spool
        )
        self._threads: list[threading.Thread] = []
        self._starting = threading.RLock()
        self._holds: list[bool] = []
        self._dropped_before = self.counts["dropped"]
        self._is_closed = False

    def put(self, event: bytes) -> None:
        """Take the event, within the budget."""
        if not self._threads:
            self._start()
        self.buffer.put(event, self.options.budget_seconds)
        if self.spool is None:
            self.sender.wake.set()

    def flush(self, timeout: float) -> bool:
        """Whether everything put before is answered by the server or synced to disk, and nothing was dropped.

        Dropped events count since the last flush.
        """
        if not self._threads:
            self._start()
        dropped, before = self.counts["dropped"], self._dropped_before
        is_settled = self.buffer.wait_settled(self.buffer.last, timeout)
        self._dropped_before = dropped
        return is_settled and self.counts["dropped"] == before

    def close(self, timeout: float) -> bool:
        """Flush, send what can be sent within the time, and end the threads. The flush's answer."""
        deadline = time.monotonic() + timeout
        if self._is_closed or (not self._threads and not len(self.buffer)):
            self._is_closed = True
            self.buffer.close()
            return True
        self._is_closed = True
        self.buffer.close()
        is_safe = self.flush(timeout)
        self.sender.finish(deadline)
        self.buffer.hurry()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self.spool is not None:
            self.spool.close(max(0.1, deadline - time.monotonic()))
        if left := self.buffer.discard():
            self.counts.dropped(left, "the recorder was closed before they could be sent or written")
        return is_safe

    def stats(self) -> Stats:
        return self.counts.snapshot(len(self.buffer) + (self.spool.pending if self.spool else 0))

    def before_fork(self) -> None:
        """Wait, within the budget, until no thread is taking or giving back a lock on a folder."""
        self._holds.append(self.spool is not None and self.spool.hold(self.options.budget_seconds))

    def after_fork_in_parent(self) -> None:
        if self._holds.pop() and self.spool is not None:
            self.spool.let_go()

    def after_fork_in_child(self) -> None:
        """Begin anew in a forked child: its parent keeps the events, the segments and the locks."""
        if self.spool is not None:
            self.spool.abandon()
        self.counts.reset()
        self._begin()

    def _start(self) -> None:
        with self._starting:
            if self._threads or self._is_closed:
                return
            bodies: dict[str, Callable[[], None]] = {"recorder-send": self.sender.serve}
            if self.spool is not None:
                bodies["recorder-write"] = functools.partial(self._write, self.spool)
            threads = [
                threading.Thread(target=self._keep_running, args=(body,), name=name, daemon=True)
                for name, body in bodies.items()
            ]
            for thread in threads:
                thread.start()
            self._threads = threads

    def _keep_running(self, body: Callable[[], None]) -> None:
        """Run the body of a thread again if it fails for a reason that it does not know."""
        while True:
            try:
                return body()
            except Exception as error:
                name = threading.current_thread().name
                self.counts.once(f"{name} {type(error).__name__}", "%s failed with %s", name, type(error).__name__)
                log.debug("%s", name, exc_info=error)
                if self.sender.stop.wait(RETRY_DISK_SECONDS):
                    return None

    def _write(self, spool: Spool) -> None:
        """The body of the writing thread."""
        is_last = False
        while not is_last:
            if self.buffer.wait(IDLE_SECONDS):
                self.buffer.urgent.wait(WRITE_SECONDS)
            is_last = self.sender.stop.is_set()
            if is_wanted := self.buffer.urgent.is_set():
                self.buffer.urgent.clear()
            if not self._write_some(spool, is_wanted):
                self.sender.stop.wait(RETRY_DISK_SECONDS)

    def _write_some(self, spool: Spool, is_wanted: bool) -> bool:
        """Move what the buffer holds to disk and sync it if that is wanted; False if the disk refuses."""
        target = self.buffer.last
        try:
            while self.buffer.drained < target and self._move(spool):
                self.sender.writes = True
                self.sender.wake.set()
            if is_wanted:
                drained = self.buffer.drained
                spool.sync()
                self.buffer.settle(drained)
                self.sender.writes = True
        except OSError as error:
            self.sender.writes = False
            self.sender.wake.set()
            self.counts.once("disk", "the spool cannot be written (%s); events go straight out", error.strerror)
            return False
        return True

    def _move(self, spool: Spool) -> int:
        """Move one batch from the buffer to disk; how many events that were.

        Raises:
            OSError: the disk refuses; they stay in the buffer.
        """
        events = self.buffer.peek(MAX_EVENTS, BATCH_BYTES)
        moved = 0
        try:
            if events:
                spool.append(events)
                moved = len(events)
        finally:
            if events:
                self.buffer.release(moved)
        return moved


_alive: weakref.WeakSet[Pipeline] = weakref.WeakSet()


def _before_fork() -> None:
    for pipeline in list(_alive):
        pipeline.before_fork()


def _after_fork_in_parent() -> None:
    for pipeline in list(_alive):
        pipeline.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for pipeline in list(_alive):
        pipeline.after_fork_in_child()


def _at_exit() -> None:
    for pipeline in list(_alive):
        pipeline.close(pipeline.options.exit_seconds)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
