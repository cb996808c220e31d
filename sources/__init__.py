"""Where trajectories come from: one file per place, behind one small interface."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Protocol
from urllib.parse import urlsplit

from rl.errors import InvalidInput
from rl.records import Quarantined, Trajectory
from rl.windows import WindowId

KINDS = {"jsonl": "sources.jsonl"}
"""URL scheme to the module that reads it; each has ``connect(url) -> Source``."""


class Source(Protocol):
    """A place that holds trajectories of many windows."""

    def read(self, window: WindowId | None) -> Iterator[Trajectory | Quarantined]:
        """The window's trajectories, or all, and in their place the rows that cannot be used, with the reason."""
        ...

    def holds(self, window: WindowId) -> bool:
        """Whether there is at least one row of that window."""
        ...


def connect(url: str) -> Source:
    """The source at ``url``, for example ``jsonl:///srv/logs/agent.jsonl``.

    Raises:
        InvalidInput: the scheme is unknown, or the place is not there.
    """
    scheme = urlsplit(url).scheme
    if scheme not in KINDS:
        known = ", ".join(f"{kind}://" for kind in sorted(KINDS))
        raise InvalidInput("line.source", url, f"unknown kind of source; known: {known}")
    source: Source = import_module(KINDS[scheme]).connect(url)
    return source
