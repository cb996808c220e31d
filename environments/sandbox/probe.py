"""Which level this machine really gives: found out once a process, by a program that tries what must not work."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

from environments.sandbox import seccomp
from environments.sandbox.commands import Site
from environments.sandbox.interpreter import candidates
from environments.sandbox.launch import Launch
from environments.sandbox.records import Level, Limits
from environments.settings import settings
from rl.errors import SandboxUnavailable

log = logging.getLogger(__name__)

LIMITS = Limits(processes=4)
HELD = {
    "ids": [65534],
    "parent": 1,
    "reads": [False, False, False, False],
    "writes": [False, False],
    "network": False,
    "host_sockets": False,
    "filter": True,
    "variables": ["HOME", "LANG", "PATH", "PYTHONHASHSEED", "RESULT_FD", "TMPDIR"],
    "forks": True,
    "memory": True,
}
"""What the program below finds where namespaces hold it."""
LIMITED = ("variables", "forks", "memory")
"""What of it is promised by rlimits alone."""
_lock = threading.Lock()


def site() -> Site:
    """How this machine's sandboxes are made: the strongest level that holds, at least ``RLFLEET_SANDBOX``.

    Raises:
        SandboxUnavailable: no level that is strong enough holds here; says why.
    """
    with _lock:
        minimum = Level(settings().sandbox)
        tried: list[str] = []
        for level in Level:
            if level.satisfies(minimum):
                found = at(level)
                if isinstance(found, Site):
                    return found
                tried.append(f"{level}: {found}")
    raise SandboxUnavailable(
        f"RLFLEET_SANDBOX = {minimum}: {'; '.join(tried)}. Install bubblewrap and allow user namespaces without"
        " privileges, or see docs/sandbox.md"
    )


@cache
def at(level: Level) -> Site | str:
    """The site of one level, or why there is none."""
    if level is not Level.RLIMITS and seccomp.program() is None:
        return f"there is no system call filter for {os.uname().machine}"
    why = "no Python runs in it"
    for interpreter in candidates():
        one = Site(level, interpreter)
        try:
            wrong = _broken(one)
        except (SandboxUnavailable, OSError) as error:
            wrong = str(error)
        if not wrong:
            if level is Level.RLIMITS:
                log.warning("code of models is run without a sandbox: RLFLEET_SANDBOX=rlimits limits only what it uses")
            return one
        why = f"{interpreter.path}: {wrong}"
    return why


def _broken(one: Site) -> str:
    """The promises that do not hold, or nothing."""
    program = Path(__file__).with_name("trial.py").read_bytes()
    with (
        tempfile.NamedTemporaryFile(prefix="rlfleet-sandbox-") as secret,
        socket.socket(socket.AF_UNIX) as listener,
        Launch(one, LIMITS) as launch,
    ):
        Path(secret.name).chmod(0o644)
        listening = _listening(listener)
        ran = launch.run(program, f"{secret.name}\n{__file__}\n{listening}\n".encode()).ran
    try:
        found: dict[str, Any] = json.loads(ran.result or "")
    except ValueError:
        return f"the trial ended with {ran.outcome}: {ran.stderr.strip()[-500:]}"
    wanted = {name: HELD[name] for name in (LIMITED if one.level is Level.RLIMITS else HELD)}
    wrong = {name: found.get(name) for name, value in wanted.items() if found.get(name) != value}
    return f"these do not hold: {wrong}" if wrong else ""


def _listening(listener: socket.socket) -> str:
    """The name of a socket that everybody in this process's network namespace can reach, and nobody else."""
    name = f"rlfleet-{secrets.token_hex(8)}"
    if hasattr(socket, "SO_PEERCRED"):
        listener.bind(f"\0{name}")
        listener.listen()
    return name
