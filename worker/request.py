"""A message that a worker has taken, in its main process: what is logged of its end says which job it was for.

What breaks without it: the lines about tasks that took too long, or whose process was lost, name the message alone.
"""

from __future__ import annotations

from typing import Any

from celery.worker import request

from worker.logs import of_message


class Request(request.Request):  # type: ignore[misc]
    """Celery's, whose lines have the fields of ``worker.logs.of_message``."""

    def revoked(self) -> Any:
        """Whether it is too late for it, or it was called off."""
        with self._about():
            return super().revoked()

    def on_accepted(self, *args: Any, **kwargs: Any) -> None:
        """A process of the pool has begun with it."""
        with self._about():
            super().on_accepted(*args, **kwargs)

    def on_timeout(self, *args: Any, **kwargs: Any) -> None:
        """It took too long."""
        with self._about():
            super().on_timeout(*args, **kwargs)

    def on_failure(self, *args: Any, **kwargs: Any) -> Any:
        """It raised, or its process was lost."""
        with self._about():
            return super().on_failure(*args, **kwargs)

    def _about(self) -> Any:
        return of_message(self.id, self._type, self.args, self.kwargs)
