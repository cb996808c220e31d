"""``python -m gateway``: serve on ``RLFLEET_GATEWAY_HOST`` and ``RLFLEET_GATEWAY_PORT``.

On SIGTERM no connection is taken any more, what is under way may end within ``RLFLEET_GATEWAY_DRAIN_SECONDS``, and
what was captured is stored as far as the database allows; the rest is in the spool.
"""

from __future__ import annotations

import uvicorn

from gateway.settings import settings

KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep idle connections: whoever closes second loses a request to a closed socket."""

if __name__ == "__main__":
    where = settings()
    uvicorn.run(
        "gateway.app:app",
        host=where.gateway_host,
        port=where.gateway_port,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(where.drain_seconds),
    )
