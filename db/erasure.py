"""What is erased of a trajectory, by retention or because somebody asked; its key stays, so that it cannot come back.

Whoever erases locks the windows, then the keys, and then looks who reads them. A training locks its windows to freeze
its dataset, so that one of the two waits, and then sees what the other did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import judgements
from db.session import transaction
from db.tables import Dataset
from rl.errors import DatabaseUnavailable, TransientError
from rl.records import utc

BATCH: Final = 500
"""Trajectories a transaction."""
IN_THE_WAY: Final = ("55P03", "40P01")
"""SQLSTATE: a lock that was not to be had in time, and a deadlock."""

ERASE: Final = {
    "explanations": text("""
        update rlfleet.scores set explanation = null where trajectory_id = any(:ids) and explanation is not null
    """),
    # Feedback that came before its call has no trajectory yet.
    "feedback": text("""
        delete from rlfleet.feedback where trajectory_id = any(:ids) or (trajectory_id = '' and call_id = any(array(
            select call_id from rlfleet.calls where trajectory_id = any(:ids))))
    """),
    "outcomes": text("delete from rlfleet.outcomes where trajectory_id = any(:ids)"),
    "call keys": text("""
        delete from rlfleet.call_keys k using rlfleet.calls c
         where c.trajectory_id = any(:ids) and k.call_id = c.call_id
    """),
    "calls": text("delete from rlfleet.calls where trajectory_id = any(:ids)"),
    "turns": text("delete from rlfleet.turns where trajectory_id = any(:ids)"),
    "trajectories": text("delete from rlfleet.trajectories where trajectory_id = any(:ids)"),
    "recordings": text("""
        delete from rlfleet.recordings r where trajectory_id = any(:ids) and exists (
            select 1 from rlfleet.trajectory_keys k where k.trajectory_id = r.trajectory_id)
    """),
    # Those of agents without a name; db.forgetting erases those of the others.
    "failed calls": text("delete from rlfleet.call_failures where unit = any(:ids)"),
    "excerpts": text("update rlfleet.quarantine set excerpt = '' where \"row\" = any(:ids) and excerpt <> ''"),
}
"""What goes, in this order. Score rows stay without their explanation: a dataset says which of them it used."""
KEYS: Final = text("""
    update rlfleet.trajectory_keys set erased_at = :at where trajectory_id = any(:ids) and erased_at is null
""")


def erase(session: Session, ids: Sequence[str], at: datetime) -> Counter[str]:
    """Erase these trajectories, whether or not a window collected them. Returns how many rows of each kind went.

    The keys of those that were collected say ``erased_at`` afterwards. The caller has locked them, and has marked what
    was made of the trajectories; see ``mark``.
    """
    values = {"ids": list(ids)}
    counts = Counter({"judgements": judgements.erase(session, ids)})
    for name, statement in ERASE.items():
        counts[name] = session.connection().execute(statement, values).rowcount
    session.execute(KEYS, values | {"at": at})
    return counts


def is_in_the_way(error: DatabaseUnavailable) -> bool:
    """Whether another transaction held what was to be locked."""
    return getattr(getattr(error.__cause__, "orig", None), "pgcode", None) in IN_THE_WAY


@dataclass
class Marked:
    """What was made of erased trajectories: datasets by id, versions by name, and jobs that are to freeze anew.

    ``job_ids`` are all jobs that had read any of them: their dataset files must go.
    """

    datasets: set[int] = field(default_factory=set)
    versions: set[str] = field(default_factory=set)
    unfrozen: set[int] = field(default_factory=set)
    job_ids: set[int] = field(default_factory=set)

    def add(self, other: Marked) -> None:
        """Take in what another batch marked."""
        self.datasets |= other.datasets
        self.versions |= other.versions
        self.unfrozen |= other.unfrozen
        self.job_ids |= other.job_ids


READERS = text("""
    select j.id, j.state, l.name as line from rlfleet.jobs j join rlfleet.lines l on l.id = j.line_id
     where j.id = any(array(select d.job_id from rlfleet.dataset_trajectories t
                              join rlfleet.datasets d on d.id = t.dataset_id where t.trajectory_id = any(:ids)))
     order by j.id for update of j
""")
DATASETS = text("update rlfleet.datasets set erased_at = :at where job_id = any(:jobs) returning id")
VERSIONS = text("update rlfleet.versions set erased_at = :at where job_id = any(:jobs) returning name")
UNFREEZE = text("delete from rlfleet.datasets where job_id = any(:jobs)")
NO_STATE = text("""
    update rlfleet.jobs
       set resume = case when jsonb_typeof(resume -> 'remote') = 'object'
                         then jsonb_build_object('remote', resume -> 'remote', 'erased', true) end
     where id = any(:jobs) and resume is not null
""")
"""What a job asked a service for stays known, or the next attempt would ask again."""


def mark(session: Session, ids: Sequence[str], at: datetime) -> Marked:
    """Mark the datasets and versions that had any of these trajectories.

    A dataset that no version was made of goes, with the state that its job had saved: the next attempt freezes what is
    left. The jobs stay locked, so that none of them begins before the caller has erased.

    Raises:
        TransientError: a job is training on them; it is named.
    """
    readers = session.execute(READERS, {"ids": list(ids)}).all()
    for one in readers:
        if one.state == "running":
            raise TransientError(in_training(one.id, one.line))
    trained = {one.id for one in readers if one.state == "succeeded"}
    unfrozen = {one.id for one in readers} - trained
    for statement in (UNFREEZE, NO_STATE):
        session.execute(statement, {"jobs": list(unfrozen)})
    values = {"jobs": list(trained), "at": at}
    datasets, versions = session.scalars(DATASETS, values).all(), session.scalars(VERSIONS, values).all()
    return Marked(set(datasets), set(versions), unfrozen, trained | unfrozen)


def in_training(job_id: int, line: str) -> str:
    """Why trajectories that a job is training on cannot be erased yet, and what to do."""
    return (
        f"job {job_id} of line {line} is training on trajectories that are to be erased: "
        f"run this again when it has ended, or end it with `rlfleet jobs cancel {job_id}`"
    )


REMOVED = text("""
    select max(w.removed_at) from rlfleet.dataset_windows o join rlfleet.windows w on w.id = o.window_id
     where o.dataset_id = :id
""")


def reason_gone(session: Session, dataset: Dataset) -> str | None:
    """Why the rows of a dataset cannot be read again, in words; None while they are all there."""
    if dataset.erased_at is not None:
        return f"some of its trajectories were erased at {utc(dataset.erased_at)}, because somebody asked for it"
    removed = session.execute(REMOVED, {"id": dataset.id}).scalar_one()
    return None if removed is None else f"its trajectories were removed by retention at {utc(removed)}"


LATELY = text("""
    select k.trajectory_id from rlfleet.trajectory_keys k join rlfleet.windows w on w.id = k.window_id
     where k.erased_at > now() - interval '2 days' and k.erased_at is distinct from w.removed_at
       and k.trajectory_id > :after order by k.trajectory_id limit :batch
""")


def again() -> Counter[str]:
    """Erase once more what was erased in the last two days because somebody asked. Returns what was found of it.

    A score or a call that was under way meanwhile may have been stored just after.
    """
    counts: Counter[str] = Counter()
    after = ""
    while True:
        with transaction() as session:
            ids = session.scalars(LATELY, {"after": after, "batch": BATCH}).all()
            if not ids:
                return counts
            counts += erase(session, ids, session.execute(text("select now()")).scalar_one())
        after = ids[-1]


DATASET_FILES = text("""
    select d.job_id from rlfleet.datasets d join rlfleet.jobs j on j.id = d.job_id
     where d.job_id = any(:ids) and j.state <> 'running'
       and (d.erased_at is not null or exists (
           select 1 from rlfleet.dataset_windows o join rlfleet.windows w on w.id = o.window_id
            where o.dataset_id = d.id and w.removed_at is not null))
""")


def without_files(job_ids: Sequence[int]) -> set[int]:
    """Which of these jobs' dataset files must go, because they hold something that was erased or removed."""
    with transaction() as session:
        return set(session.scalars(DATASET_FILES, {"ids": list(job_ids)}))
