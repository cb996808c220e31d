"""One trajectory as a page of it shows it: its facts, some of its calls in order, and what became known of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import calls, partitions
from rl.errors import InvalidInput
from rl.records import Call, utc

Rows = list[dict[str, Any]]

CALLS, MOST = 200, 50
"""So many of the first calls can be looked at, and so many scores, pieces of feedback and outcomes, the newest."""


@dataclass(frozen=True)
class Whole:
    """One trajectory. ``erased_at`` set: nothing but its id, line and window is left.

    ``calls`` are those up to the end of the page, without texts before the call that precedes the page. ``scores`` are
    the newest first, ``turns`` what it did in the turns of these calls, and ``known`` what became known of it later.
    ``counts`` says how many ``calls``, ``scores``, ``feedback`` and ``known`` there are. ``models`` are all that spoke,
    and ``tokens`` those of all prompts and of all answers; None where no call has any.
    """

    trajectory_id: str
    line: str
    window: str
    erased_at: str | None
    head: dict[str, Any] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    turns: dict[int, dict[str, Any]] = field(default_factory=dict)
    scores: Rows = field(default_factory=list)
    feedback: Rows = field(default_factory=list)
    known: Rows = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    models: list[str] = field(default_factory=list)
    tokens: tuple[int, int] | None = None


def one(session: Session, trajectory_id: str, page: int = 1, size: int = 10) -> Whole:
    """What is stored of the trajectory, with the calls of a page, from 1 on, of ``size`` calls.

    Raises:
        InvalidInput: none has this id.
    """
    key = session.execute(KEY, {"id": trajectory_id}).one_or_none()
    if key is None:
        raise InvalidInput("trajectory_id", trajectory_id, "no trajectory has this id; see those of a window")
    if key.erased_at is not None:
        return Whole(trajectory_id, key.line, key.window, utc(key.erased_at))
    where = {"id": trajectory_id} | partitions.bounds(key.at)
    said = session.execute(SAID, where).one()
    begins = (page - 1) * size
    ends = min(begins + size, CALLS) if begins < CALLS else 0
    spoken = calls.first_of(session, trajectory_id, key.at, ends, texts_from=begins - 1)
    turns = _rows(session, TURNS, turns=sorted({call.turn for call in spoken[begins:]}), **where)
    later = {
        name: _rows(session, statement, id=trajectory_id, most=MOST)
        for name, statement in (("scores", SCORES), ("feedback", FEEDBACK), ("known", KNOWN))
    }
    return Whole(
        trajectory_id=trajectory_id,
        line=key.line,
        window=key.window,
        erased_at=None,
        head=_rows(session, HEAD, id=trajectory_id, at=key.at)[0],
        calls=spoken,
        turns={turn["turn"]: turn for turn in turns},
        counts={"calls": said.calls} | {name: rows[0]["of"] if rows else 0 for name, rows in later.items()},
        models=list(said.models),
        tokens=None if said.answers is None else (said.prompts, said.answers),
        **later,
    )


def _rows(session: Session, statement: Any, **values: Any) -> Rows:
    return [dict(row) for row in session.execute(statement, values).mappings()]


KEY = text("""
    select l.name as line, w.name as window, k.at, k.erased_at
      from rlfleet.trajectory_keys k join rlfleet.lines l on l.id = k.line_id
      join rlfleet.windows w on w.id = k.window_id where k.trajectory_id = :id
""")
HEAD = text("""
    select scenario_id, agent_id, source, archetype, reward, started_at, ended_at, details
      from rlfleet.trajectories where trajectory_id = :id and at = :at
""")
SAID = text("""
    select count(*) as calls, (sum(octet_length(prompt_token_ids)) / 4)::bigint as prompts,
           (sum(octet_length(token_ids)) / 4)::bigint as answers,
           coalesce(array_agg(distinct model order by model), '{}') as models
      from rlfleet.calls where trajectory_id = :id and at >= :since and at < :until
""")
TURNS = text("""
    select turn, action, reward, details from rlfleet.turns
     where trajectory_id = :id and turn = any(:turns) and at >= :since and at < :until order by turn
""")
SCORES = text("""
    select id, method, method_version, score, rubric_hash, judge, cost, explanation, compared_in, created_at,
           count(*) over () as of
      from rlfleet.scores where trajectory_id = :id order by id desc limit :most
""")
FEEDBACK = text("""
    select call_id, name, value, comment, author, at, count(*) over () as of from rlfleet.feedback
     where trajectory_id = :id order by id desc limit :most
""")
KNOWN = text("""
    select turn, body, created_at, count(*) over () as of from rlfleet.outcomes
     where trajectory_id = :id order by id desc limit :most
""")
