"""The Celery app. Its settings are in ``worker.config`` and are read on first use."""

from celery import Celery

from worker.task import FleetTask

app = Celery("rlfleet", task_cls=FleetTask, config_source="worker.config")
