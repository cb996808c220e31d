"""Checkpoints of a training: found by step, and given up when nothing needs them (``rl.checkpoint_retention``).

A folder is given up in two steps: its row is marked under the line's lock, and then whoever sweeps the disk removes
what marked rows name. Killed in between, the next sweep removes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from db.session import transaction
from db.tables import Checkpoint, Decision, Line, Version
from rl.checkpoint_retention import Training, removable
from rl.config import LineConfig
from rl.errors import InvalidInput


@dataclass(frozen=True)
class GivenUp:
    """Steps of a version whose folders were given up."""

    version: str
    steps: tuple[int, ...]


def of_version(session: Session, version: Version) -> list[Checkpoint]:
    """Every checkpoint of the version's training, by step, those that are gone from disk included."""
    query = select(Checkpoint).where(Checkpoint.job_id == version.job_id).order_by(Checkpoint.step)
    return list(session.scalars(query))


def at_step(session: Session, version: Version, step: int) -> Checkpoint:
    """The version's checkpoint of that step, counted since its lineage began.

    Raises:
        InvalidInput: it has none, or its folder was removed.
    """
    rows = of_version(session, version)
    found = next((one for one in rows if one.step == step), None)
    if found is None:
        steps = ", ".join(str(one.step) for one in rows)
        raise InvalidInput("step", step, f"{version.name} has checkpoints of steps {steps}")
    if found.removed_at is not None:
        remedy = f"{version.name} has it no more: retention removed it; `rlfleet reproduce` trains it again"
        raise InvalidInput("step", step, remedy)
    return found


SEVERAL: Final = text("""
    select v.id from rlfleet.versions v
     where v.state <> 'candidate' and exists (
           select 1 from rlfleet.checkpoints c
            where c.job_id = v.job_id and c.id <> v.checkpoint_id and c.removed_at is null)
     order by v.id
""")


def give_up() -> Iterator[GivenUp]:
    """Mark what no version needs any more, a transaction for each version; yields after each that lost some."""
    with transaction() as session:
        found = list(session.scalars(SEVERAL))
    for version_id in found:
        with transaction() as session:
            given_up = _of(session, version_id)
        if given_up.steps:
            yield given_up


def _of(session: Session, version_id: int) -> GivenUp:
    version = session.scalars(select(Version).where(Version.id == version_id)).one()
    # Decisions and trainings of the line take the same lock: what is needed is asked under it.
    line = session.scalars(select(Line).where(Line.id == version.line_id).with_for_update()).one()
    session.refresh(version)
    kept = LineConfig.model_validate(line.config).retention.checkpoints
    steps = removable(training(session, version), kept)
    marked = Checkpoint.removed_at.is_(None) & (Checkpoint.job_id == version.job_id) & Checkpoint.step.in_(steps)
    session.execute(update(Checkpoint).where(marked).values(removed_at=func.now()))
    return GivenUp(version.name, tuple(steps))


def training(session: Session, version: Version) -> Training:
    """The checkpoints of the version that are on disk, as the rule of retention looks at them."""
    rows = [one for one in of_version(session, version) if one.removed_at is None]
    decisions = list(session.scalars(select(Decision).where(Decision.version_id == version.id)))
    waiting = any(one.approval == "waiting" for one in decisions)
    in_a_run = session.execute(OPEN_RUN, {"job": version.job_id}).first() is not None
    return Training(
        steps=tuple(one.step for one in rows),
        own=next(one.step for one in of_version(session, version) if one.id == version.checkpoint_id),
        decided=not in_a_run
        and (version.state == "rejected" or (version.state == "ready" and bool(decisions) and not waiting)),
        judged=_judged(session, rows),
        named=frozenset(session.scalars(TIED, {"line": version.line_id, "name": version.name})),
        needed=_needed(session, version, rows),
    )


OPEN_RUN: Final = text("""
    select 1 from rlfleet.jobs j join rlfleet.runs r on r.line_id = j.line_id
       and starts_with(j.inputs -> 'windows' ->> 0, 'run/' || r.name || '/')
     where j.id = :job and r.state in ('running', 'paused') limit 1
""")
"""A run that has not ended, whose choice may still be any checkpoint of the version that the job trained."""

TIED: Final = text("""
    select cast(split_part(one.label, '@', 2) as int)
      from rlfleet.decisions d, jsonb_array_elements_text(
               case when jsonb_typeof(d.evidence -> 'selection' -> 'tie_set') = 'array'
                    then d.evidence -> 'selection' -> 'tie_set' else '[]' end) one(label)
     where d.line_id = :line and split_part(one.label, '@', 1) = :name
       and split_part(one.label, '@', 2) ~ '^[0-9]{1,9}$'
""")
"""The checkpoints that a decision names as not told apart from what it chose, such as ``v1.0.3@12``."""


JUDGED: Final = text("""
    select concat_ws('/', e.task_set_hash, e.judge, e.prompt_hash, e.against) as task_set, e.checkpoint_sha256, d.type,
           floor(sum(case when d."right" = d.rival_right then 0.5 when d."right" then 1 else 0 end))::int as k,
           count(d."right") as n
      from rlfleet.evaluations e join rlfleet.verdicts d on d.evaluation_id = e.id
     where e.checkpoint_sha256 = any(:hashes)
     group by 1, 2, 3
""")
"""A tie with a rival counts half."""


def _judged(session: Session, rows: Sequence[Checkpoint]) -> dict[str, dict[int, dict[str, tuple[int, int]]]]:
    found: dict[str, dict[int, dict[str, tuple[int, int]]]] = defaultdict(lambda: defaultdict(dict))
    for row in session.execute(JUDGED, {"hashes": [one.sha256 for one in rows]}):
        for one in rows:
            if one.sha256 == row.checkpoint_sha256:
                found[row.task_set][one.step][row.type] = (row.k, row.n)
    return {task_set: dict(steps) for task_set, steps in found.items()}


NEEDED: Final = {
    "a job that waits or runs": text("""
        select 1 from rlfleet.jobs j
         where j.line_id = :line and j.state in ('queued', 'running')
           and ((j.kind = 'train' and j.state = 'running')
                or strpos(concat(j.inputs::text, j.config::text), to_json(cast(:name as text))::text) > 0)
         limit 1
    """),
}
"""What needs every checkpoint of a version. Which one a running training goes on from, only it knows."""
FURTHER: Final = text("""
    select c.step, v.name from rlfleet.checkpoints c join rlfleet.versions v
        on v.manifest ->> 'parent' = :name and v.manifest -> 'parent_step' = to_jsonb(c.step)
     where c.job_id = :job
    union all
    select c.step, v.name from rlfleet.checkpoints c join rlfleet.versions v on v.base_model = c.uri
     where c.job_id = :job
    union all
    select c.step, 'other checkpoints' from rlfleet.checkpoints c
     where c.job_id = :job and exists (select 1 from rlfleet.checkpoints o
                                        where o.base_uri = c.uri and o.id <> c.id and o.removed_at is null)
    union all
    select c.step, 'line ' || l.name
      from rlfleet.checkpoints c join rlfleet.lines l on l.config ->> 'base_model' = c.uri
     where c.job_id = :job
""")
"""What was trained further from a checkpoint, or rests on its weights."""


def _needed(session: Session, version: Version, rows: Sequence[Checkpoint]) -> dict[int, str]:
    for why, statement in NEEDED.items():
        if session.execute(statement, {"line": version.line_id, "name": version.name}).first():
            return {one.step: why for one in rows}
    found = session.execute(FURTHER, {"name": version.name, "job": version.job_id})
    return {row.step: str(row.name) for row in found}


GONE: Final = text("""
    select (m[1])::bigint as job, (m[2])::bigint as fence, m[3] as folder
      from rlfleet.checkpoints c, regexp_matches(c.uri, 'jobs/([0-9]{1,18})/fence-([0-9]{1,18})/(step-[0-9]+)$') m
     where c.job_id = any(:ids) and c.removed_at is not null
       and not exists (select 1 from rlfleet.checkpoints o where o.uri = c.uri and o.removed_at is null)
""")


def removed_folders(job_ids: Sequence[int]) -> dict[tuple[int, int], list[str]]:
    """Of these jobs the names of checkpoint folders that were given up, by job and fence."""
    found: dict[tuple[int, int], list[str]] = defaultdict(list)
    with transaction() as session:
        for row in session.execute(GONE, {"ids": list(job_ids)}):
            found[int(row.job), int(row.fence)].append(row.folder)
    return dict(found)
