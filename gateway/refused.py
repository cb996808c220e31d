"""Records that the database refuses for themselves, where a person can read them, for a while.

They are conversations, and no erasure of the fleet reaches this file. So a line goes after ``KEPT_DAYS``, and the
oldest go when the file is larger than ``MOST_BYTES``.
"""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import threading
from pathlib import Path

from db.captured import Captured

REFUSED = "refused.jsonl"
KEPT_DAYS = 30
MOST_BYTES = 64 << 20

log = logging.getLogger(__name__)


class Refused:
    """A file with one JSON object a line: ``at`` (seconds since 1970), ``kind``, ``reason`` and ``fields``.

    Thread-safe. ``count`` is how many lines it has.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mutex = threading.Lock()
        self.count, self._size, self._oldest = _measured(self._lines())

    def add(self, record: Captured, reason: str, now: float) -> None:
        """Keep the record; ``now`` is in seconds since 1970.

        Raises:
            OSError: the disk refuses.
        """
        kept = {"at": round(now, 3), "kind": record.kind.name.lower(), "reason": reason, "fields": record.fields}
        line = json.dumps(kept).encode() + b"\n"
        with self._mutex:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                size = os.fstat(fd).st_size
                if os.write(fd, line) < len(line):  # a disk that fills up takes a part
                    os.ftruncate(fd, size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(fd)
            self.count, self._size, self._oldest = self.count + 1, size + len(line), min(self._oldest, now)

    def prune(self, now: float) -> None:
        """Delete what is older than ``KEPT_DAYS``; of a file that is too large, what is more than half of its bound.

        Raises:
            OSError: the disk refuses; nothing was deleted.
        """
        since = now - KEPT_DAYS * 86_400
        if self._oldest >= since and self._size <= MOST_BYTES:
            return
        with self._mutex:
            lines = [line for line in self._lines() if _at(line) >= since]
            self._keep(_newest(lines, MOST_BYTES // 2) if self._size > MOST_BYTES else lines)

    def _lines(self) -> list[bytes]:
        return self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []

    def _keep(self, lines: list[bytes]) -> None:
        """Replace the file by one with these lines."""
        if lines:
            new = self.path.with_suffix(".new")
            new.unlink(missing_ok=True)
            new.touch(0o600)
            new.write_bytes(b"".join(lines))
            new.replace(self.path)
        else:
            self.path.unlink(missing_ok=True)
        log.warning("%d old records were deleted from %s", self.count - len(lines), self.path)
        self.count, self._size, self._oldest = _measured(lines)


def _measured(lines: list[bytes]) -> tuple[int, int, float]:
    """How many they are, their bytes, and when the oldest was written."""
    return len(lines), sum(map(len, lines)), min(map(_at, lines), default=float("inf"))


def _at(line: bytes) -> float:
    """When the line was written; 0 for what a full disk left of one."""
    try:
        return float(json.loads(line)["at"])
    except (ValueError, LookupError, TypeError):
        return 0.0


def _newest(lines: list[bytes], most: int) -> list[bytes]:
    """The last lines of at most so many bytes together; the last in any case."""
    kept = sum(size <= most for size in itertools.accumulate(len(line) for line in reversed(lines)))
    return lines[-max(1, kept) :]
