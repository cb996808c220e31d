"""The fleet's own app with late acknowledgement forced on, and a visibility timeout shorter than its tasks."""

from __future__ import annotations

from worker.app import app

VISIBILITY_SECONDS = 5

app.conf.task_acks_late = True
app.conf.broker_transport_options = app.conf.broker_transport_options | {
    "visibility_timeout": VISIBILITY_SECONDS,
    "unacked_restore_interval": 1,
}
