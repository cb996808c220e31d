"""``python -m gateway``: serve on ``RLFLEET_GATEWAY_HOST`` and ``RLFLEET_GATEWAY_PORT``."""

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
    )
