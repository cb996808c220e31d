"""How much one caller may ask: a bucket of tokens each, in this process."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from math import ceil

from admin.errors import Refused

MOST_CALLERS = 10_000
"""Buckets that are kept; whoever was away longest begins with a full one again."""


class Limit:
    """``per_second`` in the long run and ``burst`` at once, for each caller."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = per_second, max(burst, 1.0), clock
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Count one request.

        Raises:
            Refused: 429 with the seconds to wait; a request that is refused is not counted.
        """
        with self._lock:
            left = self._now(caller)
            if left < 1:
                wait = ceil((1 - left) / self._rate)
                raise Refused(429, "too many requests", f"wait {wait} s", {"Retry-After": str(wait)})
            self._keep(caller, left - 1)

    def _now(self, caller: str) -> float:
        left, then = self._left.get(caller, (self._burst, self._clock()))
        return min(self._burst, left + (self._clock() - then) * self._rate)

    def _keep(self, caller: str, left: float) -> None:
        self._left[caller] = (left, self._clock())
        self._left.move_to_end(caller)
        if len(self._left) > MOST_CALLERS:
            self._left.popitem(last=False)
