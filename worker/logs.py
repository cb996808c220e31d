"""How workers and beat log: Celery's handlers, with our formatters (``RLFLEET_LOG``)."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from celery import current_task
from celery.signals import after_setup_logger, after_setup_task_logger, celeryd_init, task_postrun, task_prerun
from celery.utils.log import get_multiprocessing_logger

from rl.logs import about, formatter, only_about
from rl.protocol import JOB_KINDS
from worker.settings import settings

OF_JOBS: Final = frozenset(f"rlfleet.{kind}" for kind in JOB_KINDS)
OF_WINDOWS: Final = "rlfleet.train_window"
NAME: Final = re.compile(r"[\w.:/-]{1,200}", re.ASCII)
"""Whoever reaches the broker can send any text as a window or a line."""

_message: ContextVar[tuple[str, str] | None] = ContextVar("message", default=None)
"""Id and task of the message that this worker's main process is busy with."""


class TaskFields(logging.Filter):
    """Writes on a record which task runs, or which message is handled, whichever logger it came by."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "task_id", None) is None:
            if current_task:
                record.task_id, record.task_name = current_task.request.id, current_task.name
            elif known := _message.get():
                record.task_id, record.task_name = known
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


@contextmanager
def of_message(message_id: str, task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Lines of the block, in the worker's main process, are about a message for ``task``."""
    token = _message.set((message_id, task))
    try:
        with only_about(**subject(task, args, kwargs)):
            yield
    finally:
        _message.reset(token)


def subject(task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, object]:
    """The job, or the window and the line, that a message's arguments name. What cannot be one is left out."""
    names = ("job_id",) if task in OF_JOBS else ("window_id", "line") if task == OF_WINDOWS else ()
    given = dict(zip(names, args, strict=False)) | {name: kwargs[name] for name in names if name in kwargs}
    known = {name.removesuffix("_id"): value for name, value in given.items()}
    return {name: value for name, value in known.items() if type(value) is int or _is_name(value)}


def _is_name(value: object) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


@task_prerun.connect
def begin(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], **_: Any) -> None:
    """Lines are about what the message says until the task has claimed a job."""
    about(**subject(task.name, args, kwargs))


@task_postrun.connect
def forget(**_: Any) -> None:
    """Lines are about no job any more after a task has ended; what it raised is logged before."""
    about()
