"""What happened to the events, counted; and what went wrong, logged once."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, Protocol, TypeVar

log = logging.getLogger("recorder")

REMEMBERED = 1_000


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of events since this process began to record.

    ``recorded + adopted == sent + rejected + dropped + waiting`` whenever nothing is under way. ``sent`` were answered
    by the server, ``duplicate`` of them because it had them; ``spooled`` were written to disk; ``adopted`` were found
    in the spool of a process that ended. ``bad_values`` counts values, not events.
    """

    recorded: int = 0
    adopted: int = 0
    sent: int = 0
    duplicate: int = 0
    spooled: int = 0
    dropped: int = 0
    rejected: int = 0
    bad_values: int = 0
    waiting: int = 0


class Counts:
    """The running counts and the log. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._counts: dict[str, int] = {}
        self._said: set[str] = set()

    def __getitem__(self, name: str) -> int:
        return self._counts.get(name, 0)

    def add(self, name: str, count: int = 1) -> None:
        """Count ``count`` more under ``name``, a field of ``Stats``."""
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + count

    def reset(self) -> None:
        """Start from zero, in a forked child whose parent may have held the lock."""
        self._lock = threading.RLock()
        self._counts = {}

    def snapshot(self, waiting: int) -> Stats:
        with self._lock:
            return Stats(**self._counts, waiting=waiting)

    def once(self, key: str, message: str, *args: object) -> None:
        """Log a warning, unless one was logged under this key before. ``args`` hold no contents of events."""
        with self._lock:
            if key in self._said or len(self._said) >= REMEMBERED:
                return
            self._said.add(key)
        log.warning(message, *args)

    def again(self, key: str) -> None:
        """Let the next warning under this key be logged: the state that it was about is over."""
        with self._lock:
            self._said.discard(key)

    def bad(self, field: str, reason: str) -> None:
        """Count a value that cannot be recorded as it is."""
        self.add("bad_values")
        self.once(f"bad {field}", "%s %s; this is logged once, Recorder.stats counts the rest", field, reason)

    def dropped(self, count: int, reason: str) -> None:
        """Count events that are lost."""
        self.add("dropped", count)
        self.once(f"dropped {reason}", "events are dropped: %s; Recorder.stats counts them", reason)


class Counting(Protocol):
    """Has ``counts``."""

    @property
    def counts(self) -> Counts: ...


Owner = TypeVar("Owner", bound=Counting)
Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def quiet(
    method: Callable[Concatenate[Owner, Arguments], Answer],
) -> Callable[Concatenate[Owner, Arguments], Answer | None]:
    """The method, but whatever it raises is counted, logged once by its type, and answered with None.

    What breaks without it: an agent fails because of what watches it.
    """

    @functools.wraps(method)
    def guarded(self: Owner, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer | None:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            self.counts.bad(method.__name__, f"failed with {type(error).__name__}")
            log.debug("%s", method.__name__, exc_info=error)
            return None

    return guarded
