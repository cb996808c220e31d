"""The ``rlfleet`` command."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from fleet.adopt_cli import adopt
from fleet.assess_cli import assess
from fleet.audit_cli import audit
from fleet.doctor_cli import doctor
from fleet.environments_cli import environments
from fleet.evaluate_cli import evaluate
from fleet.explain_cli import explain
from fleet.forget_cli import forget
from fleet.gc_cli import gc
from fleet.import_openrlhf_cli import import_openrlhf
from fleet.jobs_cli import jobs_app
from fleet.line_cli import line as line_command
from fleet.lint_reward_cli import lint_reward
from fleet.memory_cli import memory
from fleet.migrate_cli import migrate
from fleet.pipeline_cli import run
from fleet.play_cli import play
from fleet.publish_cli import publish
from fleet.release_cli import approve, deploy, kill, pin, reject, rollback
from fleet.releases_cli import releases
from fleet.report_cli import report
from fleet.run_cli import finish, resume, runs
from fleet.select_cli import select
from fleet.status_cli import status
from fleet.terminal import STOPPED, AsJson, connect, console, errors, said_on_stop, tell
from fleet.token_cli import token_app
from fleet.train_cli import train
from fleet.up_cli import down, env, up
from fleet.versions_cli import versions
from fleet.windows_cli import windows
from rl.errors import InvalidInput, InvalidSettings, RlfleetError
from rl.secret_files import SECRETS, resolve

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)
app.add_typer(jobs_app, name="jobs")
app.add_typer(token_app, name="token")
COMMANDS = (
    adopt,
    approve,
    assess,
    audit,
    deploy,
    doctor,
    down,
    env,
    environments,
    evaluate,
    explain,
    finish,
    forget,
    gc,
    import_openrlhf,
    kill,
    line_command,
    lint_reward,
    memory,
    migrate,
    pin,
    play,
    publish,
    reject,
    releases,
    report,
    resume,
    rollback,
    run,
    runs,
    select,
    status,
    train,
    up,
    versions,
    windows,
)
for command in COMMANDS:
    app.command()(command)

LOOKING = ("doctor", "down", "status")
"""Commands that a secret which cannot be read must not keep anybody from."""
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


def _version(asked: bool) -> None:
    if asked:
        from importlib import metadata

        try:
            typer.echo(f"rlfleet {metadata.version('rlfleet')}")
        except metadata.PackageNotFoundError:
            typer.echo("rlfleet, not installed: a checkout")
        raise typer.Exit


@app.callback()
def shared(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback prints it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version, and end")
    ] = False,
) -> None:
    """Keep the language model behind agents learning from what they do."""
    if context.invoked_subcommand not in LOOKING:
        resolve(os.environ)
        return
    for name in SECRETS:
        try:
            resolve(os.environ, (name,))
        except InvalidSettings as error:
            if context.invoked_subcommand != "doctor":  # to which it is a finding
                errors.print(f"rlfleet: without {name}_FILE: {error}", highlight=False, markup=False, soft_wrap=True)
                del os.environ[f"{name}_FILE"]


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
def reconcile(
    once: Annotated[bool, typer.Option("--once", help="one pass, then exit")] = False,
    as_json: AsJson = False,
) -> None:
    """Take back what nobody holds, ask for what is missing, ring what is due; for ever, or once."""
    from tasks.maintain import reconcile_once
    from worker.settings import settings

    if as_json and not once:
        raise InvalidInput("--json", True, "add --once: there would be an object for each pass, without an end")
    connect()
    while True:
        done = reconcile_once()
        tell(as_json, {"done": done}, done)
        if once:
            return
        time.sleep(settings().tick_seconds)


@app.command()
def backup(folder: Path, as_json: AsJson = False) -> None:
    """Write every row and every folder of weights that rows name to a new FOLDER. The fleet may go on meanwhile."""
    from fleet import backup as backups

    target = folder.resolve()
    with backups.database(os.environ) as root:
        os.environ["RLFLEET_ARTIFACTS"] = str(root)
        made = backups.backup(target, root)
    for path in made.missing:
        errors.print(f"rlfleet: rows name {path}, and no folder is there any more", highlight=False, markup=False)
    counts = {"rows": made.rows, "folders": len(made.artifacts)}
    words = f"{target}: {made.rows} rows, {len(made.artifacts)} folders"
    tell(as_json, {"folder": str(target), **counts, "missing": list(made.missing)}, words)


@app.command()
def restore(folder: Path, as_json: AsJson = False) -> None:
    """Fill an empty database from a backup, and put the folders of weights back."""
    from fleet import backup as backups

    with backups.database(os.environ, create=True) as root:
        done = backups.restore(folder.resolve(), root)
    words = f"restored {done.rows} rows and {len(done.artifacts)} folders; `rlfleet up` goes on from there"
    tell(as_json, {"rows": done.rows, "folders": len(done.artifacts)}, words)


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
