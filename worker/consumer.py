"""The worker's consumer: what cannot be read is rejected and announced, and a stop is announced when it begins.

What breaks without it: Celery announces unknown tasks by a signal, but says of an undecodable message only in its log;
a body of another shape, or an entry of the list in Redis that is no message at all, ends the whole worker; and a task
hears that its worker stops only when no time is left to save anything.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.signals import task_rejected
from celery.utils.log import get_logger
from celery.worker import consumer, loops

from worker import alive, drain
from worker.logs import of_message
from worker.signals import going_down
from worker.stopping import between_events

log = get_logger(__name__)

RECONNECT_SECONDS = 4
"""The longest pause between two attempts to reach a broker that is away."""

UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)
"""What the transport raises for an entry of a queue that is not a message."""


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Sends ``task_rejected`` for every message that it cannot read, without a ``message`` if there is none at all.

    Sends ``going_down`` and begins the drain as soon as its worker is told to stop; its tasks having ended, it stops.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_idle = False
        if self.controller is not None:
            self.controller.wait_for_soft_shutdown = self._begin_to_stop

    def _begin_to_stop(self) -> None:
        """What the handler of SIGTERM calls first, in place of a sleep of the whole soft shutdown.

        No timer of the event loop runs meanwhile, and what a pool process says is not read.
        """
        drain.begin()
        going_down.send(sender=self, hostname=self.hostname)
        seconds = self.app.conf.worker_soft_shutdown_timeout
        self._is_idle = drain.wait_until_idle(seconds)
        if not self._is_idle:
            log.warning("a task did not end within the %s s of the soft shutdown, and is told to hand back", seconds)

    def cancel_active_requests(self) -> None:
        """End the tasks that did not end by themselves.

        What Celery counts as active when all have ended is a result on its way: its process, ended in the middle of
        writing it, would leave half a message, and the main process would wait for the other half for ever.
        """
        if not self._is_idle:
            super().cancel_active_requests()

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, and ask again every few seconds for as long as it takes: Celery would soon ask twice a minute."""
        ask = conn.ensure_connection

        def ask_patiently(*args: Any, callback: Callable[[], None], **options: Any) -> Any:
            def meanwhile() -> None:
                alive.say()
                callback()

            return ask(*args, callback=meanwhile, interval_max=RECONNECT_SECONDS, **options)

        conn.ensure_connection = ask_patiently
        alive.say()
        return super().ensure_connected(conn)

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        """Reject the message: it is gone, and only counted."""
        if not message.acknowledged:
            super().on_decode_error(message, exc)
        task_rejected.send(sender=self, message=message, exc=exc)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """What takes each message from the transport."""
        handle = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Any) -> None:
            try:
                _check_body(message)
                with _about(message):
                    handle(message)
            except Exception as error:
                if self._is_of_the_broker(error):
                    raise
                self.on_decode_error(message, error)

        return on_task_received

    def loop(self, *args: Any) -> None:
        """Celery's event loop; an entry that is no message costs a reconnection, not the worker."""
        try:
            if self.hub:
                with between_events(self.hub), alive.said_by(self.hub.timer):
                    loops.asynloop(*args)
            else:
                loops.synloop(*args)
        except UNREADABLE as error:
            if self._is_of_the_broker(error):
                raise
            log.critical("an entry of a queue is not a message and was dropped: %r", error, exc_info=True)
            task_rejected.send(sender=self, message=None, exc=error)
            raise ConnectionResetError("an entry of a queue was not a message") from error

    def _is_of_the_broker(self, error: BaseException) -> bool:
        """Whether Celery is to reconnect. It counts every ``KeyError`` in, and a message can cause one too."""
        errors = (*self.connection_errors, *self.channel_errors)
        return isinstance(error, errors) and not (isinstance(error, KeyError) and isinstance(error.args[0], str))


def _check_body(message: Any) -> None:
    """Refuse bodies that Celery would fail on in a pool process, where nobody counts them.

    Raises:
        InvalidTaskError: the body is not ``[args, kwargs, options]``.
    """
    if not isinstance(message.headers, dict) or "task" not in message.headers:
        return  # an older protocol, or none: Celery says which
    body = message.payload
    if isinstance(body, dict):
        return
    if not isinstance(body, list) or [type(part) for part in body] != [list, dict, dict]:
        raise InvalidTaskError("the body is not [args, kwargs, options]")


def _about(message: Any) -> AbstractContextManager[None]:
    """What is logged while the message is taken says what it is about."""
    headers, body = message.headers, message.payload
    if not isinstance(headers, dict) or "task" not in headers or not isinstance(body, list):
        return nullcontext()
    return of_message(str(headers.get("id")), str(headers["task"]), body[0], body[1])
