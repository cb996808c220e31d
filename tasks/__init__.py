"""One thin file per stage. Importing this loads Celery and nothing heavier: any service can enqueue.

from tasks import train_window
train_window.delay("2025-01-15T10:00")
"""

from tasks.collect import collect
from tasks.decide import decide
from tasks.evaluate import evaluate
from tasks.maintain import plan, reconcile, tend
from tasks.score import score
from tasks.train import train, train_window

__all__ = ["collect", "decide", "evaluate", "plan", "reconcile", "score", "tend", "train", "train_window"]
