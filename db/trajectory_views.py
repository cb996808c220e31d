"""Trajectories as people look at them: group beside group."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import lines, partitions, windows
from db.trajectory_pages import Whole

Rows = list[dict[str, Any]]

GROUPS_A_PAGE, MEMBERS_A_GROUP = 6, 16
SAID, TURNS_BESIDE = 280, 12
"""Characters of an answer, and answers of a trajectory, that are shown where several stand side by side."""
KINDS = 50
"""So many kinds of quarantined rows are shown."""


@dataclass(frozen=True)
class Group:
    """The trajectories of one window on one scenario. ``members`` may be cut, ``count`` never is.

    A member has ``trajectory_id``, ``agent_id``, ``reward``, ``success``, ``boundary``, ``truncated``, ``score``,
    ``method``, ``explanation``, ``turns``, ``calls``, ``prompt_tokens``, ``answer_tokens`` and ``models``.
    """

    scenario: str
    count: int
    mean_reward: float
    members: Rows


@dataclass(frozen=True)
class Page:
    """Some groups of a window, of ``groups_of`` altogether, and its rows that could not be used.

    ``quarantined`` has the most frequent of the ``quarantined_kinds`` there are, by source, field and reason.
    """

    line: str
    window: str
    state: str
    reason: str | None
    groups: list[Group]
    groups_of: int
    trajectories: int
    quarantined: Rows
    quarantined_kinds: int


def choices(session: Session, line: str, most: int = 200) -> list[str]:
    """The line's newest windows that hold trajectories, the newest first.

    Raises:
        InvalidInput: there is no such line.
    """
    return list(session.scalars(CHOICES, {"line_id": lines.named(session, line).id, "most": most}))


def has_window(session: Session, line: str, window: str) -> bool:
    """Whether the line has a window of that name.

    Raises:
        InvalidInput: there is no such line.
    """
    return bool(session.scalar(HAS_WINDOW, {"line_id": lines.named(session, line).id, "name": window}))


def scenarios(session: Session, line: str, window: str, most: int = 500) -> list[str]:
    """The scenarios of the window, by code points.

    Raises:
        InvalidInput, UnknownWindow: there is no such line or window.
    """
    row = windows.named(session, lines.named(session, line).id, window)
    return list(session.scalars(SCENARIOS, {"window_id": row.id, "at": row.starts_at, "most": most}))


def groups(
    session: Session, line: str, window: str, scenario: str | None = None, page: int = 1, first: str | None = None
) -> Page:
    """The window's groups by scenario, ``GROUPS_A_PAGE`` of them, or one alone; the trajectory ``first`` is never cut.

    Raises:
        InvalidInput, UnknownWindow: there is no such line or window.
    """
    row = windows.named(session, lines.named(session, line).id, window)
    about: dict[str, Any] = {"window_id": row.id, "at": row.starts_at, "scenario": scenario}
    count, trajectories = session.execute(COUNTED, about).one()
    paged = about | {"limit": GROUPS_A_PAGE, "offset": (page - 1) * GROUPS_A_PAGE}
    found = session.execute(GROUPS, paged).all()
    names = [one.scenario_id for one in found]
    members: dict[str, Rows] = {name: [] for name in names}
    if names:
        values = about | partitions.bounds(row.starts_at) | {"names": names, "most": MEMBERS_A_GROUP, "first": first}
        for member in _rows(session, MEMBERS, **values):
            members[member["scenario_id"]].append(member)
    unusable = _rows(session, QUARANTINED, window_id=row.id, most=KINDS)
    return Page(
        line=line,
        window=window,
        state=row.state,
        reason=row.reason,
        groups=[Group(one.scenario_id, one.members, float(one.reward), members[one.scenario_id]) for one in found],
        groups_of=count,
        trajectories=trajectories,
        quarantined=unusable,
        quarantined_kinds=unusable[0]["kinds"] if unusable else 0,
    )


def group_of(session: Session, whole: Whole) -> Group:
    """The trajectory's group, each member with what it said in its first turns, in ``said``."""
    scenario = whole.head["scenario_id"]
    found = groups(session, whole.line, whole.window, scenario, first=whole.trajectory_id).groups[0]
    row = windows.named(session, lines.named(session, whole.line).id, whole.window)
    values: dict[str, Any] = {"ids": [member["trajectory_id"] for member in found.members], "turns": TURNS_BESIDE}
    said: dict[str, Rows] = {}
    for answer in _rows(session, SAID_BY, **values, **partitions.bounds(row.starts_at), characters=SAID):
        said.setdefault(answer["trajectory_id"], []).append(answer)
    for member in found.members:
        member["said"] = said.get(member["trajectory_id"], [])
    return found


def versions_among(session: Session, names: Collection[str]) -> set[str]:
    """Those of the models' names that are versions of ours."""
    return set(session.scalars(VERSIONS, {"names": list(names)}))


def _rows(session: Session, statement: Any, **values: Any) -> Rows:
    return [dict(row) for row in session.execute(statement, values).mappings()]


VERSIONS = text("select name from rlfleet.versions where name = any(:names)")
HAS_WINDOW = text("select exists (select 1 from rlfleet.windows where line_id = :line_id and name = :name)")
CHOICES = text("""
    select w.name from rlfleet.windows w
     where w.line_id = :line_id and exists (select 1 from rlfleet.trajectory_keys k where k.window_id = w.id)
     order by w.starts_at desc, w.id desc limit :most
""")
SCENARIOS = text("""
    select distinct scenario_id collate "C" from rlfleet.trajectories
     where window_id = :window_id and at = :at order by 1 limit :most
""")
OF_WINDOW = """from rlfleet.trajectories t where t.window_id = :window_id and t.at = :at
               and (cast(:scenario as text) is null or t.scenario_id = :scenario)"""
COUNTED = text(f"select count(distinct t.scenario_id), count(*) {OF_WINDOW}")
GROUPS = text(f"""
    select t.scenario_id, count(*) as members, avg(t.reward) as reward {OF_WINDOW}
     group by t.scenario_id order by t.scenario_id collate "C" limit :limit offset :offset
""")
MEMBERS = text("""
    with members as (
        select t.*, row_number() over (partition by t.scenario_id order by
                   (t.trajectory_id = cast(:first as text)) desc, t.trajectory_id collate "C") as place
          from rlfleet.trajectories t
         where t.window_id = :window_id and t.at = :at and t.scenario_id = any(:names)
    )
    select t.trajectory_id, t.scenario_id, t.agent_id, t.reward, t.details ->> 'success' as success,
           t.details ->> 'boundary' as boundary, t.details ->> 'truncated' as truncated,
           s.score, s.method, s.explanation, c.turns, c.calls, c.prompt_tokens, c.answer_tokens, c.models
      from members t
      left join lateral (select o.score, o.method, o.explanation from rlfleet.scores o
                          where o.trajectory_id = t.trajectory_id order by o.id desc limit 1) s on true
      left join lateral (
           select count(*) as calls, count(distinct o.turn) as turns,
                  (sum(octet_length(o.prompt_token_ids)) / 4)::bigint as prompt_tokens,
                  (sum(octet_length(o.token_ids)) / 4)::bigint as answer_tokens,
                  coalesce(array_agg(distinct o.model) filter (where o.model is not null), '{}') as models
             from rlfleet.calls o
            where o.trajectory_id = t.trajectory_id and o.at >= :since and o.at < :until) c on true
     where t.place <= :most order by t.scenario_id collate "C", t.place
""")
QUARANTINED = text("""
    select q.source, q.field, q.reason, count(*) as count, min(q."row") as example, count(*) over () as kinds
      from rlfleet.quarantine q
     where q.window_id = :window_id group by q.source, q.field, q.reason
     order by count(*) desc, q.field collate "C", q.reason collate "C" limit :most
""")
SAID_BY = text("""
    select o.trajectory_id, s.turn, s.content, s.is_cut, s.tool_calls
      from unnest(cast(:ids as text[])) o(trajectory_id), lateral (
           select c.turn, left(c.body -> 'response' ->> 'content', :characters) as content,
                  coalesce(length(c.body -> 'response' ->> 'content'), 0) > :characters as is_cut,
                  left(c.body -> 'response' ->> 'tool_calls', :characters) as tool_calls
             from rlfleet.calls c
            where c.trajectory_id = o.trajectory_id and c.at >= :since and c.at < :until
            order by c.turn, c.place, c.created_at, c.call_id limit :turns) s
""")
