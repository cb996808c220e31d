"""One thin file per stage. Importing this loads Celery and nothing heavier: any service can enqueue.

from tasks import train_window
train_window.delay("2025-01-15T10:00")
"""

from tasks import presence, rejections  # noqa: F401 - they connect to the worker's signals
from tasks.again import look_again
from tasks.alert import alert
from tasks.collect import collect
from tasks.decide import decide
from tasks.evaluate import evaluate
from tasks.maintain import plan, reconcile, tend
from tasks.mirror import mirror
from tasks.prune import prune
from tasks.score import score
from tasks.train import train, train_window
from tasks.watch import watch_releases

__all__ = [
    "alert",
    "collect",
    "decide",
    "evaluate",
    "look_again",
    "mirror",
    "plan",
    "prune",
    "reconcile",
    "score",
    "tend",
    "train",
    "train_window",
    "watch_releases",
]
