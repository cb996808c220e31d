"""What a window, a dataset or a version is made of, back to every trajectory and the row of its score."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import lines, versions, windows
from rl.errors import InvalidInput, MalformedWindow
from rl.records import utc
from rl.windows import parse

Rows = list[dict[str, Any]]

NAMED = 20
"""So many trajectories are named unless more are asked for."""


@dataclass(frozen=True)
class Lineage:
    """Everything behind ``name``, as plain values; moments are ISO 8601 in UTC.

    ``trajectories`` may be cut, ``trajectory_count`` never is. A trajectory has the score it was frozen with in a
    dataset, and its newest one in a window; all else of its score comes from the score row. ``quarantined`` counts
    rows of the windows by reason, and ``quarantined_rows`` has the same by field and reason with one row of each as an
    example: ``count``, ``field``, ``reason``, ``source``, ``row``. ``left_out`` counts by reason those that were read
    and are not among what was learned from.
    """

    name: str
    kind: str
    line: str
    versions: Rows
    datasets: Rows
    windows: Rows
    trajectories: Rows
    trajectory_count: int
    quarantined: dict[str, int]
    left_out: dict[str, int]
    decisions: Rows
    releases: Rows
    quarantined_rows: Rows


def explain(session: Session, name: str, line: str = "main", limit: int | None = NAMED) -> Lineage:
    """What ``name`` is made of: a window of the line, a dataset's number, or a version, also as ``v1.0.3`` of the line.

    ``limit`` bounds the trajectories that are named; None names all.

    Raises:
        UnknownWindow: the line has no such window.
        InvalidInput: there is no such line, dataset or version.
    """
    if name.isascii() and name.isdigit():
        return _dataset(session, name, limit)
    try:
        parse(name)
    except MalformedWindow:
        return _version(session, name, line, limit)
    return _window(session, name, line, limit)


def window_rows(session: Session, line_id: int) -> Rows:
    """The line's windows, oldest first: state, what is in them, and the versions that were trained on them."""
    return _rows(session, WINDOWS.format("w.line_id = :line_id"), line_id=line_id)


def _window(session: Session, name: str, line: str, limit: int | None) -> Lineage:
    row = windows.named(session, lines.named(session, line).id, name)
    datasets = _rows(session, "select dataset_id as id from rlfleet.dataset_windows where window_id = :id", id=row.id)
    found = _rows(session, WINDOWS.format("w.id = :id"), id=row.id)
    missing = found[0]["trajectories"] - found[0]["scored"]
    return _lineage(
        session,
        name=name,
        kind="window",
        line=line,
        dataset_ids=[one["id"] for one in datasets],
        windows=found,
        trajectories=_rows(session, OF_WINDOW + DETAILS, window_id=row.id, limit=limit),
        trajectory_count=found[0]["trajectories"],
        left_out={"not scored": missing} if missing else {},
    )


def _dataset(session: Session, name: str, limit: int | None) -> Lineage:
    number = int(name)
    known = "select l.name as line from rlfleet.datasets d join rlfleet.lines l on l.id = d.line_id where d.id = :id"
    row = _rows(session, known, id=number) if number < 2**63 else []
    if not row:
        newest = _rows(session, "select id from rlfleet.datasets order by id desc limit 3")
        shown = ", ".join(str(one["id"]) for one in newest) or "none yet"
        raise InvalidInput("dataset", name, f"no such dataset; the newest are: {shown}")
    return _of_dataset(session, name, "dataset", row[0]["line"], number, limit)


def _version(session: Session, name: str, line: str, limit: int | None) -> Lineage:
    if name.startswith("v1.0."):
        name = f"{lines.prefix_of(lines.named(session, line))}-{name}"
    version = versions.named(session, name)[0]
    found = _rows(
        session,
        """select l.name as line, d.id from rlfleet.lines l left join rlfleet.datasets d on d.job_id = :job_id
            where l.id = :line_id""",
        job_id=version.job_id,
        line_id=version.line_id,
    )[0]
    if found["id"] is not None:
        return _of_dataset(session, name, "version", found["line"], found["id"], limit)
    made = _rows(session, VERSIONS.format("v.id = :id"), id=version.id)
    return _lineage(session, name=name, kind="version", line=found["line"], dataset_ids=[], made=made)


def _of_dataset(session: Session, name: str, kind: str, line: str, number: int, limit: int | None) -> Lineage:
    of_it = "w.id in (select window_id from rlfleet.dataset_windows where dataset_id = :id)"
    return _lineage(
        session,
        name=name,
        kind=kind,
        line=line,
        dataset_ids=[number],
        windows=_rows(session, WINDOWS.format(of_it), id=number),
        trajectories=_rows(session, OF_DATASET + DETAILS, dataset_id=number, limit=limit),
    )


def _lineage(
    session: Session,
    *,
    name: str,
    kind: str,
    line: str,
    dataset_ids: list[int],
    made: Rows | None = None,
    windows: Rows | None = None,
    trajectories: Rows | None = None,
    trajectory_count: int | None = None,
    left_out: dict[str, int] | None = None,
) -> Lineage:
    """With what the datasets became: versions, decisions about them and their releases."""
    datasets = _rows(session, DATASETS, ids=dataset_ids)
    came = "v.job_id in (select job_id from rlfleet.datasets where id = any(:ids))"
    found = _rows(session, VERSIONS.format(came), ids=dataset_ids) if made is None else made
    ids = [one["id"] for one in found]
    counted = datasets[0]["trajectories"] if datasets else 0
    unusable = _rows(session, QUARANTINED, ids=[one["id"] for one in windows or []])
    return Lineage(
        name=name,
        kind=kind,
        line=line,
        versions=found,
        datasets=datasets,
        windows=windows or [],
        trajectories=trajectories or [],
        trajectory_count=counted if trajectory_count is None else trajectory_count,
        quarantined=_by_reason(unusable),
        left_out=_left_out(datasets, found) if left_out is None else left_out,
        decisions=_rows(session, DECISIONS, ids=ids),
        releases=_rows(session, RELEASES, ids=ids),
        quarantined_rows=unusable,
    )


def _by_reason(unusable: Rows) -> dict[str, int]:
    """The most frequent first."""
    counts: Counter[str] = Counter()
    for one in unusable:
        counts[one["reason"]] += one["count"]
    return dict(counts.most_common())


def _left_out(datasets: Rows, made: Rows) -> dict[str, int]:
    """When the dataset was frozen, and by the training that read it."""
    found: dict[str, int] = {}
    for one in datasets:
        if reasons := one["manifest"].get("skipped"):
            found |= reasons
        elif count := int(one["manifest"].get("left_out") or 0):
            found["not scored, or below min_score"] = count
    for one in made:
        for reason, count in ((one["manifest"].get("rows") or {}).get("skipped") or {}).items():
            found[reason] = found.get(reason, 0) + int(count)
    return found


def _rows(session: Session, statement: str, **values: Any) -> Rows:
    found = session.execute(text(statement), values).mappings()
    return [{key: utc(one) if isinstance(one, datetime) else one for key, one in row.items()} for row in found]


WINDOWS = """
    with asked as (
        select distinct on (j.line_id, n.name) j.line_id, n.name, j.id, j.state
          from rlfleet.jobs j, jsonb_array_elements_text(
                   coalesce(j.inputs -> 'windows', jsonb_build_array(j.inputs -> 'window'))) n(name)
         order by j.line_id, n.name, j.id desc
    )
    select w.id, w.name, w.state, nullif(concat_ws('; ', w.reason, 'removed by retention on '
               || to_char(w.removed_at at time zone 'UTC', 'YYYY-MM-DD'),
               'job ' || a.id || ' ' || a.state || ': rlfleet jobs show ' || a.id), '') as reason,
           w.removed_at, w.again, count(t.trajectory_id) as trajectories,
           count(distinct t.scenario_id) as groups, count(t.trajectory_id) filter (where exists (
               select 1 from rlfleet.scores s where s.trajectory_id = t.trajectory_id)) as scored,
           (select count(*) from rlfleet.quarantine q where q.window_id = w.id) as quarantined,
           array(select v.name from rlfleet.dataset_windows o join rlfleet.datasets d on d.id = o.dataset_id
                   join rlfleet.versions v on v.job_id = d.job_id
                  where o.window_id = w.id order by v.id) as versions
      from rlfleet.windows w left join rlfleet.trajectories t on t.window_id = w.id and t.at = w.starts_at
      left join asked a on a.line_id = w.line_id and a.name = w.name and a.state in ('failed', 'dead')
                       and w.state in ('closed', 'collected', 'scored')
     where {} group by w.id, a.id, a.state order by w.starts_at, w.id
"""
VERSIONS = """
    select v.id, v.name, v.state, v.reason, p.name as parent, v.base_model, v.manifest, v.created_at, v.erased_at,
           v.job_id, v.fence, j.state as job_state, j.attempt, j.config, j.adjust, c.uri, c.sha256, c.kind, c.step,
           d.id as dataset
      from rlfleet.versions v join rlfleet.jobs j on j.id = v.job_id
      join rlfleet.checkpoints c on c.id = v.checkpoint_id left join rlfleet.versions p on p.id = v.parent_id
      left join rlfleet.datasets d on d.job_id = v.job_id
     where {} order by v.id
"""
DATASETS = """
    select d.id, d.sha256, d.job_id, j.state as job_state, d.manifest, d.created_at, d.erased_at,
           (select count(*) from rlfleet.dataset_trajectories t where t.dataset_id = d.id) as trajectories,
           (select count(distinct t."group") from rlfleet.dataset_trajectories t where t.dataset_id = d.id) as groups
      from rlfleet.datasets d join rlfleet.jobs j on j.id = d.job_id where d.id = any(:ids) order by d.id
"""
QUARANTINED = """
    select q.count, q.field, q.reason, example.source, example.row
      from (select field, reason, count(*) as count, min(id) as first from rlfleet.quarantine
             where window_id = any(:ids) group by field, reason) q
      join rlfleet.quarantine example on example.id = q.first
     order by q.count desc, q.field collate "C", q.reason collate "C"
"""
DECISIONS = """
    select d.id, v.name as version, b.name as stable, d.policy, d.released, d.reason, d.evidence, d.created_at,
           d.actor, d.approval, d.approved_by, d.approved_at
      from rlfleet.decisions d join rlfleet.versions v on v.id = d.version_id
      left join rlfleet.versions b on b.id = d.stable_id
     where d.version_id = any(:ids) or (d.stable_id = any(:ids) and d.policy = 'rollback') order by d.id
"""
RELEASES = """
    select r.id, v.name as version, r.stage, r.share, r.place, r.reason, r.decision_id, r.created_at, r.ended_at,
           r.ended_reason
      from rlfleet.releases r join rlfleet.versions v on v.id = r.version_id
     where r.version_id = any(:ids) order by r.id
"""
OF_DATASET = """
    with page as (
        select trajectory_id, "group", score, score_id from rlfleet.dataset_trajectories where dataset_id = :dataset_id
         order by "group" collate "C", trajectory_id collate "C" limit :limit
    )
"""
OF_WINDOW = """
    with page as (
        select t.trajectory_id, w.name || ' ' || t.scenario_id as "group", s.score, s.id as score_id
          from rlfleet.windows w join rlfleet.trajectories t on t.window_id = w.id and t.at = w.starts_at
          left join lateral (select o.id, o.score from rlfleet.scores o where o.trajectory_id = t.trajectory_id
                              order by o.id desc limit 1) s on true
         where w.id = :window_id order by t.scenario_id collate "C", t.trajectory_id collate "C" limit :limit
    )
"""
DETAILS = """
    select p.trajectory_id, p."group", t.agent_id, t.source, t.reward, k.erased_at,
           k.erased_at is not distinct from w.removed_at and k.erased_at is not null as by_retention,
           p.score, p.score_id, s.method, s.method_version, s.rubric_hash, s.judge, s.cost, s.compared_in,
           s.explanation, s.created_at as scored_at,
           array(select distinct c.model from rlfleet.calls c
                  where c.trajectory_id = p.trajectory_id
                    and c.at >= date_trunc('week', k.at at time zone 'UTC') at time zone 'UTC'
                    and c.at < (date_trunc('week', k.at at time zone 'UTC') + interval '7 days') at time zone 'UTC'
                  order by c.model) as models
      from page p join rlfleet.trajectory_keys k on k.trajectory_id = p.trajectory_id
      join rlfleet.windows w on w.id = k.window_id
      left join rlfleet.trajectories t on t.trajectory_id = p.trajectory_id and t.at = k.at
      left join rlfleet.scores s on s.id = p.score_id
     order by p."group" collate "C", p.trajectory_id collate "C"
"""
