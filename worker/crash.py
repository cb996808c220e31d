"""Places where a test can have this process killed, to prove that nothing is lost or doubled there.

``RLFLEET_CRASH_AT=after-claim`` (any task) or ``train:after-claim`` kills the process with SIGKILL the first time it
passes the point, once for each ``RLFLEET_STATE`` folder. The settings refuse the variable outside ``RLFLEET_ENV=test``.
"""

from __future__ import annotations

import os
import signal
from typing import Final

from worker.settings import settings

POINTS: Final = {
    "before-claim": "the message is here, and the job is not held yet",
    "after-claim": "the job is held, and no work is done",
    "before-heartbeat": "the lease is about to be renewed",
    "after-heartbeat": "the lease was renewed",
    "before-finish": "the work is done and its artifacts are on disk; nothing is committed",
    "before-commit": "the effect is written in the open transaction",
    "after-commit": "the effect is committed, and nobody was told",
    "before-ack": "the next jobs were rung, and the message is not answered",
    "before-send": "jobs are marked as rung, and no message is sent",
    "after-send": "the messages are sent",
    "after-slot": "the tick is taken, and nothing of it is done",
    "after-batch": "a batch of episodes is committed, and the others are played",
    "after-announce": "the device's engine is written down, and nothing is rung",
    "before-sent": "the receiver has the alert, and it is not marked as sent",
    "after-put": "a sink has the run, or the Hub the version, and that is not written down",
    "before-folders": "old rows are removed, and no folder",
    "after-intent": "it is stored that a service is about to be asked for a training, and it is not asked yet",
    "after-submit": "the service has the training, and its id is not stored",
    "after-id": "the id is stored, and nobody asks how the training goes",
    "polling": "some of the training's events are stored",
}
"""Where a task can be killed, in the order of its life, and what holds there; last, those of single tasks."""


def crash_point(point: str, task: str = "") -> None:
    """Kill this process here, if the settings ask for it and it was not done before."""
    wanted = settings().crash_at
    if wanted is None or wanted not in (point, f"{task}:{point}"):
        return
    marker = settings().state / "crash" / wanted
    marker.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
