"""Signals of our own, beside Celery's."""

from __future__ import annotations

from celery.utils.dispatch import Signal

going_down = Signal(name="going_down", providing_args={"hostname"})
"""The worker ``hostname`` was told to stop; sent in its main process before it waits for its tasks.

Celery's ``worker_shutting_down`` is sent after that wait when SIGTERM is mapped to SIGQUIT, which is the whole of
``worker_soft_shutdown_timeout`` too late for whatever a task has to save.
"""
