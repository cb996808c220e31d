"""The segments of one process: a folder below the spool, owned by whoever holds the lock on its ``lock`` file.

The lock is ``flock``'s, so it goes when its process does, however that ends; then the folder is an orphan, and any
process that uses the same spool may take it over. What breaks without it: two processes replay one segment, or one
deletes what another still writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from recorder.segment import Segment, sync_folder

SUFFIX = ".segment"


class Folder:
    """A locked folder and its segments, the oldest first. Not thread-safe."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path, self._lock = path, lock
        self.segments: deque[Segment] = deque()
        self._next = 1

    @classmethod
    def create(cls, root: Path) -> Folder:
        """A new folder of this process. The caller holds ``root_lock``.

        Raises:
            OSError: the disk refuses.
        """
        path = root / f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        path.mkdir(mode=0o700)
        lock = _lock(path)
        if lock is None:
            raise BlockingIOError(f"{path} is locked by another process")
        sync_folder(root)
        return cls(path, lock)

    @classmethod
    def take_over(cls, path: Path) -> Folder | None:
        """The folder of a process that ended, or None while that lives. The caller holds ``root_lock``.

        Raises:
            OSError: the disk refuses.
        """
        lock = _lock(path)
        return None if lock is None else cls(path, lock)

    @property
    def pending(self) -> int:
        """How many events wait for an answer."""
        return sum(segment.pending for segment in list(self.segments))

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(segment.size for segment in self.segments)

    def recover(self) -> tuple[int, int]:
        """Read what the process left; the events found, and the bytes of torn ends that were cut off.

        Raises:
            OSError: the disk refuses.
        """
        cut = 0
        for path in sorted(self.path.glob(f"*{SUFFIX}")):
            segment, torn = Segment.recover(path)
            self.segments.append(segment)
            cut += torn
        self.drop_empty()
        return self.pending, cut

    def grow(self) -> Segment:
        """Seal the last segment and begin another.

        Raises:
            OSError: the disk refuses.
        """
        if self.segments:
            self.segments[-1].sync()
            self.segments[-1].close()
        number, self._next = self._next, self._next + 1
        segment = Segment.create(self.path / f"{number:08d}{SUFFIX}")
        self.segments.append(segment)
        return segment

    def drop_empty(self, keep: Segment | None = None) -> None:
        """Delete the segments whose every event was answered, but for ``keep``."""
        while self.segments and self.segments[0].pending == 0 and self.segments[0] is not keep:
            self.segments.popleft().remove()

    def remove(self) -> None:
        """Delete the folder, which holds nothing that waits, and give up the lock. The caller holds ``root_lock``."""
        while self.segments:
            self.segments.popleft().remove()
        with contextlib.suppress(OSError):
            (self.path / "lock").unlink()
            self.path.rmdir()
        self.give_up()

    def give_up(self) -> None:
        """Unlock the folder and leave its files to whoever takes it over."""
        if self._lock >= 0:
            fcntl.flock(self._lock, fcntl.LOCK_UN)  # closing is not enough while a forked child has the descriptor
        self.abandon()

    def abandon(self) -> None:
        """Close every descriptor, and leave the lock to the process that it was inherited from."""
        for segment in self.segments:
            segment.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _lock(path: Path) -> int | None:
    fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def root_lock(root: Path) -> Iterator[None]:
    """Hold the spool's own lock: folders are created, taken over and deleted by one process at a time.

    Raises:
        OSError: the disk refuses.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # as in `give_up`
        os.close(fd)
