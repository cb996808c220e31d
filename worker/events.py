"""The events that Flower shows, each sent once.

What breaks without it: Celery repeats a worker's heartbeat until the broker takes it, in the event loop and without an
end. A broker that is gone without a word, such as one on a host that was cut off, then holds all of the main process:
its own timers, its notice of connections that died, and a signal to stop.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from celery.app import events
from celery.events import dispatcher


class Dispatcher(dispatcher.EventDispatcher):  # type: ignore[misc]
    """Keeps what the broker does not take, up to ``MOST_KEPT``, and sends it after the next reconnection."""

    MOST_KEPT = 300
    """What is shown of a worker is of minutes; each costs time to send, in the event loop."""

    def send(self, *args: Any, **fields: Any) -> None:
        """Send an event, or keep it; see Celery's."""
        super().send(*args, **fields | {"retry": False})
        self._forget_oldest()

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Send what was kept, up to the first that the broker does not take; see Celery's."""
        if errors:
            with self.mutex:
                if self._closed or not self._sends_kept():
                    return
        super().flush(errors=False, groups=groups)
        self._forget_oldest()

    def _sends_kept(self) -> bool:
        """Whether the broker took all of it; the rest stays, in its order."""
        kept = deque(self._outbound_buffer)
        self._outbound_buffer.clear()
        while kept and not self._outbound_buffer:
            event, routing_key = kept.popleft()
            self._publish(event, self.producer, routing_key)
        self._outbound_buffer.extend(kept)
        return not self._outbound_buffer

    def _forget_oldest(self) -> None:
        while len(self._outbound_buffer) > self.MOST_KEPT:
            self._outbound_buffer.popleft()


class Events(events.Events):  # type: ignore[misc]
    """What ``app.events`` is."""

    dispatcher_cls = "worker.events:Dispatcher"
