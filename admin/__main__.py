"""``python -m admin``: serve on ``RLFLEET_ADMIN_HOST`` and ``RLFLEET_ADMIN_PORT`` until told to stop."""

from __future__ import annotations

import sys

import uvicorn

from admin.settings import settings
from db import settings as database
from rl.errors import InvalidSettings
from rl.logs import uvicorn_config

STOP_SECONDS = 10
"""What answers under way get to end; streams of a job that is watched are begun again elsewhere."""


def main() -> None:
    """Serve until told to stop. A variable that cannot be used: a line on stderr, and exit code 2."""
    try:
        where = settings()
        database.settings()
    except InvalidSettings as error:
        sys.stderr.write(f"admin: {error}\n")
        raise SystemExit(2) from None
    uvicorn.run(
        "admin.app:app",
        host=where.host,
        port=where.port,
        access_log=False,
        log_config=uvicorn_config(where.log),
        server_header=False,
        proxy_headers=bool(where.proxy),
        forwarded_allow_ips=where.proxy,
        timeout_graceful_shutdown=STOP_SECONDS,
    )


if __name__ == "__main__":
    main()
