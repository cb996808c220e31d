"""Events on disk: the folder of this process, and those of processes that ended and left some.

`rejected.jsonl` beside the folders holds what the server refused, one object a line with the reason.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import NamedTuple

from recorder.buffer import Drop
from recorder.counts import Counts
from recorder.folder import SUFFIX, Folder, root_lock
from recorder.segment import Segment

SEGMENT_BYTES = 4 << 20
REJECTED = "rejected.jsonl"


class Batch(NamedTuple):
    """Events that were read and wait for their answer, and where they lie."""

    events: list[bytes]
    folder: Folder
    segment: Segment
    end: int


class Spool:
    """At most ``limit`` bytes of events below ``root``, over all processes that use it. Thread-safe.

    When it is full, ``drop`` says whether the newest events are refused or the oldest segments of this process (and
    of those it took over) are deleted. The folder of this process is made with the first event.
    """

    def __init__(self, root: Path, limit: int, drop: Drop, counts: Counts) -> None:
        self.root, self.limit, self.drop, self.counts = root, limit, drop, counts
        self.segment_bytes = max(1, min(SEGMENT_BYTES, limit // 8))
        self._lock = threading.Lock()
        self._own: Folder | None = None
        self._adopted: list[Folder] = []
        self._others = 0
        self._is_closed = False

    @property
    def pending(self) -> int:
        """How many events wait for an answer here. Takes no lock: agents ask while a disk hangs."""
        return sum(folder.pending for folder in self._folders())

    def append(self, events: list[bytes]) -> None:
        """Write the events; those for which there is no room are dropped and counted.

        Raises:
            OSError: the disk refuses; none of them was written.
        """
        with self._lock:
            segment = self._open_segment()
            kept, size = 0, sum(folder.size for folder in self._folders()) + self._others
            for event in events:
                size += Segment.cost(event)
                if size > self.limit:
                    size -= self._make_room(size - self.limit, segment)
                if size > self.limit:
                    break
                kept += 1
            if kept:
                segment.append(events[:kept])
            self.counts.add("spooled", kept)
            if kept < len(events):
                self.counts.dropped(len(events) - kept, "the spool is full")

    def sync(self) -> None:
        """Have the disk hold everything appended: earlier segments were synced when they were sealed.

        Raises:
            OSError: it does not.
        """
        with self._lock:
            if self._own is not None and self._own.segments:
                self._own.segments[-1].sync()

    def read(self, max_events: int, max_bytes: int) -> Batch | None:
        """The oldest unanswered events, those of ended processes first, or None.

        Raises:
            OSError: the disk refuses.
        """
        with self._lock:
            for folder in self._folders() if not self._is_closed else []:
                for segment in folder.segments:
                    if segment.pending:
                        events, end = segment.read(max_events, max_bytes)
                        return Batch(events, folder, segment, end)
            return None

    def acknowledge(self, batch: Batch) -> bool:
        """The events of the batch need not be sent again. False if they were dropped meanwhile.

        Raises:
            OSError: the disk refuses; a later process sends them again.
        """
        with self._lock:
            if self._is_closed or batch.segment not in batch.folder.segments:
                return False
            try:
                batch.segment.acknowledge(len(batch.events), batch.end)
            finally:
                is_own = batch.folder is self._own
                batch.folder.drop_empty(keep=batch.folder.segments[-1] if is_own else None)
                if not batch.folder.segments:
                    self._remove(batch.folder)
            return True

    def adopt(self) -> None:
        """Take over the folders of processes that ended, and cut off what they had half written.

        Raises:
            OSError: the disk refuses.
        """
        with self._lock, root_lock(self.root):
            known = {folder.path for folder in self._folders()}
            for path in sorted(path for path in self.root.iterdir() if path.is_dir() and path not in known):
                folder = Folder.take_over(path)
                if folder is not None:
                    self._welcome(folder)

    def reject(self, event: bytes, field: str, reason: str) -> None:
        """Keep an event that the server refused where a person can read it.

        Raises:
            OSError: the disk refuses.
        """
        line = b'{"field":%b,"reason":%b,"event":%b}\n' % (_json(field), _json(reason), event)
        fd = os.open(self.root / REJECTED, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size + len(line) <= self.limit:
                os.write(fd, line)
        finally:
            os.close(fd)

    def close(self, timeout: float) -> None:
        """Delete what was answered and give up the locks; the rest is for whoever comes next.

        While a disk hangs for longer than ``timeout``, all of it is left to the end of the process.
        """
        if not self._lock.acquire(timeout=timeout):
            return
        try:
            self._is_closed = True
            for folder in self._folders():
                if folder.pending:
                    folder.give_up()
                else:
                    self._remove(folder)
        finally:
            self._lock.release()

    def hold(self, timeout: float) -> bool:
        """Keep every other thread out until ``let_go``; whether that was possible within the time."""
        return self._lock.acquire(timeout=timeout)

    def let_go(self) -> None:
        self._lock.release()

    def abandon(self) -> None:
        """Close the descriptors that a forked child inherited; the locks stay the parent's."""
        for folder in self._folders():
            folder.abandon()

    def _folders(self) -> list[Folder]:
        return [*self._adopted, *([self._own] if self._own is not None else [])]

    def _open_segment(self) -> Segment:
        """The segment of this process to append to; another one when the last is long enough."""
        if self._own is None:
            with root_lock(self.root):
                self._own = Folder.create(self.root)
        last = self._own.segments[-1] if self._own.segments else None
        if last is None or last.size >= self.segment_bytes:
            last = self._own.grow()
            self._others = self._size_of_others()
        return last

    def _size_of_others(self) -> int:
        known = {folder.path for folder in self._folders()}
        sizes = 0
        for path in self.root.glob(f"*/*{SUFFIX}"):
            try:
                sizes += 0 if path.parent in known else path.stat().st_size
            except FileNotFoundError:  # answered and deleted by its process meanwhile
                continue
        return sizes

    def _make_room(self, wanted: int, active: Segment) -> int:
        """Delete the oldest segments but the one in use, if that is the policy; the bytes won."""
        won = 0
        for folder in self._folders() if self.drop == "oldest" else []:
            while won < wanted and folder.segments and folder.segments[0] is not active:
                segment = folder.segments.popleft()
                won += segment.size
                self.counts.dropped(segment.pending, "the spool is full")
                segment.remove()
        return won

    def _welcome(self, folder: Folder) -> None:
        try:
            found, cut = folder.recover()
        except OSError:
            folder.give_up()
            raise
        self.counts.add("adopted", found)
        if cut:
            self.counts.once(f"cut {folder.path}", "cut %d bytes of a half-written event off %s", cut, folder.path)
        if found:
            self._adopted.append(folder)
        else:
            folder.remove()

    def _remove(self, folder: Folder) -> None:
        with root_lock(self.root):
            folder.remove()
        if folder in self._adopted:
            self._adopted.remove(folder)


def _json(text: str) -> bytes:
    return json.dumps(text).encode()
