"""What happened on a line, as its rows say: when each stage of each window began and ended, by the database's clock.

A job is asked for, claimed and ended at the times of its events. An event bears the time at which its transaction
began, so what the transaction that ends a job writes counts for the wait that follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import lines
from db.session import transaction

PROBE = "bench-loop"
"""The agent that asks for versions by name."""
LINE_PROBE = "bench-loop-line"
"""The agent that asks for the line, as an agent in production does."""

Key = tuple[str, str, str | None]
"""A job's kind, the window or version that it is about, and its split or ``run`` where it has one."""


@dataclass(frozen=True)
class Span:
    """One job that succeeded: asked for, first claimed, ended."""

    asked: datetime
    began: datetime
    ended: datetime


@dataclass(frozen=True)
class Round:
    """One window of a run. Stages that it did not come to are None, as is a version that nobody was answered by.

    ``tokens`` were sampled and ``prompt_tokens`` read in the calls of its ``episodes``. ``playable_at`` is the first
    completion by ``version``, which was trained on the window, that the gateway recorded.
    """

    window: str
    episodes: int
    tokens: int
    prompt_tokens: int
    last_turn: datetime | None
    collect: Span | None
    score: Span | None
    train: Span | None
    evaluate: Span | None
    version: str | None
    playable_at: datetime | None


@dataclass(frozen=True)
class Loop:
    """One line: its logs, its run, and its releases.

    ``asked_at`` is when training on the logs was asked for, and ``cloned_at`` the first completion that the line's
    first release gave to a call of the line. ``released`` is the version that the run's decision released, if it
    released one, and ``released_at`` the first completion that it gave to a call of the line.
    """

    line: str
    rounds: tuple[Round, ...]
    started_at: datetime | None
    held_out: tuple[Span, ...]
    decide: Span | None
    released: str | None
    released_at: datetime | None
    asked_at: datetime | None
    cloned_at: datetime | None


def read(name: str) -> Loop:
    """Everything that the report needs of the line called ``name``.

    Raises:
        InvalidInput: there is no such line.
    """
    with transaction() as session:
        line_id = lines.named(session, name).id
        spans = _spans(session, line_id)
        released = session.execute(DECIDED, {"line_id": line_id}).scalar()
        first = session.execute(FIRST_RELEASED, {"line_id": line_id}).scalar()
        return Loop(
            line=name,
            rounds=tuple(_rounds(session, line_id, spans)),
            started_at=session.execute(STARTED, {"line_id": line_id}).scalar(),
            held_out=tuple(span for key, span in spans.items() if (key[0], key[2]) == ("evaluate", "held_out")),
            decide=next((span for key, span in spans.items() if (key[0], key[2]) == ("decide", "run")), None),
            released=released,
            released_at=_first_answer(session, released, LINE_PROBE),
            asked_at=session.execute(ASKED, {"line_id": line_id}).scalar(),
            cloned_at=_first_answer(session, first, LINE_PROBE),
        )


def _rounds(session: Session, line_id: int, spans: dict[Key, Span]) -> list[Round]:
    rounds = []
    for window, version, episodes, tokens, prompt_tokens, last_turn in session.execute(ROUNDS, {"line_id": line_id}):
        collect, score, train = (spans.get((kind, window, None)) for kind in ("collect", "score", "train"))
        evaluate = spans.get(("evaluate", version, "validation"))
        answer = _first_answer(session, version)
        rounds.append(
            Round(
                window=window,
                episodes=int(episodes),
                tokens=int(tokens),
                prompt_tokens=int(prompt_tokens),
                last_turn=last_turn,
                collect=collect,
                score=score,
                train=train,
                evaluate=evaluate,
                version=version,
                playable_at=answer,
            )
        )
    return rounds


def _spans(session: Session, line_id: int) -> dict[Key, Span]:
    """The line's jobs that succeeded."""
    return {
        (kind, about, apart): Span(asked, began, ended)
        for kind, about, apart, asked, began, ended in session.execute(SPANS, {"line_id": line_id})
    }


def _first_answer(session: Session, version: str | None, agent: str | None = None) -> datetime | None:
    """When the gateway recorded the version's first completion, to anybody or to ``agent`` alone."""
    found: datetime | None = session.execute(FIRST_ANSWER, {"version": version, "agent": agent}).scalar()
    return found


SPANS = text("""
    select j.kind, coalesce(j.inputs ->> 'window', j.inputs -> 'windows' ->> 0, j.inputs ->> 'version',
                            j.inputs ->> 'candidate') as about,
           case j.kind when 'evaluate' then j.config ->> 'split'
                       when 'decide' then case when j.inputs ->> 'run' is not null then 'run' end end as apart,
           min(e.at) filter (where e.to_state = 'queued'), min(e.at) filter (where e.to_state = 'running'),
           max(e.at) filter (where e.to_state = 'succeeded')
      from rlfleet.jobs j join rlfleet.job_events e on e.job_id = j.id
     where j.line_id = :line_id and j.state = 'succeeded'
     group by j.id order by j.id
""")
ROUNDS = text("""
    select w.name,
           (select v.name from rlfleet.versions v join rlfleet.jobs j on j.id = v.job_id
             where v.line_id = w.line_id and j.inputs -> 'windows' ->> 0 = w.name),
           count(distinct t.trajectory_id), coalesce(sum(length(c.token_ids) / 4), 0),
           coalesce(sum(length(c.prompt_token_ids) / 4), 0), max(c.created_at)
      from rlfleet.windows w left join rlfleet.trajectories t on t.window_id = w.id
      left join rlfleet.calls c on c.trajectory_id = t.trajectory_id
     where w.line_id = :line_id and w.run_id is not null
     group by w.id order by w.run_id, w.round
""")
FIRST_ANSWER = text("""
    select min(created_at) from rlfleet.calls
     where model = :version and (cast(:agent as text) is null or agent_id = :agent)
""")
STARTED = text("select created_at from rlfleet.runs where line_id = :line_id order by id limit 1")
ASKED = text("""
    select created_at from rlfleet.jobs
     where line_id = :line_id and kind = 'train' and not starts_with(inputs -> 'windows' ->> 0, 'run/')
     order by id limit 1
""")
FIRST_RELEASED = text("""
    select v.name from rlfleet.releases r join rlfleet.versions v on v.id = r.version_id
     where r.line_id = :line_id order by r.id limit 1
""")
DECIDED = text("""
    select v.name from rlfleet.decisions d join rlfleet.versions v on v.id = d.version_id
     where d.line_id = :line_id and d.run_id is not null and d.released order by d.id desc limit 1
""")
