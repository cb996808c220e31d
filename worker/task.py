"""The base class of every task: a caller hears at once, and in words, that the broker is down."""

from __future__ import annotations

from typing import Any

from celery import Task
from kombu.exceptions import OperationalError

from rl.errors import BrokerUnavailable


class FleetTask(Task):  # type: ignore[misc]
    """Publishing raises ``BrokerUnavailable`` instead of the transport's own error: at once where nobody listens.

    A broker that takes the connection and does not answer is given two socket timeouts, 20 s.
    """

    abstract = True

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Publish the message.

        Raises:
            BrokerUnavailable: the broker did not take it. Nothing was recorded; call again later, or use
                ``rlfleet train``, which records the job first and rings when the broker is back.
        """
        try:
            return super().apply_async(args, kwargs, **options)
        except (OperationalError, OSError) as error:
            raise BrokerUnavailable(
                f"{self.name}: the broker did not take the message ({error}); is REDIS_URL right and the server up?"
            ) from error
