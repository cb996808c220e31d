"""`rlfleet run` of a pipeline's file: all stages or one, on the fleet that is there or on one of its own."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from environments.fitting import check_run, sized
from fleet.home import cannot_use, home_path
from fleet.pipeline import report
from fleet.pipeline.bars import Bars
from fleet.pipeline.course import Course, another_line
from fleet.pipeline.folder import Folder, attempt
from fleet.pipeline.place import Place, at_hand
from fleet.pipeline.stages import ALONE, STAGES, Stages, source
from fleet.terminal import STOPPED, said_on_stop
from rl import decidable
from rl.errors import InvalidInput, MissingDependency
from rl.pipeline import Pipeline

AGAIN = "the same command tries it again, --fresh starts anew"

STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""What is wrong with a disk or a folder, and not with the program."""


def check(config: Pipeline) -> None:
    """Refuse what cannot be carried out or decided.

    Raises:
        InvalidInput: an environment is unknown or has too few scenarios, the decision could never be made, rounds could
            not be trained on, or the name is one that ``--fresh`` gives.
    """
    if "--" in config.name:
        raise InvalidInput("name", config.name, "NAME--2 is what --fresh calls the second of NAME; use one - alone")
    with suppress(MissingDependency):
        _check_demonstrations(config)
    decidable.check_run(config.run())
    check_run(config.run())


def _check_demonstrations(config: Pipeline) -> None:
    order = config.demonstrations
    there = sized(order.environment, "train")
    if there is not None and order.first_seed + order.scenarios > there:
        remedy = f"{order.environment} has {there} train scenarios; with first_seed = {order.first_seed} take fewer"
        raise InvalidInput("demonstrations.scenarios", order.scenarios, remedy)


def run(
    config: Pipeline, console: Console, *, stage: str | None = None, fresh: bool = False, changes: Sequence[str] = ()
) -> dict[str, Any]:
    """Do what is missing, or one stage of it, and return the report so far.

    ``changes`` are said of a pipeline that starts: what of its file was changed for it.

    Raises:
        InvalidInput: the pipeline cannot be decided, was begun with other settings, or a line has its name.
        StartError: the fleet cannot be started, a stage failed, or another process runs this pipeline.
    """
    if stage is not None and stage not in STAGES:
        raise InvalidInput("stage", stage, f"stages are {', '.join(STAGES)}")
    check(config)
    environ = _environ(config)
    path = home_path(environ) / "pipelines"
    config = config.model_copy(update={"name": attempt(path, config.name, fresh=fresh)})
    folder = Folder(path / config.name)
    wanted = [one for one in STAGES if stage in (None, one)]
    with said_on_stop(console, STOPPED), _storage_told(folder.path), folder.held():
        if set(wanted) <= set(ALONE):
            return _alone(config, folder, console, environ, wanted, changes)
        with at_hand(environ, works=wanted != ["report"]) as place, said_on_stop(console, place.stopping):
            _refuse_another_line(config, folder)
            stages = _work(config, folder, console, place, wanted, changes)
            found = report.summary(config, stages.facts(), folder.read("base"), folder.seconds)
            folder.write("report", found)
            return found


@contextmanager
def _storage_told(path: Path) -> Iterator[None]:
    """A disk that is full, or a folder that cannot be written, in words.

    Raises:
        StartError: instead of the error.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in STORAGE:
            raise
        raise cannot_use(next(one for one in (path, *path.parents) if one.exists()), error) from error


def _refuse_another_line(config: Pipeline, folder: Folder) -> None:
    """See at once what would else be seen behind the demonstrations: a line of this name that learns from elsewhere."""
    from db import lines
    from db.session import transaction

    with transaction() as session:
        there = lines.sources(session)
    if config.name in there and there[config.name] != source(folder):
        raise another_line(config.name)


def _environ(config: Pipeline) -> Mapping[str, str]:
    """Starters are proven on the CPU; ``RLFLEET_DEVICES`` chooses otherwise."""
    if config.model.starter is None or os.environ.get("RLFLEET_DEVICES"):
        return os.environ
    return os.environ | {"RLFLEET_DEVICES": "cpu"}


def _alone(
    config: Pipeline,
    folder: Folder,
    console: Console,
    environ: Mapping[str, str],
    wanted: Sequence[str],
    changes: Sequence[str],
) -> dict[str, Any]:
    """Stages that need no fleet."""
    home = home_path(environ)
    place = Place(home, home / "logs", dict(environ), lambda: None, lambda: None)
    _work(config, folder, console, place, wanted, changes)
    return report.summary(config, None, folder.read("base"), folder.seconds)


def _work(
    config: Pipeline, folder: Folder, console: Console, place: Place, wanted: Sequence[str], changes: Sequence[str]
) -> Stages:
    going_on = folder.begun
    folder.make(config)
    bars = Bars(console, config.rl.rounds)
    bars.note(f"{config.name} {'goes on where it was' if going_on else 'starts'}; everything lies in {folder.path}")
    for words in () if going_on else changes:
        bars.note(words)
    course = Course(_timed(place, folder), config.name, bars, AGAIN)
    stages = Stages(config, folder, course, bars)
    with bars:
        if {"sft", "rl"} & set(wanted):
            course.try_again()
        for one in wanted:
            if one != "report":
                stages.run(one)
    return stages


def _timed(place: Place, folder: Folder) -> Place:
    """The place; whoever keeps it running keeps the time, too."""

    def poll() -> None:
        folder.tick()
        place.poll()

    return replace(place, poll=poll)
