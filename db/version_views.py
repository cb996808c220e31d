"""Versions as people look at them: where each comes from, where it is released, and its held-out verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import checkpoints, evaluation_counts, lines, versions
from db.evaluation_counts import Known
from db.tables import Version
from rl.report import Count

A_PAGE = 25


@dataclass(frozen=True)
class Judged:
    """What a checkpoint did on one task set. ``count`` None: no verdict is known. ``missing`` were asked for.

    Only results with the same ``key``, which is the digest of the task set, the judge and the prompt, compare.
    """

    task_set: str
    split: str
    count: Count | None
    types: dict[str, Count]
    missing: int
    key: tuple[str, str, str] = ("", "", "")


@dataclass(frozen=True)
class Listed:
    """A version in a list. ``judged`` is its newest held-out result, or another's where it has none.

    ``stage`` and ``share`` are those of its live release; ``waits``: a decision on it waits for a person.
    """

    name: str
    state: str
    reason: str | None
    parent: str | None
    created_at: Any
    erased_at: Any
    dataset: int | None
    windows: list[str]
    stage: str | None
    share: int | None
    waits: bool
    judged: Judged | None


@dataclass(frozen=True)
class Weighed:
    """A checkpoint of a version, or the stable version it is held against, with its results by task set."""

    label: str
    step: int
    sha256: str
    uri: str
    kind: str
    metrics: dict[str, Any]
    removed_at: Any
    is_own: bool
    judged: list[Judged]


def listing(session: Session, line: str, page: int = 1) -> tuple[list[Listed], int]:
    """A page of the line's versions, the newest first, and how many there are.

    Raises:
        InvalidInput: there is no such line.
    """
    line_id = lines.named(session, line).id
    count = int(session.execute(text(COUNT), {"line_id": line_id}).scalar_one())
    values = {"line_id": line_id, "limit": A_PAGE, "offset": (page - 1) * A_PAGE}
    rows = [dict(row) for row in session.execute(VERSIONS, values).mappings()]
    judged = _judged_of(session, [row["sha256"] for row in rows])
    return [_listed(row, judged.get(row.pop("sha256"), ())) for row in rows], count


def names(session: Session, line: str, most: int = 200) -> list[tuple[str, str]]:
    """The line's newest versions that can be released, each with its state.

    Raises:
        InvalidInput: there is no such line.
    """
    values = {"line_id": lines.named(session, line).id, "most": most}
    return [(row.name, row.state) for row in session.execute(RELEASABLE, values)]


def weighed(session: Session, name: str) -> tuple[list[Weighed], Weighed | None]:
    """The version's checkpoints by step, and the line's stable version, if that is another one.

    Raises:
        InvalidInput: there is no such version.
    """
    version, _ = versions.named(session, name)
    stable = versions.stable_name(session, version.line_id)
    rival = None if stable in (None, name) else versions.named(session, str(stable))
    own = checkpoints.of_version(session, version)
    judged = _judged_of(session, [one.sha256 for one in own] + ([rival[1].sha256] if rival else []))
    mine = [_weighed(name, one, version, judged) for one in own]
    return mine, _weighed(rival[0].name, rival[1], rival[0], judged) if rival else None


def words_of(task_set: Mapping[str, Any]) -> str:
    """A task set in words."""
    if environment := task_set.get("environment"):
        samples = f", {task_set['samples']} samples each" if task_set.get("samples", 1) > 1 else ""
        seeds = f"{task_set.get('count')} scenarios from seed {task_set.get('first_seed', 0)}"
        return f"{environment} {task_set.get('split')}: {seeds}{samples}"
    against = f", against {task_set['against']}" if task_set.get("against") else ""
    said = f"logs {task_set.get('since', '')} to {task_set.get('until', '')}, {task_set.get('split', 'held out')}"
    return said + against


def _judged_of(session: Session, hashes: Sequence[str]) -> dict[str, list[Judged]]:
    """By the checkpoints' hash what was said last of each set: held-out results first, then the newest."""
    known = evaluation_counts.of_checkpoints(session, hashes)
    return {sha: [_judged(one) for one in sorted(of_it, key=_order) if one.is_newest] for sha, of_it in known.items()}


def _order(known: Known) -> tuple[bool, int]:
    return known.task_set.get("split") == "validation", -known.result.newest


def _judged(known: Known) -> Judged:
    result, task_set = known.result, known.task_set
    types = {name: Count.of(k, n) for name, (k, n) in result.types.items() if n}
    count = Count.of(result.k, result.n) if result.n else None
    key = (known.task_set_hash, result.judge, result.prompt_hash)
    return Judged(words_of(task_set), str(task_set.get("split", "held_out")), count, types, result.missing, key)


def _listed(row: dict[str, Any], judged: Sequence[Judged]) -> Listed:
    return Listed(**row, judged=judged[0] if judged else None)


def _weighed(name: str, one: Any, version: Version, judged: Mapping[str, list[Judged]]) -> Weighed:
    return Weighed(
        label=name,
        step=one.step,
        sha256=one.sha256,
        uri=one.uri,
        kind=one.kind,
        metrics=dict(one.metrics),
        removed_at=one.removed_at,
        is_own=one.id == version.checkpoint_id,
        judged=judged.get(one.sha256, []),
    )


COUNT = "select count(*) from rlfleet.versions where line_id = :line_id"
VERSIONS = text("""
    select v.name, v.state, v.reason, p.name as parent, v.created_at, v.erased_at, c.sha256, d.id as dataset,
           array(select w.name from rlfleet.dataset_windows o join rlfleet.windows w on w.id = o.window_id
                  where o.dataset_id = d.id order by w.starts_at, w.id) as windows,
           r.stage, r.share, exists (select 1 from rlfleet.decisions n where n.version_id = v.id
                                        and n.approval = 'waiting' and v.state <> 'rejected') as waits
      from rlfleet.versions v join rlfleet.checkpoints c on c.id = v.checkpoint_id
      left join rlfleet.versions p on p.id = v.parent_id left join rlfleet.datasets d on d.job_id = v.job_id
      left join rlfleet.releases r on r.version_id = v.id and r.ended_at is null
     where v.line_id = :line_id order by v.number desc limit :limit offset :offset
""")
RELEASABLE = text("""
    select name, state from rlfleet.versions where line_id = :line_id and state <> 'rejected'
     order by number desc limit :most
""")
