"""A circuit breaker: whether a version's engine is asked at all. Pure; the clock is given.

What breaks without it: while an engine hangs, every call waits out its deadline before another answers in its place,
and an engine that comes back is met by everybody at once.

States: **closed**, every call passes; **open**, none does, for ``seconds``; **half open**, one call at a time passes as
a probe: it closes the breaker by succeeding, and opens it for another ``seconds`` by failing.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

SHARE = 0.5
"""The share of failures among the last ``WINDOW`` calls that opens it: with one of two calls lost, waiting for the
other half costs more than asking elsewhere."""

WINDOW = 20
"""Calls. Fewer say little of a share: 10 of 20 failures of an engine that loses 10 % has a chance below one in 10^5."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``failures`` in a row open the breaker, for ``seconds``."""

    failures: int = 5
    seconds: float = 10.0


class Breaker:
    """The state of one engine for one version. ``now`` is in seconds of any clock that never goes back.

    A call that may pass gets a permit, and its outcome counts under it: what began before the breaker changed its
    state says nothing of the state since.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._outcomes: deque[bool] = deque(maxlen=WINDOW)
        self._in_a_row = 0
        self._permit = 0
        self._opened = -math.inf
        self._probed: float | None = None
        self.is_closed = True

    def enter(self, now: float) -> int | None:
        """A permit, or None where the call must go elsewhere.

        A probe that nothing was heard of for ``seconds`` makes room for another, under the same permit: whichever is
        answered closes the breaker, also where every answer takes longer than that.
        """
        if self.is_closed:
            return self._permit
        since = self._opened if self._probed is None else self._probed
        if now - since < self._limits.seconds:
            return None
        self._probed = now
        return self._permit

    def wait(self, now: float) -> float:
        """Seconds until a call may pass as a probe; 0 while it is closed."""
        since = self._opened if self._probed is None else self._probed
        return 0.0 if self.is_closed else max(0.0, since + self._limits.seconds - now)

    def succeeded(self, permit: int) -> None:
        """The call under that permit was answered."""
        if permit != self._permit:
            return
        if not self.is_closed:
            self._close()
        self._in_a_row = 0
        self._outcomes.append(True)

    def failed(self, permit: int, now: float) -> bool:
        """The call under that permit was not answered. Whether that opened the breaker."""
        if permit != self._permit:
            return False
        self._in_a_row += 1
        self._outcomes.append(False)
        if self.is_closed and not self._is_too_much():
            return False
        self._open(now)
        return True

    def broke(self, now: float) -> bool:
        """An answer that had begun, and counted as one, broke off. Whether that opened the breaker."""
        return self.is_closed and self.failed(self._permit, now)

    def left(self, permit: int) -> None:
        """The call under that permit ended without an outcome: its caller went away. Another may probe at once."""
        if permit == self._permit and not self.is_closed:
            self._probed = None

    def _is_too_much(self) -> bool:
        is_full = len(self._outcomes) == WINDOW
        return self._in_a_row >= self._limits.failures or (is_full and self._outcomes.count(False) >= SHARE * WINDOW)

    def _open(self, now: float) -> None:
        self.is_closed, self._opened, self._probed = False, now, None
        self._permit += 1

    def _close(self) -> None:
        self.is_closed, self._probed = True, None
        self._permit += 1
        self._outcomes.clear()
