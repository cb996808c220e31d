"""Datasets: frozen once per training job, identified by the hash of their rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.tables import Dataset, DatasetTrajectory, DatasetWindow
from db.trajectories import Scored
from rl.config import digest
from rl.errors import InvalidInput


def freeze(
    session: Session,
    line_id: int,
    job_id: int,
    window_ids: Sequence[int],
    rows: Sequence[Scored],
    about: Mapping[str, Any],
    groups: Mapping[str, str] | None = None,
) -> Dataset:
    """The job's dataset: made of ``rows`` the first time, the same one on every later attempt.

    ``groups`` has the group of a trajectory that is not in the one of its scenario: ``<window> <name>``.
    """
    existing = session.scalar(select(Dataset).where(Dataset.job_id == job_id))
    if existing is not None:
        return existing
    named = {row.trajectory_id: f"{row.window} {row.comparison}" for row in rows} | dict(groups or {})
    sha = _sha256((*_window_and_scenario(named[row.trajectory_id]), row.trajectory_id, row.score) for row in rows)
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
                    "group": named[row.trajectory_id],
                    "score": row.score,
                    "score_id": row.score_id,
                }
                for row in rows
            ],
        )
    return dataset


def rows_of(session: Session, dataset_id: int) -> list[DatasetTrajectory]:
    """The dataset's trajectories in the order they are trained in: by code points, whatever the server's collation."""
    rows = session.scalars(select(DatasetTrajectory).where(DatasetTrajectory.dataset_id == dataset_id))
    return sorted(rows, key=lambda row: (row.group, row.trajectory_id))


def of_job(session: Session, job_id: int) -> Dataset | None:
    """The dataset that was frozen for the job, if there is one."""
    return session.scalar(select(Dataset).where(Dataset.job_id == job_id))


def check(dataset: Dataset, rows: Sequence[DatasetTrajectory]) -> None:
    """Make sure that ``rows`` are those the dataset was frozen with.

    Raises:
        InvalidInput: some are gone, or a score or a group was changed since.
    """
    frozen = int(dataset.manifest["trajectories"])
    if len(rows) != frozen:
        raise InvalidInput("dataset", dataset.id, f"{len(rows)} of its {frozen} rows are left; restore a backup")
    found = _sha256((*_window_and_scenario(row.group), row.trajectory_id, row.score) for row in rows)
    if found != dataset.sha256:
        remedy = f"its rows were changed since: their SHA-256 is {found}, it was {dataset.sha256}; restore a backup"
        raise InvalidInput("dataset", dataset.id, remedy)


def _window_and_scenario(group: str) -> tuple[str, str]:
    window, _, scenario = group.partition(" ")
    return window, scenario


def _sha256(rows: Iterable[tuple[str, str, str, float | None]]) -> str:
    """Of (window, scenario, trajectory, score), by code points: equal rows have one hash on every server."""
    return digest([[trajectory, scenario, score] for _, scenario, trajectory, score in sorted(rows)])
