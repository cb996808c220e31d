"""The tables, all in the schema ``rlfleet`` so that they can live beside a user's own."""

from db.tables.base import SCHEMA, Base
from db.tables.fleet import Alert, Delivery, Engine, Pause, Rejection, Resume, ScheduleSlot, Worker
from db.tables.jobs import Job, JobEvent
from db.tables.lines import Line, Run, Window
from db.tables.trajectories import (
    Call,
    CallKey,
    Feedback,
    Judgement,
    Outcome,
    Quarantine,
    Recording,
    Score,
    Trajectory,
    TrajectoryKey,
    Turn,
)
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
    "Alert",
    "Base",
    "Call",
    "CallKey",
    "Checkpoint",
    "Dataset",
    "DatasetTrajectory",
    "DatasetWindow",
    "Decision",
    "Delivery",
    "Engine",
    "Evaluation",
    "Feedback",
    "Job",
    "JobEvent",
    "Judgement",
    "Line",
    "Outcome",
    "Pause",
    "Quarantine",
    "Recording",
    "Rejection",
    "Release",
    "Resume",
    "Run",
    "ScheduleSlot",
    "Score",
    "Trajectory",
    "TrajectoryKey",
    "Turn",
    "Verdict",
    "Version",
    "Window",
    "Worker",
]
