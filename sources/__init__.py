"""Where trajectories come from: one file per place, behind one small interface."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from importlib import import_module
from typing import Protocol
from urllib.parse import urlsplit

from rl.errors import InvalidInput
from rl.records import Quarantined, Trajectory
from rl.windows import WindowId

KINDS = {
    "babylon": "sources.babylon",
    "jsonl": "sources.jsonl",
    "parquet": "sources.parquet",
    "recorded": "sources.recorded",
    "requests": "sources.requests",
    "table": "sources.table",
}
"""URL scheme to the module that reads it; each has ``connect(url) -> Source``."""

PLACING = frozenset({"babylon", "recorded", "table"})
"""Kinds whose unusable rows belong to a window, as usable ones do; others report them with every window."""


class Source(Protocol):
    """A place that holds trajectories of many windows."""

    def read(self, window: WindowId | None) -> Iterator[Trajectory | Quarantined]:
        """The window's trajectories, or all, and in their place the rows that cannot be used, with the reason."""
        ...

    def holds(self, window: WindowId) -> bool:
        """Whether there is at least one row of that window."""
        ...

    def hours(self, since: datetime | None = None, until: datetime | None = None) -> dict[str, int]:
        """Rows by hour window, in order of time, of hours with some moment from ``since`` to before ``until``.

        Counts what ``read`` gives for that hour, as far as a source can tell where an unusable row belongs.
        """
        ...


def connect(url: str) -> Source:
    """The source at ``url``, for example ``jsonl:///srv/logs/agent.jsonl``.

    Raises:
        InvalidInput: the scheme is unknown, the place is not there, or the URL holds a password.
    """
    scheme = urlsplit(url).scheme
    if urlsplit(url).password or "password=" in urlsplit(url).query:
        remedy = "a source's URL is stored and shown; put the postgresql:// URL into an environment variable X and "
        raise InvalidInput("line.source", f"{scheme}://<hidden>", remedy + "write babylon://X")
    if scheme not in KINDS:
        known = ", ".join(f"{kind}://" for kind in sorted(KINDS))
        raise InvalidInput("line.source", url, f"unknown kind of source; known: {known}")
    source: Source = import_module(KINDS[scheme]).connect(url)
    return source
