"""Whether this worker is going down, told to its pool processes at once; and whether their tasks have ended, told back.

Celery tells a running task by an exception at the end of the soft shutdown, when no time is left to save anything, and
sleeps through all of it although the task may have ended. The main process and the pool processes that it forks share
a few bytes of memory instead: one for the drain, and one for each pool process that has a task.
"""

from __future__ import annotations

import mmap
import time

from billiard.process import current_process

SLOTS = 255
TICK_SECONDS = 0.05

_shared = mmap.mmap(-1, 1 + SLOTS)


def begin() -> None:
    """This worker takes no more work, and what runs should be handed back soon."""
    _shared[0] = 1


def reset() -> None:
    """Take work again; a test does."""
    _shared[:] = bytes(1 + SLOTS)


def draining() -> bool:
    """Whether ``begin`` was called in this process or in the one that forked it."""
    return _shared[0] != 0


def busy(has_task: bool) -> None:
    """Say whether this pool process has a task."""
    # The index is the process's place in the pool; a successor has the same one.
    _shared[1 + getattr(current_process(), "index", 0) % SLOTS] = int(has_task)


def wait_until_idle(seconds: float) -> bool:
    """Wait until no pool process has a task, for at most ``seconds``. False when one still has."""
    deadline = time.monotonic() + seconds
    while any(_shared[1:]):
        if time.monotonic() > deadline:
            return False
        time.sleep(TICK_SECONDS)
    return True
