"""Erasing all that an agent said or did, in transactions of a few hundred trajectories each.

What is found is erased, and what was erased is not found: a second run finishes what a first one was killed at.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from sqlalchemy import text

from db import erasure, lines
from db.erasure import Marked
from db.session import transaction
from db.windows import database_now
from rl.errors import DatabaseUnavailable, TransientError

PASSES: Final = 3
"""An agent that goes on speaking meanwhile is not followed for ever."""
TRIES, TRY_SECONDS = 10, 0.5
PATIENCE_SECONDS: Final = 3600.0
"""Calls have no index by agent: all of them are read."""

Remove = Callable[[Sequence[int]], int]
"""Removes the dataset files of these jobs; how many there were."""


@dataclass
class Forgotten:
    """What went, by kind; what was made of it; files; and collections that began before and may store more."""

    counts: Counter[str] = field(default_factory=Counter)
    marked: Marked = field(default_factory=Marked)
    files: int = 0
    collecting: list[int] = field(default_factory=list)


ON_LINE = "(cast(:line as text) is null or {} = :line)"
FIND: Final = (
    text(f"""
        select t.trajectory_id from rlfleet.trajectories t join rlfleet.lines l on l.id = t.line_id
         where t.agent_id = :agent and {ON_LINE.format("l.name")} and t.trajectory_id > :after
         order by t.trajectory_id limit :batch
    """),  # noqa: S608 (of constants)
    text(f"""
        select r.trajectory_id from rlfleet.recordings r
         where r.agent_id = :agent and {ON_LINE.format("r.line")} and r.trajectory_id > :after
           and not exists (select 1 from rlfleet.trajectories t
                            where t.trajectory_id = r.trajectory_id and t.agent_id = :agent)
         order by r.trajectory_id limit :batch
    """),  # noqa: S608
    text(f"""
        select distinct c.trajectory_id from rlfleet.calls c
         where c.agent_id = :agent and {ON_LINE.format("c.line")} and c.trajectory_id > :after
           and not exists (select 1 from rlfleet.trajectories t
                            where t.trajectory_id = c.trajectory_id and t.agent_id = :agent)
           and not exists (select 1 from rlfleet.recordings r
                            where r.trajectory_id = c.trajectory_id and r.agent_id = :agent)
         order by c.trajectory_id limit :batch
    """),  # noqa: S608
)
"""The agent's trajectories: those collected, those reported and not collected, and others in which it spoke."""
LOCKS: Final = (
    text("""
        select id from rlfleet.windows where id = any(array(
            select window_id from rlfleet.trajectory_keys where trajectory_id = any(:ids)))
         order by id for no key update
    """),
    # Waiting here, with the windows held, could be waited for by whoever is waited for.
    text("select 1 from rlfleet.trajectory_keys where trajectory_id = any(:ids) for update nowait"),
)
REFUSE = text("""
    update rlfleet.recordings r
       set consent = false, line = 'main', agent_id = null, scenario_id = null, "window" = null, archetype = null,
           started_at = null, ended_at = null, status = null, reward = null, details = '{}'
     where r.trajectory_id = any(:ids)
""")
"""A recording that no window collected has no key: its empty head refuses what is reported of it later."""


def forget(agent: str, line: str | None, remove: Remove, *, dry_run: bool = False) -> Forgotten:
    """Erase all that the agent said or did, on one line or on all.

    A trajectory in which it spoke goes whole, also where another agent's id is on it: the others' prompts quote it.
    ``remove`` is called before each batch is committed. With ``dry_run`` everything is undone, and only counted.

    Raises:
        InvalidInput: there is no such line.
        TransientError: a job is training on the agent's trajectories; batches before stay erased.
    """
    done = Forgotten()
    if line is not None:
        with transaction() as session:
            lines.named(session, line)
    for _ in range(1 if dry_run else PASSES):
        number = 0
        for ids in _found(agent, line):
            _patiently(partial(_batch, ids, done, remove, dry_run=dry_run))
            number += len(ids)
        if not number:
            break
    with transaction(PATIENCE_SECONDS) as session:
        number = session.connection().execute(FAILED, {"agent": agent, "line": line}).rowcount
        done.counts["failed calls"] += number
        if dry_run:
            session.rollback()
    _texts(agent, line, done, dry_run=dry_run)
    done.collecting = _collecting(line)
    return done


def _found(agent: str, line: str | None) -> Iterator[list[str]]:
    """The agent's trajectories, a batch at a time, each looked for after the one before was erased."""
    for query in FIND:
        after: str | None = ""
        while after is not None:
            values = {"agent": agent, "line": line, "after": after, "batch": erasure.BATCH}
            with transaction(PATIENCE_SECONDS) as session:
                ids = list(session.scalars(query, values))
            if ids:
                yield ids
            after = ids[-1] if len(ids) == erasure.BATCH else None


def _batch(ids: Sequence[str], done: Forgotten, remove: Remove, *, dry_run: bool) -> None:
    """One transaction. Files go before it commits: whoever reads them again writes them again."""
    with transaction(PATIENCE_SECONDS) as session:
        session.execute(text("set local lock_timeout = '5s'"))
        at = database_now(session)
        for lock in LOCKS:
            session.execute(lock, {"ids": list(ids)}).all()
        marked = erasure.mark(session, ids, at)
        counts = erasure.erase(session, ids, at)
        counts["recordings"] += session.connection().execute(REFUSE, {"ids": list(ids)}).rowcount
        files = 0
        if dry_run:
            session.rollback()
        elif marked.job_ids:
            files = remove(sorted(marked.job_ids))
    done.counts += counts
    done.marked.add(marked)
    done.files += files


def _patiently(batch: Callable[[], None]) -> None:
    """Again where another transaction was in the way. Raises ``TransientError`` when it stays there."""
    for _ in range(TRIES):
        try:
            return batch()
        except DatabaseUnavailable as error:
            if not erasure.is_in_the_way(error):
                raise
            time.sleep(TRY_SECONDS)
    raise TransientError("others hold rows that are to be erased; batches before are done: run the same command again")


FAILED = text(f"delete from rlfleet.call_failures where unit = :agent and {ON_LINE.format('line')}")  # noqa: S608
EXCERPTS = """
    from rlfleet.quarantine q join rlfleet.lines l on l.id = q.line_id
   where q.excerpt ~ :pattern and (cast(:line as text) is null or l.name = :line)
"""
COUNT = text(f"select count(*) {EXCERPTS}")
BLANK = text(f"""
    update rlfleet.quarantine set excerpt = '' where id = any(array(select q.id {EXCERPTS} limit :batch))
""")  # noqa: S608


def _texts(agent: str, line: str | None, done: Forgotten, *, dry_run: bool) -> None:
    """Empty the excerpts of unusable rows that name the agent as a whole word."""
    values = {"pattern": rf"(^|[^[:alnum:]_-]){re.escape(agent)}($|[^[:alnum:]_-])", "line": line}
    while True:
        with transaction(PATIENCE_SECONDS) as session:
            if dry_run:
                done.counts["excerpts"] += session.execute(COUNT, values).scalar_one()
                return
            number = session.connection().execute(BLANK, values | {"batch": erasure.BATCH}).rowcount
        done.counts["excerpts"] += number
        if number < erasure.BATCH:
            return


COLLECTING = text("""
    select j.id from rlfleet.jobs j join rlfleet.lines l on l.id = j.line_id
     where j.kind = 'collect' and j.state = 'running' and (cast(:line as text) is null or l.name = :line) order by j.id
""")


def _collecting(line: str | None) -> list[int]:
    with transaction() as session:
        return list(session.scalars(COLLECTING, {"line": line}))
