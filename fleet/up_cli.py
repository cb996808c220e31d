"""``rlfleet up``, ``down`` and ``env``: start and stop the fleet of this machine, and reach it from another shell."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import time
from typing import Annotated, Any

import typer

from fleet.terminal import AsJson, connect, console, errors, say
from rl.errors import StartError

STOP_SECONDS = 120.0
"""How long `rlfleet down` waits at least; longer where the processes have more time to stop."""
FIRST_TOKEN = "rlfleet token create NAME"  # noqa: S105 - a command


def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="in a process of its own; return when all of it is up")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start what is missing: servers, workers, two beats, Flower, gateway, admin. Ctrl-C stops all of it in order."""
    if detach:
        _detached(as_json=as_json)
        return
    from fleet.running import Fleet

    with Fleet(os.environ) as fleet:
        fleet.start()
        plan = fleet.plan
        urls = {"admin": plan.admin_url, "gateway": plan.gateway_url, "flower": plan.flower_url}
        _tell(os.getpid(), str(fleet.home.path), urls, plan.lines(), as_json=as_json)
        while True:
            fleet.poll()
            time.sleep(0.2)


def _detached(*, as_json: bool) -> None:
    from fleet.detach import LOG, start
    from fleet.home import home_path

    pid, found = start(dict(os.environ), _on_the_way)
    home = home_path(os.environ)
    _tell(pid, str(home), found.urls, [], as_json=as_json)
    if not as_json:
        say(f"runs on   as pid {pid}, log {home / 'logs' / LOG}; `rlfleet status` looks at it, `rlfleet down` ends it")


def _on_the_way(words: str) -> None:
    errors.print(words, highlight=False, markup=False, soft_wrap=True)


def _tell(pid: int, home: str, urls: dict[str, Any], devices: list[str], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"schema": 1, "pid": pid, "home": home, "urls": urls}))
        return
    for line in devices:
        say(f"device    {line}")
    say(f"gateway   {urls['gateway']}/v1\nflower    {urls['flower']}\nadmin     {urls['admin']}")
    say(f"          sign in with a token; the first one: {FIRST_TOKEN}")
    say(f'home      {home}\nshell     eval "$(rlfleet env)"')


def down(as_json: AsJson = False) -> None:
    """Stop what `rlfleet up` started on this machine, and wait until nothing is left. Data stay."""
    from fleet.home import holder, home_path
    from fleet.process_states import read_states

    pid = holder(os.environ)
    if not pid:
        raise StartError("no fleet runs here; RLFLEET_HOME names another one")
    known = read_states(home_path(os.environ), pid)
    if known is None or known.phase != "stopping":
        with contextlib.suppress(ProcessLookupError):  # it was just about to end by itself
            os.kill(pid, signal.SIGTERM)
    seconds = max(STOP_SECONDS, known.stop_seconds if known else 0.0)
    deadline = time.monotonic() + seconds
    while holder(os.environ) == pid or _runs(pid):
        if time.monotonic() > deadline:
            remedy = "wait and run `rlfleet down` again; the logs folder of its home says what it waits for"
            raise StartError(f"the fleet of process {pid} did not end within {seconds:.0f} s: {remedy}")
        time.sleep(0.2)
    if as_json:
        typer.echo(json.dumps({"schema": 1, "stopped": pid}))
    else:
        console.print(f"stopped (pid {pid})")


def _runs(pid: int) -> bool:
    """Whether the process has not ended, even if nobody has asked how it did."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def env(as_json: AsJson = False) -> None:
    """Print what another shell needs to reach the fleet: eval "$(rlfleet env)"."""
    connect()
    found = {name: os.environ[name] for name in ("DATABASE_URL", "REDIS_URL")}
    if as_json:
        typer.echo(json.dumps({"schema": 1, **found}))
        return
    for name, value in found.items():
        typer.echo(f"export {name}={shlex.quote(value)}")
