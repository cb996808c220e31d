"""What a window, a dataset or a version is made of, back to every trajectory and the row of its score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import drawn_rows, lines, versions, window_pages, windows
from rl.errors import InvalidInput, MalformedWindow
from rl.records import utc
from rl.windows import parse

Rows = list[dict[str, Any]]

NAMED, MOST = 20, 100
"""So many trajectories are named unless more are asked for; and so many windows, datasets and kinds of quarantined
rows unless all are."""
NOT_DRAWN = "chosen, and drawn by no step"
"""Why a row that could be trained on was not: the steps of its training had no room for it."""


@dataclass(frozen=True)
class Lineage:
    """Everything behind ``name``, as plain values; moments are ISO 8601 in UTC.

    ``trajectories`` may be cut, ``trajectory_count`` never is. A trajectory has the score it was frozen with in a
    dataset, and its newest one in a window; all else of its score comes from the score row. ``quarantined_rows`` has
    the rows of the windows that could not be used by field and reason, the most frequent kinds first, with one row of
    each as an example: ``count``, ``field``, ``reason``, ``source``, ``row``; ``quarantined`` counts the same by
    reason. ``left_out`` counts by reason those that were read and are not among what was learned from. ``counts`` says
    how many there are of what may be cut: ``windows``, ``datasets`` (the newest are kept), ``quarantined`` rows, and
    their ``quarantined_kinds``.
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
    counts: dict[str, int]


def explain(session: Session, name: str, line: str = "main", limit: int | None = NAMED) -> Lineage:
    """What ``name`` is made of: a window of the line, a dataset's number, or a version, also as ``v1.0.3`` of the line.

    ``limit`` bounds the trajectories that are named, and ``MOST`` all else; without a limit nothing is cut.

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


def _window(session: Session, name: str, line: str, limit: int | None) -> Lineage:
    row = windows.named(session, lines.named(session, line).id, name)
    of_it = "select dataset_id from rlfleet.dataset_windows where window_id = :id order by dataset_id"
    found = _lineage(
        session,
        name=name,
        kind="window",
        line=line,
        dataset_ids=session.scalars(text(of_it), {"id": row.id}).all(),
        window_ids=[row.id],
        most=None if limit is None else MOST,
        trajectories=_rows(session, OF_WINDOW + DETAILS, window_id=row.id, limit=limit),
    )
    count = found.windows[0]["trajectories"]
    missing = count - found.windows[0]["scored"]
    return replace(found, trajectory_count=count, left_out={"not scored": missing} if missing else {})


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
    of_it = """select w.id from rlfleet.dataset_windows d join rlfleet.windows w on w.id = d.window_id
                where d.dataset_id = :id order by w.starts_at, w.id"""
    return _lineage(
        session,
        name=name,
        kind=kind,
        line=line,
        dataset_ids=[number],
        window_ids=session.scalars(text(of_it), {"id": number}).all(),
        most=None if limit is None else MOST,
        trajectories=_rows(session, OF_DATASET + DETAILS, dataset_id=number, limit=limit),
    )


def _lineage(
    session: Session,
    *,
    name: str,
    kind: str,
    line: str,
    dataset_ids: Sequence[int],
    window_ids: Sequence[int] = (),
    most: int | None = MOST,
    made: Rows | None = None,
    trajectories: Rows | None = None,
) -> Lineage:
    """With what the datasets became: versions, decisions about them and their releases."""
    shown = list(dataset_ids if most is None else dataset_ids[-most:])
    datasets = _rows(session, DATASETS, ids=shown)
    came = "v.job_id in (select job_id from rlfleet.datasets where id = any(:ids))"
    found = _rows(session, VERSIONS.format(came), ids=shown) if made is None else made
    ids = [one["id"] for one in found]
    unusable, rows, kinds = _quarantined(session, window_ids, most)
    return Lineage(
        name=name,
        kind=kind,
        line=line,
        versions=found,
        datasets=datasets,
        windows=window_pages.rows(session, window_ids[:most]),
        trajectories=trajectories or [],
        trajectory_count=datasets[0]["trajectories"] if datasets else 0,
        quarantined=_by_reason(unusable),
        left_out=_left_out(session, datasets, found),
        decisions=_rows(session, DECISIONS, ids=ids),
        releases=_rows(session, RELEASES, ids=ids),
        quarantined_rows=unusable,
        counts={
            "windows": len(window_ids),
            "datasets": len(dataset_ids),
            "quarantined": rows,
            "quarantined_kinds": kinds,
        },
    )


def _quarantined(session: Session, window_ids: Sequence[int], most: int | None) -> tuple[Rows, int, int]:
    """The most frequent kinds, and how many rows and kinds there are."""
    found = _rows(session, QUARANTINED, ids=list(window_ids), most=most)
    rows, kinds = (int(found[0][name]) for name in ("rows", "kinds")) if found else (0, 0)
    names = ("count", "field", "reason", "source", "row")
    return [{name: one[name] for name in names} for one in found], rows, kinds


def _by_reason(unusable: Rows) -> dict[str, int]:
    """The most frequent first."""
    counts: Counter[str] = Counter()
    for one in unusable:
        counts[one["reason"]] += one["count"]
    return dict(counts.most_common())


def _left_out(session: Session, datasets: Rows, made: Rows) -> dict[str, int]:
    """When the dataset was frozen, and by the training that read it."""
    found: dict[str, int] = {}
    for one in datasets:
        if reasons := one["manifest"].get("skipped"):
            found |= reasons
        elif count := int(one["manifest"].get("left_out") or 0):
            found["not scored, or below min_score"] = count
    for one in made:
        manifest = one["manifest"]
        for reason, count in ((manifest.get("rows") or {}).get("skipped") or {}).items():
            found[reason] = found.get(reason, 0) + int(count)
        config = manifest.get("config") or one["config"]
        if never := drawn_rows.never_drawn(session, one["dataset"], config, manifest, one["step"]):
            found[NOT_DRAWN] = found.get(NOT_DRAWN, 0) + never
    return found


def _rows(session: Session, statement: str, **values: Any) -> Rows:
    found = session.execute(text(statement), values).mappings()
    return [{key: utc(one) if isinstance(one, datetime) else one for key, one in row.items()} for row in found]


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
    select q.count, q.field, q.reason, q.rows, q.kinds, example.source, example.row
      from (select field, reason, count(*) as count, min(id) as first, count(*) over () as kinds,
                   sum(count(*)) over () as rows
              from rlfleet.quarantine where window_id = any(:ids) group by field, reason
             order by 3 desc, field collate "C", reason collate "C" limit :most) q
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
