"""Ports on loopback for servers of our own."""

from __future__ import annotations

import random
import socket

FIRST, LAST = 20000, 32000
"""Below what kernels lend to outgoing connections: a client's attempt to reach a restarting server could otherwise
be lent that very port, connect to itself, and keep the server out."""


def is_free(port: int) -> bool:
    """Whether a server could listen on ``port`` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A random free port. Another process may take it before it is used: try again then."""
    choose = random.SystemRandom()
    while True:
        port = choose.randint(FIRST, LAST)
        if is_free(port):
            return port
