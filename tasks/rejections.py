"""Messages that no task could be made of are counted: by the worker's signals, and written down soon after.

The signals come in the worker's event loop, which must not wait for Postgres once a message: they are added up here,
and written by ``flush`` from the loop's timer. Wrong arguments show in the pool's process, which writes at once.
"""

from __future__ import annotations

import os
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.signals import task_failure, task_rejected, task_unknown
from celery.utils.log import get_logger
from kombu.exceptions import ContentDisallowed, DecodeError

from rl.errors import BadMessage, DatabaseUnavailable

log = get_logger(__name__)

FLUSH_SECONDS = 1.0
MOST = 1000
"""Pairs of reason and subject kept while the database is away; more are added up under one subject."""

_waiting: dict[tuple[str, str], tuple[int, str]] = {}
_flushing: set[int] = set()
"""The process that writes them down at this moment."""


@task_unknown.connect
def on_unknown_task(sender: Any, message: Any = None, name: str = "", **_: Any) -> None:
    """A message asks for a task that this worker does not have."""
    _add(sender, "unknown_task", str(name), _example(message))


@task_rejected.connect
def on_rejected(sender: Any, message: Any = None, exc: BaseException | None = None, **_: Any) -> None:
    """A message cannot be read: its content type is refused, or its body is not what it says it is."""
    kind = str(getattr(message, "content_type", None) or "no message")
    _add(sender, _reason(message, exc), kind, f"{_example(message)} {exc or ''}".strip())


@task_failure.connect
def on_failure(sender: Any = None, exception: BaseException | None = None, **_: Any) -> None:
    """A task was sent arguments that it does not take. Runs in the pool's process."""
    if not isinstance(exception, BadMessage):
        return
    from db import rejections

    try:
        rejections.count("bad_arguments", str(getattr(sender, "name", "")), str(exception))
    except DatabaseUnavailable as error:
        log.warning("a rejected message was not counted: %s", error)


def flush() -> None:
    """Write down what was rejected since the last time.

    In a signal that interrupts it, nothing is done: what it interrupted holds locks, and goes on afterwards.

    Raises:
        DatabaseUnavailable: what is not written stays for the next time.
    """
    if os.getpid() in _flushing:
        return
    _flushing.add(os.getpid())
    try:
        _flush()
    finally:
        _flushing.clear()


def _flush() -> None:
    from db import rejections

    while _waiting:
        key, (number, example) = _waiting.popitem()
        try:
            rejections.count(*key, example, number)
        except DatabaseUnavailable:
            later, _ = _waiting.get(key, (0, ""))
            _waiting[key] = (number + later, example)
            raise


def _add(sender: Any, reason: str, subject: str, example: str) -> None:
    first = not _waiting
    key = (reason, subject[:100])
    if key not in _waiting and len(_waiting) >= MOST:
        key = (reason, "(others)")
    _waiting[key] = (_waiting.get(key, (0, ""))[0] + 1, example[:200])
    timer = getattr(sender, "timer", None)
    if first and timer is not None:
        timer.call_after(FLUSH_SECONDS, _flush_if_possible)


def _flush_if_possible() -> None:
    from db import session

    try:
        flush()
    except DatabaseUnavailable as error:
        log.warning("rejected messages are counted later: %s", error)
    finally:
        session.dispose()  # pool processes are forked from this one, and must not inherit a connection


def _reason(message: Any, error: BaseException | None) -> str:
    if message is None:
        return "not_a_message"
    if isinstance(error, ContentDisallowed):
        return "refused_content_type"
    if isinstance(error, DecodeError):
        return "undecodable"
    return "invalid" if isinstance(error, InvalidTaskError) else "unknown_format"


def _example(message: Any) -> str:
    """The beginning of the message, for whoever looks for its sender."""
    headers = getattr(message, "headers", None)
    origin = f"from {headers['origin']}: " if isinstance(headers, dict) and headers.get("origin") else ""
    body = getattr(message, "body", b"")
    return (origin + (body.decode(errors="replace") if isinstance(body, bytes) else str(body)))[:200]
