"""``rlfleet reproduce``: where the checkpoint goes, what is shown meanwhile, and what is printed in the end."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from fleet import backup, folders
from fleet.differences import Outcome
from fleet.home import home_path, read_endpoints
from fleet.reproduce import Show, reproduce
from fleet.terminal import errors, say
from rl.errors import InvalidInput, RlfleetError, StartError
from rl.protocol import Progress

EQUAL, DIFFERENT, UNTRIED = 0, 1, 2
PLAIN_SECONDS = 10.0
"""Where nothing can move (a log file, a pipe), a line is printed this often."""


def run(version: str, line: str, keep: Path | None, *, as_json: bool) -> int:
    """Reproduce and print. Returns the exit code; what keeps it from being tried is said on stderr."""
    try:
        outcome = _reproduce(version, line, keep)
    except RlfleetError as error:
        errors.print(f"rlfleet: {error}", highlight=False, markup=False, soft_wrap=True)
        return UNTRIED
    if as_json:
        typer.echo(json.dumps(outcome.json()))
    for one in () if as_json else outcome.lines():
        say(one)
    return EQUAL if outcome.equal else DIFFERENT


def _reproduce(version: str, line: str, keep: Path | None) -> Outcome:
    if not (os.environ.get("DATABASE_URL") or _has_cluster()):
        raise StartError("no fleet has run here: set DATABASE_URL, or RLFLEET_HOME to the home of one")
    with _folder(keep) as folder, backup.database(os.environ) as root, _shown() as show:
        os.environ["RLFLEET_ARTIFACTS"] = str(root)
        return reproduce(version, line, folder, _warn, show)


def _has_cluster() -> bool:
    home = home_path(os.environ)
    return read_endpoints(home) is not None or (home / "pg").is_dir()


def _warn(words: str) -> None:
    errors.print(f"rlfleet: not as it was: {words}", highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """The folder to train in: ``keep``, or one that is gone afterwards."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="rlfleet-reproduce-") as name:
            yield Path(name).resolve()
        return
    if keep.exists():
        raise InvalidInput("keep", str(keep), "it exists; name a new folder")
    try:
        keep.mkdir(parents=True)
    except OSError as error:
        raise folders.named(error, keep) from error
    yield keep.resolve()


@contextmanager
def _shown() -> Iterator[Show]:
    """Steps on stderr: a bar that moves on a terminal, a line now and then elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("checking", total=None)
        printed = time.monotonic()

        def show(event: Progress) -> None:
            nonlocal printed
            bar.update(task, description="training", completed=event.step, total=event.total)
            if not errors.is_terminal and time.monotonic() - printed >= PLAIN_SECONDS:
                printed = time.monotonic()
                errors.print(f"step {event.step}/{event.total}", highlight=False)

        yield show
