"""How workers and beat log: Celery's handlers, with our formatters (``RLFLEET_LOG``)."""

from __future__ import annotations

import logging
from typing import Any

from celery import current_task
from celery.signals import after_setup_logger, after_setup_task_logger, celeryd_init, task_postrun, task_prerun
from celery.utils.log import get_multiprocessing_logger

from rl.logs import about, formatter
from worker.settings import settings


class TaskFields(logging.Filter):
    """Writes on a record which task runs, whichever logger it came by."""

    def filter(self, record: logging.LogRecord) -> bool:
        if current_task and getattr(record, "task_id", None) is None:
            record.task_id, record.task_name = current_task.request.id, current_task.name
        return True


@celeryd_init.connect
def speak_json(instance: Any, **_: Any) -> None:
    """What Celery prints is left out (its banner), or logged: its warnings at the start, its words when it stops."""
    from celery.apps import worker as program

    if settings().log == "json":
        instance.quiet = True
        program.safe_say = _say
        handler = logging.StreamHandler()
        handler.setFormatter(formatter("json"))
        logging.basicConfig(handlers=[handler])  # until Celery replaces it with its own
        logging.captureWarnings(True)


def _say(words: str, *_: Any) -> None:
    logging.getLogger("celery.worker").warning(words)


@after_setup_logger.connect
def shape_pool(**_: Any) -> None:
    """The pool has a logger that passes nothing on; Celery announces only the root's."""
    shape(get_multiprocessing_logger())


@after_setup_logger.connect
@after_setup_task_logger.connect
def shape(logger: logging.Logger, **_: Any) -> None:
    """Replace the formatters that Celery gave the logger's handlers."""
    for handler in logger.handlers:
        handler.setFormatter(formatter(settings().log, handler.formatter))
        handler.addFilter(TaskFields())


@task_prerun.connect
@task_postrun.connect
def forget(**_: Any) -> None:
    """Lines are about no job before a task has claimed one, and after it has ended; what it raised is logged before."""
    about()
