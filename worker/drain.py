"""Whether this worker is going down, told to its pool processes at once.

Celery tells a running task by an exception at the end of the soft shutdown, when no time is left to save anything.
The main process hears of the signal at its beginning, and shares it through one byte of memory that every pool
process inherits by being forked.
"""

from __future__ import annotations

import mmap

_flag = mmap.mmap(-1, 1)


def begin() -> None:
    """This worker takes no more work, and what runs should be handed back soon."""
    _flag[0] = 1


def reset() -> None:
    """Take work again; a test does."""
    _flag[0] = 0


def draining() -> bool:
    """Whether ``begin`` was called in this process or in the one that forked it."""
    return _flag[0] != 0
