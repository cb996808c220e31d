"""The tables, all in the schema ``rlfleet`` so that they can live beside a user's own."""

from db.tables.base import SCHEMA, Base
from db.tables.jobs import Engine, Job, JobEvent, ScheduleSlot
from db.tables.lines import Line, Run, Window
from db.tables.trajectories import Call, Quarantine, Score, Trajectory, Turn
from db.tables.versions import (
    Checkpoint,
    Dataset,
    DatasetTrajectory,
    DatasetWindow,
    Decision,
    Evaluation,
    Release,
    Verdict,
    Version,
)

__all__ = [
    "SCHEMA",
    "Base",
    "Call",
    "Checkpoint",
    "Dataset",
    "DatasetTrajectory",
    "DatasetWindow",
    "Decision",
    "Engine",
    "Evaluation",
    "Job",
    "JobEvent",
    "Line",
    "Quarantine",
    "Release",
    "Run",
    "ScheduleSlot",
    "Score",
    "Trajectory",
    "Turn",
    "Verdict",
    "Version",
    "Window",
]
