"""A file that says that a worker's main process goes round, whether or not its broker is there.

What breaks without it: who asks a worker through the broker takes every worker for dead while the broker is away, and
ends the trainings of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery.utils.log import get_logger

from worker.settings import settings

log = get_logger(__name__)

SECONDS = 10.0
"""How often the event loop touches the file. A broker that says nothing holds the loop for several times that."""


def say() -> None:
    """Touch ``RLFLEET_ALIVE_FILE`` if it is set; a file that cannot be written is logged, and ends nothing."""
    if name := settings().alive_file:
        try:
            Path(name).touch()
        except OSError as error:
            log.warning("RLFLEET_ALIVE_FILE = %s cannot be written (%s)", name, error.strerror)


@contextmanager
def said_by(timer: Any) -> Iterator[None]:
    """While the block runs its event loop, ``timer`` touches the file: a loop that hangs does not."""
    say()
    entry = timer.call_repeatedly(SECONDS, say)
    try:
        yield
    finally:
        timer.cancel(entry)
