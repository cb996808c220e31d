"""Servers that somebody else runs: are they there? Asked before anything is started that needs them."""

from __future__ import annotations

import re
import socket
from urllib.parse import SplitResult, unquote, urlsplit

from redis.exceptions import RedisError

from fleet import valkey
from rl.errors import InvalidSettings, StartError

SECONDS = 4.0
"""For each address of a host name; localhost has two."""
SSL_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)
"""The one message that every Postgres answers with a single letter before it asks who is there."""


def check_postgres(url: str) -> None:
    """Reach the server; a URL without a host, which means a local socket, is taken as it is.

    Raises:
        StartError: no Postgres answers; names host and port, never the password.
        InvalidSettings: this is no Postgres URL.
    """
    parts = _split("DATABASE_URL", url, r"postgres(ql)?(\+psycopg2)?", "postgresql://USER:PASSWORD@HOST:PORT/NAME")
    if not parts.hostname:
        return
    try:
        with socket.create_connection((parts.hostname, parts.port or 5432), SECONDS) as connection:
            connection.sendall(SSL_REQUEST)
            answer = connection.recv(1)
    except OSError as error:
        raise _unusable("DATABASE_URL", parts, 5432, error) from None
    if answer not in (b"S", b"N"):
        raise _unusable("DATABASE_URL", parts, 5432, "what listens there is no Postgres")


def check_redis(url: str) -> None:
    """Log in once.

    Raises:
        StartError: no Redis answers, or not to this password; names host and port, never the password.
        InvalidSettings: this is no Redis URL.
    """
    parts = _split("REDIS_URL", url, r"rediss?", "redis://:PASSWORD@HOST:PORT/0")
    try:
        valkey.ping(url, SECONDS)
    except ValueError:
        raise InvalidSettings("REDIS_URL", "<hidden>", "write redis://:PASSWORD@HOST:PORT/0") from None
    except (OSError, RedisError) as error:
        raise _unusable("REDIS_URL", parts, 6379, error) from None


def _split(name: str, url: str, schemes: str, shape: str) -> SplitResult:
    remedy = f"write {shape}, with @ and / in the password percent-encoded"
    try:
        parts = urlsplit(url)
        valid = re.fullmatch(schemes, parts.scheme) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise InvalidSettings(name, "<hidden>", remedy)
    return parts


def _unusable(name: str, parts: SplitResult, port: int, reason: Exception | str) -> StartError:
    where = f"{parts.hostname or 'localhost'}:{parts.port or port}"
    said = " ".join(str(reason).split())
    for secret in filter(None, (parts.password, unquote(parts.password or ""))):
        said = said.replace(secret, "***")
    return StartError(
        f"{name}: {where} cannot be used ({said}): start it, correct {name}, or unset it to start our own"
    )
