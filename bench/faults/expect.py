"""What a row demands: a fact, or a condition within a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.05


def expect(holds: object, what: str) -> None:
    """Fail the row with ``what`` unless ``holds``.

    Raises:
        AssertionError: it does not hold.
    """
    if not holds:
        raise AssertionError(what)


def wait_until(condition: Callable[[], T | None], seconds: float, what: str) -> T:
    """The first true value of ``condition``, asked 20 times a second.

    Raises:
        TimeoutError: it was not true within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    over = False
    while not (value := condition()):
        if over:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        over = time.monotonic() > deadline  # one more look: this one may be from before the machine stood still
        time.sleep(POLL_SECONDS)
    return value
