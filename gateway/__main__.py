"""``python -m gateway``: serve on ``RLFLEET_GATEWAY_HOST`` and ``RLFLEET_GATEWAY_PORT``.

On SIGTERM no connection is taken any more, what is under way may end within ``RLFLEET_GATEWAY_DRAIN_SECONDS``, and
what was captured is stored as far as the database allows; the rest is in the spool.
"""

from __future__ import annotations

import sys

import uvicorn

from db import settings as database
from gateway.settings import problems, settings
from rl.errors import InvalidSettings
from rl.logs import uvicorn_config

KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep idle connections: whoever closes second loses a request to a closed socket."""
PROXIES = "127.0.0.1,::1"
"""Whose ``X-Forwarded-For`` is believed: of callers on loopback it can only say that they are not."""


def main() -> None:
    """Serve until told to stop. With variables that cannot be used: a line for each on stderr, and exit code 2."""
    if wrong := _wrong():
        sys.stderr.writelines(f"gateway: {one}\n" for one in wrong)
        raise SystemExit(2)
    where = settings()
    uvicorn.run(
        "gateway.app:app",
        host=where.gateway_host,
        port=where.gateway_port,
        access_log=False,
        log_config=uvicorn_config(where.log),
        forwarded_allow_ips=PROXIES,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(where.drain_seconds),
    )


def _wrong() -> list[InvalidSettings]:
    """The variables of the gateway and of the database that cannot be used."""
    wrong = problems()
    try:
        database.settings()
    except InvalidSettings as error:
        wrong.append(error)
    return wrong


if __name__ == "__main__":
    main()
