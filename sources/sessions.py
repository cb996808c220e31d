"""Calls that wait on disk until all of their session have been read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import datetime

from rl.errors import DiskFull
from sources.exchanges import Exchange

MOST_CALLS = 4096
"""A session with more calls than this is no trajectory: its id names something that never ends."""

TABLE = """
create table calls (
    session text not null, call_id text not null, number integer not null, turn integer,
    started_at text not null, ended_at text not null, exchange text not null,
    primary key (session, call_id)
)
"""
ENDS = "select session, min(number), max(ended_at) from calls group by session order by min(number)"
OF_SESSION = """
select exchange from calls where session = ?
order by case when ? then turn end, started_at, number limit ?
"""


class Sessions:
    """Takes calls in any order; a call that comes twice counts once. The file is gone when this is closed."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("", isolation_level=None)  # no name: a temporary file that nobody else sees
        self._file.execute("pragma synchronous = off")
        self._file.execute(TABLE)
        self._file.execute("begin")

    def add(self, session: str, number: int, one: Exchange) -> None:
        """Keep the call in line ``number``.

        Raises:
            DiskFull: there is no room for it.
        """
        times = (one.started_at.isoformat(timespec="microseconds"), one.ended_at.isoformat(timespec="microseconds"))
        row = (session, one.call.call_id, number, one.turn, *times, one.model_dump_json())
        try:
            self._file.execute("insert or ignore into calls values (?, ?, ?, ?, ?, ?, ?)", row)
        except sqlite3.OperationalError as error:
            raise DiskFull(f"no room for the calls of sessions; TMPDIR names another folder: {error}") from error

    def ends(self) -> Iterator[tuple[str, int, datetime]]:
        """Each session with the number of its first line and the end of its last call, in the order of lines."""
        for session, number, ended_at in self._file.execute(ENDS):
            yield session, number, datetime.fromisoformat(ended_at)

    def calls(self, session: str) -> list[Exchange]:
        """The session's calls by turn where all name theirs, else by time; at most one more than ``MOST_CALLS``."""
        counted = self._file.execute("select count(*) = count(turn) from calls where session = ?", (session,))
        (numbered,) = counted.fetchone()
        rows = self._file.execute(OF_SESSION, (session, numbered, MOST_CALLS + 1))
        return [Exchange.model_validate_json(text) for (text,) in rows]

    def close(self) -> None:
        """Let the file go."""
        self._file.close()
