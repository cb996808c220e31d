"""The Celery app. Its settings are in ``worker.config`` and are read on first use."""

from celery import Celery

from worker import logs  # noqa: F401 - it connects to the signals of Celery's loggers
from worker.task import FleetTask

app = Celery("rlfleet", task_cls=FleetTask, config_source="worker.config", events="worker.events:Events")
