"""The decision points of a line's logs that its versions are evaluated at: one call of each held-out scenario.

What a version was trained on is never among them, also where the share that is held out was another at that time.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import calls, redacting
from rl.errors import InvalidRow
from rl.held_out import HeldOut, LoggedSet, is_held_out
from rl.records import Call, Trajectory
from rl.redaction import Redaction
from rl.windows import parse

UNTYPED = "logged"
"""The type of a scenario whose trajectory has no archetype."""
AT_ONCE = 100
"""Trajectories whose calls are in memory at once."""

IS_HELD_OUT = r"""
    coalesce((('x' || encode(substr(sha256(
        convert_to(cast(:salt as text), 'UTF8') || '\x00'::bytea || convert_to(scenario_id, 'UTF8')
    ), 1, 8), 'hex'))::bit(64) >> 11)::bigint::float8 / 9007199254740992 < cast(:share as float8), false)
"""
"""``rl.held_out.is_held_out`` of the column ``scenario_id``, bit by bit; with ``values_of``."""


def values_of(held: HeldOut | LoggedSet | None) -> dict[str, Any]:
    """What ``IS_HELD_OUT`` is asked with; without ``held`` nothing is held out."""
    return {"share": None, "salt": ""} if held is None else {"share": held.share, "salt": held.salt}


@dataclass(frozen=True)
class Point:
    """A place in a held-out scenario where an agent asked its model, and what that one answered.

    ``type`` is the archetype of the agent.
    """

    trajectory: Trajectory
    call: Call
    type: str

    @property
    def scenario_id(self) -> str:
        return self.trajectory.scenario_id


def points(
    session: Session, line_id: int, task_set: LoggedSet, versions: Sequence[int], redaction: Redaction
) -> list[Point]:
    """The points of the task set in the order of its places: one a scenario, of at most ``task_set.count`` scenarios.

    Which scenarios, and which call of each, is drawn by hashes with the salt, from what is stored of the hours at the
    moment. Left out are trajectories that nobody agreed to, that were erased, that the redaction does not let be
    stored, and scenarios that one of ``versions`` or what it goes back to was trained on. A call counts that was sent
    something and answered it, so that another model can be asked the same.
    """
    found: dict[str, list[str]] = defaultdict(list)
    since, until = parse(task_set.since).hour, parse(task_set.until).hour
    values = {"line_id": line_id, "since": since, "until": until} | values_of(task_set)
    for scenario, trajectory in session.execute(CANDIDATES, values):
        found[scenario].append(trajectory)
    known = trained_on(session, versions, list(found))
    order = sorted(found.keys() - known, key=lambda one: _drawn(task_set.salt, "scenario", one))
    for members in found.values():
        members.sort(key=lambda one: _drawn(task_set.salt, "trajectory", one))
    chosen: dict[str, Point] = {}
    for scenario, point in _points(session, {one: found[one] for one in order}, task_set, redaction):
        chosen[scenario] = point
    return [chosen[one] for one in order if one in chosen][: task_set.count]


CANDIDATES = text(f"""
    select t.scenario_id, t.trajectory_id
      from rlfleet.windows w join rlfleet.trajectories t on t.window_id = w.id and t.at = w.starts_at
       and t.at >= :since and t.at < :until
     where w.line_id = :line_id and w.run_id is null and w.starts_at >= :since and w.starts_at < :until
       and not exists (select 1 from rlfleet.recordings r
                        where r.trajectory_id = t.trajectory_id and r.consent is false)
       and {IS_HELD_OUT}
""")  # noqa: S608 (of a constant)


def _drawn(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).digest()


def _points(
    session: Session, scenarios: dict[str, list[str]], task_set: LoggedSet, redaction: Redaction
) -> Iterator[tuple[str, Point]]:
    """Points of the first scenarios until there are enough; each of its first trajectory that has one."""
    left, found = iter(scenarios), 0
    while found < task_set.count:
        batch = {one: iter(scenarios[one]) for one in islice(left, min(AT_ONCE, task_set.count - found))}
        if not batch:
            return
        while batch:
            ids = {name: next(members, None) for name, members in batch.items()}
            batch = {name: batch[name] for name, one in ids.items() if one is not None}
            for point in _of(session, [one for one in ids.values() if one is not None], task_set.salt, redaction):
                found += 1
                del batch[point.scenario_id]
                yield point.scenario_id, point


def _of(session: Session, ids: Sequence[str], salt: str, redaction: Redaction) -> Iterator[Point]:
    """The point of each of the trajectories that has one."""
    spoken = calls.of_trajectories(session, ids)
    for row in session.execute(TRAJECTORIES, {"ids": list(ids)}):
        eligible = [one for one in spoken[row.trajectory_id] if can_be_asked(one)]
        eligible.sort(key=lambda one: _drawn(salt, "call", one.call_id))
        whole = Trajectory(
            trajectory_id=row.trajectory_id,
            scenario_id=row.scenario_id,
            agent_id=row.agent_id,
            started_at=row.started_at,
            ended_at=row.ended_at,
            reward=row.reward,
            calls=eligible[:1],
            archetype=row.archetype,
            metadata=row.details,
        )
        try:
            kept = redacting.clean(whole, redaction)[0] if eligible else whole
        except InvalidRow:
            continue
        if kept.calls and can_be_asked(kept.calls[0]):
            yield Point(kept, kept.calls[0], kept.archetype or UNTYPED)


TRAJECTORIES = text("""
    select t.* from rlfleet.trajectory_keys k join rlfleet.trajectories t on t.trajectory_id = k.trajectory_id
       and t.at = k.at
     where k.trajectory_id = any(:ids)
""")


def can_be_asked(call: Call) -> bool:
    """Whether it was sent something that waits for an answer, and was answered by words or tools."""
    if not call.messages or call.messages[-1].role == "assistant":
        return False
    return bool((call.response.content or "").strip() or call.response.tool_calls)


def trained_on(session: Session, versions: Sequence[int], scenarios: Sequence[str]) -> set[str]:
    """Those of the held-out ``scenarios`` that one of ``versions``, or a version that it goes back to, learned from.

    A dataset that was frozen under the same share and salt, or a larger share, holds none of them. Of the others the
    rows are looked at; of trajectories that were erased since, the group that they were frozen with tells.
    """
    datasets = session.execute(DATASETS, {"versions": list(versions)}).all()
    asked = {one.id: [name for name in scenarios if not _was_held_out(name, one.held_out)] for one in datasets}
    found: set[str] = set()
    for dataset, names in asked.items():
        if names:
            found |= set(session.scalars(LEARNED, {"dataset_id": dataset, "names": names}))
    return found


def _was_held_out(scenario: str, held: dict[str, Any] | None) -> bool:
    return bool(held) and is_held_out(scenario, float(held["share"]), str(held["salt"]))  # type: ignore[index]


DATASETS = text("""
    with recursive ancestors as (
        select id, parent_id, job_id from rlfleet.versions where id = any(:versions)
        union select v.id, v.parent_id, v.job_id from rlfleet.versions v join ancestors a on v.id = a.parent_id
    )
    select d.id, d.manifest -> 'held_out' as held_out
      from rlfleet.datasets d where d.job_id in (select job_id from ancestors) order by d.id
""")
# A group is "<window> <scenario>[ <what makes scores comparable>]", and the id of an hour has 16 characters.
LEARNED = text("""
    select t.scenario_id
      from rlfleet.dataset_trajectories d join rlfleet.trajectory_keys k using (trajectory_id)
      join rlfleet.trajectories t on t.trajectory_id = k.trajectory_id and t.at = k.at
     where d.dataset_id = :dataset_id and t.scenario_id = any(:names)
     union
    select n.name from unnest(cast(:names as text[])) as n(name)
      join (select distinct substr(d."group", 18) || ' ' as told from rlfleet.dataset_trajectories d
             where d.dataset_id = :dataset_id and not starts_with(d."group", 'run/')) as g
        on starts_with(g.told, n.name || ' ')
""")
