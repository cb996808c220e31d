"""``python -m gateway``: serve on ``RLFLEET_GATEWAY_HOST`` and ``RLFLEET_GATEWAY_PORT``."""

from __future__ import annotations

import uvicorn

from gateway.settings import settings

if __name__ == "__main__":
    where = settings()
    uvicorn.run("gateway.app:app", host=where.gateway_host, port=where.gateway_port, access_log=False)
