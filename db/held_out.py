"""The decision points of a line's logs that its versions are evaluated at: one call of each held-out scenario.

What a version was trained on is never among them, also where the share that is held out was another at that time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import calls, redacting
from rl.config import digest
from rl.errors import InvalidRow
from rl.held_out import HeldOut, LoggedSet, is_held_out
from rl.records import Call, Trajectory
from rl.redaction import Redaction
from rl.windows import parse

UNTYPED = "logged"
"""The type of a scenario whose trajectory has no archetype."""
AT_ONCE = 100
"""Trajectories whose calls are in memory at once."""
MOST_TRIED = 1_000
"""Trajectories of a scenario that are looked at, however many have no call that can be asked about."""

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
    session: Session,
    line_id: int,
    task_set: LoggedSet,
    versions: Sequence[int],
    redaction: Redaction,
    *,
    known: Sequence[str] = (),
    most: int | None = None,
) -> list[Point]:
    """The points of the task set: one a scenario, of at most ``most`` scenarios, or ``task_set.count``.

    Those that are ``known`` come first. Which others, and which call of each, is drawn by hashes with the salt, from
    what is stored of the hours at the moment; without known ones these are the places of the task set in their order.

    Left out are trajectories that nobody agreed to, that were erased, that the redaction does not let be stored, and
    scenarios that one of ``versions`` or what it goes back to was trained on. A call counts that was sent something and
    answered it, so that another model can be asked the same. In memory are a few scenarios at a time.
    """
    values = {"line_id": line_id, **_span("since", "until", (task_set.since, task_set.until)), **values_of(task_set)}
    values |= _span("other_since", "other_until", task_set.other_half) | {"chooses": task_set.split == "validation"}
    values["known"] = list(known)
    order: Iterator[str] = session.scalars(SCENARIOS, values, execution_options={"yield_per": AT_ONCE})
    chosen: list[Point] = []
    while names := list(islice(order, min(AT_ONCE, (most or task_set.count) - len(chosen)))):
        learned = trained_on(session, versions, names)
        found: dict[str, list[str]] = {one: [] for one in names if one not in learned}
        for scenario, trajectory in session.execute(TRIED, values | {"names": list(found), "most": MOST_TRIED}):
            found[scenario].append(trajectory)
        points = dict(_points(session, found, task_set, redaction))
        chosen += [points[one] for one in found if one in points]
    return chosen


def known_of(session: Session, line_id: int, task_set: LoggedSet) -> list[str]:
    """The scenarios that the line's evaluations of the task set asked about, those of the first one first."""
    return list(session.scalars(KNOWN, {"line_id": line_id, "task_set": digest(task_set)}))


def _span(since: str, until: str, names: tuple[str, str] | None) -> dict[str, Any]:
    """When the hours between two window ids begin and end, under these names; None where there are none."""
    begin, end = (parse(one).hour for one in names) if names else (None, None)
    return {since: begin, until: end}


def _logged(since: str, until: str) -> str:
    """The held-out trajectories of the line's hours between two values, of those who did not refuse consent."""
    return f"""
        rlfleet.windows w join rlfleet.trajectories t on t.window_id = w.id and t.at = w.starts_at
           and t.at >= :{since} and t.at < :{until}
         where w.line_id = :line_id and w.run_id is null and w.starts_at >= :{since} and w.starts_at < :{until}
           and not exists (select 1 from rlfleet.recordings r
                            where r.trajectory_id = t.trajectory_id and r.consent is false)
           and {IS_HELD_OUT}
    """  # noqa: S608 (of constants)


def _hash(what: str, column: str) -> str:
    """``_drawn`` of the salt, ``what`` and the column."""
    salt, zero = "convert_to(cast(:salt as text), 'UTF8')", r"'\x00'::bytea"
    return f"sha256({salt} || {zero} || '{what}'::bytea || {zero} || convert_to({column}, 'UTF8'))"


KNOWN = text("""
    select v.scenario_id from rlfleet.evaluations e join rlfleet.verdicts v on v.evaluation_id = e.id
     where e.task_set_hash = :task_set
       and e.version_id in (select id from rlfleet.versions where line_id = :line_id)
     group by v.scenario_id order by min(e.id), v.scenario_id
""")
SCENARIOS = text(f"""
    select scenario_id from (select distinct t.scenario_id from {_logged("since", "until")}) mine
      left join unnest(cast(:known as text[])) with ordinality as asked(name, place) on name = scenario_id
     where (get_byte({_hash("half", "scenario_id")}, 0) < 128) = :chooses
        or scenario_id not in (select t.scenario_id from {_logged("other_since", "other_until")})
     order by place, {_hash("scenario", "scenario_id")}
""")  # noqa: S608 (of constants)
"""Those of the hours: known ones first, then in the order of their hashes. What the other half holds too belongs to one
half by a hash."""
TRIED = text(f"""
    select scenario_id, trajectory_id
      from (select t.scenario_id, t.trajectory_id, row_number() over (
                   partition by t.scenario_id order by {_hash("trajectory", "t.trajectory_id")}) as place
              from {_logged("since", "until")} and t.scenario_id = any(:names)) drawn
     where place <= :most
     order by scenario_id, place
""")  # noqa: S608 (of constants)


def _drawn(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).digest()


def _points(
    session: Session, scenarios: dict[str, list[str]], task_set: LoggedSet, redaction: Redaction
) -> Iterator[tuple[str, Point]]:
    """The point of each scenario that has one: that of its first trajectory that has one."""
    left = {name: iter(members) for name, members in scenarios.items()}
    while left:
        ids = {name: one for name, members in left.items() if (one := next(members, None)) is not None}
        left = {name: left[name] for name in ids}
        for point in _of(session, list(ids.values()), task_set.salt, redaction):
            del left[point.scenario_id]
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
