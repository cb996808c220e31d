"""The base class of every task: a caller hears at once that the broker is down, a worker takes no odd arguments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery, Task
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.pools import producers

from rl.errors import BrokerUnavailable
from worker.arguments import accepted

CALLER = {"socket_connect_timeout": 0.4, "socket_timeout": 0.4, "retry_on_timeout": False, "max_retries": 0}
"""A caller must not hang: the client below tries about four times before it gives up."""
WORKER = CALLER | {"socket_connect_timeout": 2.0, "socket_timeout": 5.0}
"""A worker that rings can wait for a broker that is slow; with a caller's haste nothing would be rung at all."""

_connections: dict[tuple[int, str], Connection] = {}
_timeouts = CALLER


def be_patient() -> None:
    """This process is a worker's."""
    global _timeouts  # noqa: PLW0603 - once, when the process begins
    _timeouts = WORKER


@contextmanager
def publishing(app: Celery, doing: str) -> Iterator[Any]:
    """A producer on a connection of its own, with timeouts of its own.

    Raises:
        BrokerUnavailable: the broker did not answer while ``doing`` something.
    """
    connection = _connection(app)
    # The transport counts every KeyError as a lost connection, and a queue that does not exist is one.
    lost = (OperationalError, OSError, *(one for one in connection.connection_errors if one is not KeyError))
    try:
        with producers[connection].acquire(block=True) as producer:
            yield producer
    except lost as error:
        raise BrokerUnavailable(
            f"{doing}: the broker did not take the message ({error}); is REDIS_URL right and the server up?"
        ) from error


def _connection(app: Celery) -> Connection:
    """What the pool of producers is found by; making it is a fifth of what publishing costs."""
    key = id(_timeouts), str(app.conf.broker_url)
    if key not in _connections:
        _connections[key] = app.connection_for_write(transport_options=_timeouts)
    return _connections[key]


class FleetTask(Task):  # type: ignore[misc]
    """Publishing raises ``BrokerUnavailable`` within about two seconds instead of the transport's own error."""

    abstract = True
    Request = "worker.request:Request"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here and now, as a worker does.

        Raises:
            BadMessage: the arguments are not those of the task.
        """
        return super().__call__(**accepted(self.name, self.run, args, kwargs))

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Publish the message, on a connection of its own with short timeouts.

        Raises:
            BrokerUnavailable: the broker did not take it. Nothing was recorded; call again later, or use
                ``rlfleet train``, which records the job first and rings when the broker is back.
        """
        with publishing(self.app, self.name) as producer:
            return super().apply_async(args, kwargs, **({"producer": producer} | options))
