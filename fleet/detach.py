"""A fleet in a process of its own: started, and waited for until all of it is up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from fleet.home import cannot_use, holder, home_path, make_home, runs_already
from fleet.processes import ROOT
from fleet.summary import Summary, here
from rl.errors import StartError

UP_SECONDS = 600.0
"""A first start makes a database, and loads a model."""
MEND_SECONDS = 30.0
"""A process that ended at its start may come up at another try."""
LOOK_SECONDS = 0.5
TAIL_LINES = 20
LOG = "up.log"
COMMAND = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from fleet.cli import main
main()
"""
"""Packages of ours that are named like folders of where this is called from must not be theirs."""


def start(environ: Mapping[str, str], tell: Callable[[str], None]) -> tuple[int, Summary]:
    """Start a fleet that outlives this process; its pid, and what it is once it is up. ``tell`` hears of progress.

    Raises:
        StartError: a fleet runs here already, its home cannot be used, or the fleet did not come up; with the end of
            its log. One that is there but not all up goes on.
    """
    if pid := holder(environ):
        raise runs_already(pid)
    log, descriptor = _log(home_path(environ))
    with open(descriptor, "ab") as output:
        size = output.tell()
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", COMMAND, str(ROOT), "up"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environ) | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # neither ctrl-C nor the end of this terminal reaches it
        )
    try:
        found = _up(child, environ, tell, lambda: _tail(log, size))
    except KeyboardInterrupt:
        child.send_signal(signal.SIGTERM)
        child.wait()
        raise
    return child.pid, found


def _up(
    child: subprocess.Popen[bytes], environ: Mapping[str, str], tell: Callable[[str], None], tail: Callable[[], str]
) -> Summary:
    told: set[str] = set()
    deadline, degraded = time.monotonic() + UP_SECONDS, 0.0
    while True:
        if (status := child.poll()) is not None:
            raise StartError(f"the fleet ended with status {status} before it was up; {tail()}")
        found = here(environ)
        if found.is_up:
            return found
        for words in _news(found, told):
            tell(words)
        now = time.monotonic()
        degraded = 0.0 if found.status != "degraded" else degraded or now
        if now > deadline or (degraded and now - degraded > MEND_SECONDS):
            waits = "; ".join(one.words for one in (*found.process_reasons, *found.reasons))
            raise StartError(f"the fleet runs (pid {child.pid}), and not all of it is up: {waits}; {tail()}")
        time.sleep(LOOK_SECONDS)


def _news(found: Summary, told: set[str]) -> Iterator[str]:
    """What was not ``told`` yet of processes that came up, and of what is waited for."""
    up = [f"{one['name']} runs (pid {one['pid']})" for one in found.processes if one["state"] == "running"]
    waits = [f"waits: {one.words}" for one in found.process_reasons] if len(up) == len(found.processes) else []
    for words in (*up, *waits):
        if words not in told:
            told.add(words)
            yield words


def _log(home: Path) -> tuple[Path, int]:
    """The log, and a descriptor that appends to it."""
    log = home / "logs" / LOG
    try:
        make_home(home)
        log.parent.mkdir(mode=0o700, exist_ok=True)
        return log, os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        raise cannot_use(home, error) from error


def _tail(log: Path, start: int) -> str:
    with log.open("rb") as stream:
        stream.seek(start)
        lines = stream.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
    return f"{log} says:" + ("".join(f"\n  {line}" for line in lines) or " nothing")
