"""Processes that a fleet may leave."""

from __future__ import annotations

import time
from collections.abc import Mapping

import psutil


def left(environ: Mapping[str, str]) -> list[str]:
    """Processes of that home that still run, given a moment to be reaped."""
    deadline = time.monotonic() + 30
    while True:
        found = [
            " ".join(one.info["cmdline"] or [])
            for one in psutil.process_iter(["cmdline", "environ"])
            if (one.info["environ"] or {}).get("RLFLEET_HOME") == environ["RLFLEET_HOME"]
        ]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)
