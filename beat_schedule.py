"""What runs when. Data only: name, period, task, expiry, and the reason for each line.

Each entry rings the same level-triggered planner or reconciler; a tick is taken once however many beats run,
and a missed tick is not made up, because the next one sees everything that is missing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from celery.schedules import crontab

ENTRIES: dict[str, dict[str, Any]] = {
    # Closes the hours that are over and asks for their collection; a minute late is soon enough for an hour.
    "collect": {"task": "rlfleet.plan", "schedule": crontab(), "args": ("collect", 60), "options": {"expires": 55}},
    # Looks for rows that came after their hour was read; counting those of a source may take minutes.
    "late": {
        "task": "rlfleet.look_again",
        "schedule": crontab(minute="20"),
        "args": (3600,),
        "options": {"expires": 3000},
    },
    # Asks for scores of what was collected since, mostly asked for already by the task that collected; and for new ones
    # of what feedback or outcomes were given since.
    "score": {"task": "rlfleet.plan", "schedule": crontab(), "args": ("score", 60), "options": {"expires": 55}},
    # Trains hours on all that is scored and not yet trained, once a day, when traffic is low in most places.
    "train": {
        "task": "rlfleet.plan",
        "schedule": crontab(hour="3", minute="10"),
        "args": ("train", 86_400),
        "options": {"expires": 3600},
    },
    # Asks for evaluations and decisions that are missing, after a child or an engine was away.
    "evaluate": {"task": "rlfleet.plan", "schedule": crontab(), "args": ("evaluate", 60), "options": {"expires": 55}},
    # Looks at the traffic of live canaries: a worse one has its share for as long as nobody looks.
    "release": {"task": "rlfleet.watch_releases", "schedule": crontab(), "args": (60,), "options": {"expires": 55}},
    # Takes back jobs whose holder is gone and rings what nobody answered; recovery is lease + this period.
    "reconcile": {
        "task": "rlfleet.reconcile",
        "schedule": timedelta(seconds=10),
        "options": {"expires": 10},
    },
    # Posts alerts to the webhook, and tries again those that it did not take.
    "alert": {
        "task": "rlfleet.alert",
        "schedule": timedelta(seconds=30),
        "args": (30,),
        "options": {"expires": 30},
    },
    # Copies what other places lack: runs to sinks, checkpoints to a store, versions to the Hub. A minute late is soon
    # enough for a curve.
    "mirror": {"task": "rlfleet.mirror", "schedule": crontab(), "args": (60,), "options": {"expires": 55}},
    # Removes old rows and folders that no row points to, when least else is done; a day late does no harm.
    "prune": {
        "task": "rlfleet.prune",
        "schedule": crontab(hour="4", minute="40"),
        "args": (86_400,),
        "options": {"expires": 3600},
    },
}
