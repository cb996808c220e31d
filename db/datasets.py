"""Datasets: frozen once per training job, identified by the hash of their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.tables import Dataset, DatasetTrajectory, DatasetWindow
from db.trajectories import Scored
from rl.config import digest


def freeze(
    session: Session,
    line_id: int,
    job_id: int,
    window_ids: Sequence[int],
    rows: Sequence[Scored],
    about: Mapping[str, Any],
) -> Dataset:
    """The job's dataset: made of ``rows`` the first time, the same one on every later attempt."""
    existing = session.scalar(select(Dataset).where(Dataset.job_id == job_id))
    if existing is not None:
        return existing
    sha = digest([[row.trajectory_id, row.scenario_id, row.score] for row in rows])
    dataset = Dataset(line_id=line_id, job_id=job_id, sha256=sha, manifest=dict(about) | {"trajectories": len(rows)})
    session.add(dataset)
    session.flush()
    session.execute(insert(DatasetWindow), [{"dataset_id": dataset.id, "window_id": one} for one in window_ids])
    if rows:
        session.execute(
            insert(DatasetTrajectory),
            [
                {
                    "dataset_id": dataset.id,
                    "trajectory_id": row.trajectory_id,
                    "group": f"{row.window} {row.scenario_id}",
                    "score": row.score,
                }
                for row in rows
            ],
        )
    return dataset


def rows_of(session: Session, dataset_id: int) -> list[DatasetTrajectory]:
    """The dataset's trajectories in the order they are trained in."""
    query = select(DatasetTrajectory).where(DatasetTrajectory.dataset_id == dataset_id)
    return list(session.scalars(query.order_by(DatasetTrajectory.group, DatasetTrajectory.trajectory_id)))
