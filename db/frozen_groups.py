"""What frozen datasets made of a trajectory: its group, its advantage there, and the version that came of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import calls, drawn_rows
from db.drawn_rows import CONFIG, Drawn
from rl.config import TrainConfig
from rl.errors import InvalidInput
from rl.lessons import Learner, Lesson, lessons, needs_all, needs_tokens
from rl.objective_parts import SoftOverlong
from rl.objectives import Sft, is_on_policy
from rl.records import utc
from rl.sequences import merge

MOST = 20_000
"""Trajectories of a dataset that an advantage is computed from; of larger ones nothing is said."""


@dataclass(frozen=True)
class Frozen:
    """A dataset that holds a trajectory, in ``group`` with ``score``. ``version`` None: nothing came of it yet.

    ``lesson`` None: ``unknown`` says why it cannot be told. ``left_out`` is the trainer's own reason for a row that it
    named. ``unnamed`` counts rows that it left out without naming them: this one or others of the group may be among
    them. ``drawn`` tells what the version's steps took, None where that is not known. ``observation_weight`` is that of
    the mean over the tokens that were read; they are masked at 0.
    """

    dataset: int
    job: int
    job_state: str
    objective: str
    group: str
    score: float
    score_id: int | None
    frozen_at: str
    version: str | None
    lesson: Lesson | None
    unknown: str = ""
    left_out: str = ""
    unnamed: int = 0
    drawn: Drawn | None = None
    is_drawn: bool | None = None
    observation_weight: float = 0.0

    @property
    def learned(self) -> Literal["yes", "no", "not known"]:
        """Whether the version was trained on it."""
        if self.version is None or self.is_left_out or self.is_drawn is False:
            return "no"
        return "not known" if self.unnamed or self.lesson is None or self.is_drawn is None else "yes"

    @property
    def is_left_out(self) -> bool:
        """Whether training chose other rows."""
        return bool(self.left_out) or (self.lesson is not None and not self.lesson.is_trained)


HOLDING = text("""
    select t.trajectory_id, d.id, d.job_id, j.state as job_state, d.manifest, j.config, t."group", t.score, t.score_id,
           d.created_at, v.name as version, v.manifest as made, v.manifest -> 'rows' as used, c.step
      from rlfleet.dataset_trajectories t join rlfleet.datasets d on d.id = t.dataset_id
      join rlfleet.jobs j on j.id = d.job_id left join rlfleet.versions v on v.job_id = d.job_id
      left join rlfleet.checkpoints c on c.id = v.checkpoint_id
     where t.trajectory_id = any(:ids) order by d.id
""")
LEARNERS = text("""
    select t.trajectory_id, t."group", t.score, coalesce(c.spoken, 0)::int as spoken, coalesce(c.cut, false) as cut,
           k.erased_at is not null as is_erased
      from rlfleet.dataset_trajectories t join rlfleet.trajectory_keys k using (trajectory_id)
      left join lateral (
           select sum(octet_length(o.token_ids) / 4) as spoken, bool_or(o.finish_reason = 'length') as cut
             from rlfleet.calls o
            where o.trajectory_id = t.trajectory_id
              and o.at >= date_trunc('week', k.at at time zone 'UTC') at time zone 'UTC'
              and o.at < (date_trunc('week', k.at at time zone 'UTC') + interval '7 days') at time zone 'UTC') c on true
     where t.dataset_id = :id and (:everything or t."group" = any(:groups))
     order by t."group" collate "C", t.trajectory_id collate "C" limit :most
""")


def holding(session: Session, ids: Sequence[str]) -> dict[str, list[Frozen]]:
    """The datasets that hold each of the trajectories, the oldest first; none for one that was never frozen."""
    rows = session.execute(HOLDING, {"ids": list(ids)}).all()
    by_dataset: dict[int, list[Any]] = {}
    for row in rows:
        by_dataset.setdefault(row.id, []).append(row)
    found: dict[str, list[Frozen]] = {one: [] for one in ids}
    for members in by_dataset.values():
        about = _about(session, members[0], {row.group for row in members})
        for row in members:
            found[row.trajectory_id].append(_frozen(row, about))
    return found


class _About(NamedTuple):
    """What is so of a dataset, for all of its trajectories that are looked at."""

    learned: Mapping[str, Lesson]
    unknown: str
    drawn: Drawn | None = None
    observation_weight: float = 0.0


def _about(session: Session, row: Any, groups: Collection[str]) -> _About:
    try:
        config = CONFIG.validate_python(row.manifest.get("config") or row.config)
    except ValidationError:
        return _About({}, "unknown config")
    learned, unknown = _learned(session, row, config, groups)
    drawn = None
    if row.version is not None:
        drawn = drawn_rows.drawn(session, row.id, config, row.made, row.step, None if _unnamed(row) else _named(row))
    return _About(learned, unknown, drawn, config.observation_weight if isinstance(config, Sft) else 0.0)


def _learned(
    session: Session, row: Any, config: TrainConfig, groups: Collection[str]
) -> tuple[Mapping[str, Lesson], str]:
    """What the dataset's trajectories of these groups teach, or why that is not known."""
    everything = needs_all(config)
    values = {"id": row.id, "groups": list(groups), "everything": everything, "most": MOST + 1}
    rows = session.execute(LEARNERS, values).all()
    if len(rows) > MOST:
        return {}, f"an advantage of {config.objective} depends on all of more than {MOST:,} trajectories"
    if needs_tokens(config) and any(one.is_erased for one in rows):
        return {}, "some of its trajectories were erased"
    named = _named(row)
    learners = [
        Learner(one.trajectory_id, one.group, one.score, one.spoken, is_cut=one.cut)
        for one in rows
        if one.trajectory_id not in named
    ]
    if isinstance(getattr(config, "overlong", None), SoftOverlong):
        if everything:
            return {}, "its soft overlong rule needs the tokens of every trajectory of the dataset"
        learners = _measured(session, learners)
    try:
        found = lessons(config, learners)
    except InvalidInput as error:
        return {}, str(error)
    return {one.trajectory_id: lesson for one, lesson in zip(learners, found, strict=True)}, ""


def _measured(session: Session, learners: list[Learner]) -> list[Learner]:
    """With the tokens from the first that was spoken to the last."""
    spoken = calls.of_trajectories(session, [one.trajectory_id for one in learners], texts=False)
    lengths = {
        name: sum(len(one.mask) - one.mask.index(1) for one in merge([call for call in said if call.has_tokens], 0))
        for name, said in spoken.items()
    }
    return [one._replace(length=lengths[one.trajectory_id]) for one in learners]


def _named(row: Any) -> dict[str, str]:
    """Rows that the trainer left out and named, with its reason; those that the objective left out are not among them.

    The advantages of a group are made of the rows that are left.
    """
    own = ("no advantage in its group", "mean score of its group outside filter", "score below min_score")
    used = (row.used or {}).get("named") or {}
    return {
        name: reason
        for reason, names in used.items()
        if reason not in own and not reason.startswith("neither best nor worst")
        for name in names
    }


def _unnamed(row: Any) -> int:
    """How many rows the trainer left out for such reasons without naming them."""
    skipped = (row.used or {}).get("skipped") or {}
    listed = (row.used or {}).get("named") or {}
    left = set(_named(row).values()) | {reason for reason in skipped if reason not in listed}
    return sum(int(skipped.get(reason, 0)) - len(listed.get(reason, ())) for reason in left)


def _frozen(row: Any, about: _About) -> Frozen:
    objective = str((row.manifest.get("config") or row.config).get("objective", "unknown"))
    return Frozen(
        dataset=row.id,
        job=row.job_id,
        job_state=row.job_state,
        objective=objective,
        group=row.group,
        score=row.score,
        score_id=row.score_id,
        frozen_at=utc(row.created_at),
        version=row.version,
        lesson=about.learned.get(row.trajectory_id),
        unknown=about.unknown,
        left_out=_named(row).get(row.trajectory_id, ""),
        unnamed=_unnamed(row),
        drawn=about.drawn,
        is_drawn=_is_drawn(row.trajectory_id, objective, about.drawn),
        observation_weight=about.observation_weight,
    )


def _is_drawn(trajectory_id: str, objective: str, drawn: Drawn | None) -> bool | None:
    """Where nothing is told of the steps: on policy each takes what the ones before it left."""
    if drawn is None:
        return True if is_on_policy(objective) else None
    return drawn.holds(trajectory_id)
