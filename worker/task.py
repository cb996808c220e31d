"""The base class of every task: a caller hears at once, and in words, that the broker is down."""

from __future__ import annotations

from typing import Any

from celery import Task
from kombu.exceptions import OperationalError
from kombu.pools import producers

from rl.errors import BrokerUnavailable

PUBLISHING = {"socket_connect_timeout": 0.4, "socket_timeout": 0.4, "retry_on_timeout": False, "max_retries": 0}
"""A caller must not hang: the client below tries about four times before it gives up. Workers wait longer."""


class FleetTask(Task):  # type: ignore[misc]
    """Publishing raises ``BrokerUnavailable`` within about two seconds instead of the transport's own error."""

    abstract = True

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Publish the message, on a connection of its own with short timeouts.

        Raises:
            BrokerUnavailable: the broker did not take it. Nothing was recorded; call again later, or use
                ``rlfleet train``, which records the job first and rings when the broker is back.
        """
        pool = producers[self.app.connection_for_write(transport_options=PUBLISHING)]
        try:
            with pool.acquire(block=True) as producer:
                return super().apply_async(args, kwargs, **({"producer": producer} | options))
        except (OperationalError, OSError) as error:
            raise BrokerUnavailable(
                f"{self.name}: the broker did not take the message ({error}); is REDIS_URL right and the server up?"
            ) from error
