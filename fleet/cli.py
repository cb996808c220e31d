"""The ``rlfleet`` command."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from fleet.assess_cli import assess
from fleet.environments_cli import environments
from fleet.explain_cli import explain
from fleet.forget_cli import forget
from fleet.import_openrlhf_cli import import_openrlhf
from fleet.jobs_cli import jobs_app
from fleet.line_cli import line as line_command
from fleet.lint_reward_cli import lint_reward
from fleet.memory_cli import memory
from fleet.pipeline_cli import run
from fleet.play_cli import play
from fleet.release_cli import approve, deploy, kill, pin, reject, rollback
from fleet.releases_cli import releases
from fleet.report_cli import report
from fleet.run_cli import finish, resume, runs
from fleet.select_cli import select
from fleet.terminal import STOPPED, AsJson, connect, console, errors, said_on_stop
from fleet.token_cli import token_app
from fleet.train_cli import train
from fleet.windows_cli import windows
from rl.errors import InvalidInput, RlfleetError, StartError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(jobs_app, name="jobs")
app.add_typer(token_app, name="token")
COMMANDS = (
    approve,
    assess,
    deploy,
    environments,
    explain,
    finish,
    forget,
    import_openrlhf,
    kill,
    line_command,
    lint_reward,
    memory,
    pin,
    play,
    reject,
    releases,
    report,
    resume,
    rollback,
    run,
    runs,
    select,
    train,
    windows,
)
for command in COMMANDS:
    app.command()(command)

STOP_SECONDS = 120.0

Line = Annotated[str, typer.Option(help="the line of versions")]


def main() -> None:
    """Run the command; an error of ours ends it with its own words and exit code 1, wrong input with 2."""
    try:
        app()
    except InvalidInput as error:
        errors.print(f"rlfleet: {error}", highlight=False, markup=False, soft_wrap=True)
        raise SystemExit(2) from None
    except RlfleetError as error:
        errors.print(f"rlfleet: {error}", highlight=False, markup=False, soft_wrap=True)
        raise SystemExit(1) from None


@app.command()
def demo(
    seed: Annotated[int, typer.Option(min=0, max=999, help="another seed is another agent, model and scenarios")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="write the outcome there")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="start anew instead of going on")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="a tenth of everything: shows the way, learns little")] = False,
) -> None:
    """An agent's logs become a released version, on this machine, in a few minutes."""
    from fleet.demo.play import play

    with said_on_stop(errors, f"rlfleet: {STOPPED}"):
        released = play(console, seed, json_path, fresh=fresh, quick=quick)
    raise typer.Exit(0 if released else 1)


@app.command()
def up() -> None:
    """Start what is missing: servers, workers, two beats, Flower, gateway. Ctrl-C stops all of it in order."""
    from fleet.running import Fleet

    with Fleet(os.environ) as fleet:
        fleet.start()
        for line in fleet.plan.lines():
            console.print(f"device    {line}", highlight=False)
        console.print(f"gateway   {fleet.plan.gateway_url}/v1\nflower    {fleet.plan.flower_url}", highlight=False)
        console.print(f'home      {fleet.home.path}\nshell     eval "$(rlfleet env)"', highlight=False)
        while True:
            fleet.poll()
            time.sleep(0.2)


@app.command()
def down() -> None:
    """Stop what `rlfleet up` started on this machine. Data stay."""
    from fleet.home import holder

    pid = holder(os.environ)
    if not pid:
        raise StartError("no fleet runs here; RLFLEET_HOME names another one")
    with contextlib.suppress(ProcessLookupError):  # it was just about to end by itself
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while holder(os.environ) == pid:
        if time.monotonic() > deadline:
            remedy = "wait and run `rlfleet down` again; the logs folder of its home says what it waits for"
            raise StartError(f"the fleet of process {pid} did not end within {STOP_SECONDS:.0f} s: {remedy}")
        time.sleep(0.2)
    console.print(f"stopped (pid {pid})")


@app.command()
def env() -> None:
    """Print what another shell needs to reach the fleet: eval "$(rlfleet env)"."""
    connect()
    for name in ("DATABASE_URL", "REDIS_URL"):
        typer.echo(f"export {name}={shlex.quote(os.environ[name])}")


@app.command()
def reconcile(once: Annotated[bool, typer.Option("--once", help="one pass, then exit")] = False) -> None:
    """Take back what nobody holds, ask for what is missing, ring what is due; for ever, or once."""
    from tasks.maintain import reconcile_once
    from worker.settings import settings

    connect()
    while True:
        console.print(reconcile_once())
        if once:
            return
        time.sleep(settings().tick_seconds)


@app.command()
def backup(folder: Path) -> None:
    """Write every row and every folder of weights that rows name to a new FOLDER. The fleet may go on meanwhile."""
    from fleet import backup as backups

    target = folder.resolve()
    with backups.database(os.environ) as root:
        made = backups.backup(target, root)
    for path in made.missing:
        errors.print(f"rlfleet: rows name {path}, and no folder is there any more", highlight=False, markup=False)
    console.print(f"{target}: {made.rows} rows, {len(made.artifacts)} folders", highlight=False, markup=False)


@app.command()
def restore(folder: Path) -> None:
    """Fill an empty database from a backup, and put the folders of weights back."""
    from fleet import backup as backups

    with backups.database(os.environ, create=True) as root:
        done = backups.restore(folder.resolve(), root)
    console.print(f"restored {done.rows} rows and {len(done.artifacts)} folders; `rlfleet up` goes on from there")


@app.command()
def reproduce(
    version: Annotated[str, typer.Argument(help="such as babylon-agent-v1.0.3, or v1.0.3 of the line")],
    line: Line = "main",
    keep: Annotated[Path | None, typer.Option(help="a new folder, where the dataset and checkpoint stay")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a version again from what is stored. Exit code 0 when the same bytes come out, 1 when not, 2 untried."""
    from fleet.reproduce_cli import run

    raise typer.Exit(run(version, line, keep, as_json=as_json))


@app.command()
def status(as_json: AsJson = False) -> None:
    """Lines, jobs, workers, pauses, rejections, alerts. Exit code 1 when a job failed or died, or a kind is paused."""
    from fleet import status as fleet_status

    connect()
    state = fleet_status.read()
    if as_json:
        typer.echo(json.dumps(state))
    else:
        fleet_status.show(state)
    raise typer.Exit(0 if state["ok"] else 1)
