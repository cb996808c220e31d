"""A worker is told to stop between two events of its loop, never in the middle of one.

What breaks without it: Celery begins the stop in the handler of the signal, wherever the main process is. Between
reading a result and crediting it to the pool process that sent it, that process waits half a minute for the credit.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from celery.worker import state

SIGNALS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)


@contextmanager
def between_events(hub: Any) -> Iterator[None]:
    """While the block runs ``hub``'s loop, Celery's handlers are called by the loop.

    A second signal calls them at once: a loop that hangs can be stopped. Leaving restores what Celery has not replaced
    itself, and calls what the loop no longer came to. Outside the main thread this changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    told: list[int] = []
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def restore() -> None:
        for number, handler in handlers.items():
            if signal.getsignal(number) is note:
                signal.signal(number, handler)

    def note(number: int, _: FrameType | None) -> None:
        told.append(number)
        if len(told) > 1:
            stop()
        else:
            os.write(writer, b"!")  # the call that waits for events goes on waiting after a handler

    def look() -> None:
        os.read(reader, 16)
        if told:  # else the note is that of a process which was just forked
            stop()

    def stop() -> None:
        """As Celery does it; ``maybe_shutdown`` ends the loop before it asks a pool that has stopped."""
        restore()
        while told:
            number, handler = told[0], handlers[signal.Signals(told[0])]
            told.clear()
            if callable(handler):
                handler(number, None)
        state.maybe_shutdown()

    hub.add_reader(reader, look)
    for number, handler in handlers.items():
        if callable(handler):
            signal.signal(number, note)
    try:
        yield
    finally:
        hub.remove(reader)
        restore()
        os.close(reader)
        os.close(writer)
        if told:
            stop()
