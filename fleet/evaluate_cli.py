"""``rlfleet evaluate``: ask for verdicts on a version."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.noted import noted
from fleet.terminal import AsJson, connect, errors, say
from rl.errors import InvalidInput

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from rl.config import TaskSet

SPLITS = ("validation", "held_out")
SCENARIOS = 100
"""What is played where neither the option nor the line says how many."""


def evaluate(
    version: Annotated[str, typer.Argument(help="such as babylon-agent-v1.0.3, or v1.0.3 of the line")],
    environment: Annotated[
        str | None, typer.Option(help="played on its scenarios; left out: what the line evaluates on")
    ] = None,
    scenarios: Annotated[int | None, typer.Option(min=1, help="so many of them")] = None,
    split: Annotated[str, typer.Option(help="validation or held_out, with --environment")] = "held_out",
    first_seed: Annotated[int, typer.Option(min=0, help="the first scenario, with --environment")] = 0,
    step: Annotated[int | None, typer.Option(min=0, help="another checkpoint than the version's own")] = None,
    line: Annotated[str | None, typer.Option(help="the version's line; left out: main for a short name")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask for the evaluation jobs of a version; those that are there already are not made again."""
    from db import evaluation_requests, job_views, lines
    from tasks import ring

    if split not in SPLITS:
        raise InvalidInput("split", split, f"give one of {', '.join(SPLITS)}")
    connect()
    asked_for = {"environment": environment, "scenarios": scenarios, "step": step}
    with noted("evaluate", version, line=line, **asked_for) as session:
        name = lines.full_name(session, version, line)
        task_set = _task_set(session, name, environment, scenarios, split, first_seed, step)
        asked = evaluation_requests.ask(session, name, task_set, step)
    if later := ring.ring_or_later():
        errors.print(f"recorded, and rung later: {later}", highlight=False, markup=False, soft_wrap=True)
    jobs = [one for one in map(job_views.summary, asked) if one is not None]
    if as_json:
        about = {"version": name, "task_set": task_set.model_dump(mode="json") if task_set else None}
        typer.echo(json.dumps({"schema": 1, **about, "jobs": [vars(one) for one in jobs]}))
        return
    for one in jobs:
        say(one)
    if not jobs:
        say(f"{name}: all that its line evaluates it on is there; `rlfleet versions {name}` shows it")


def _task_set(
    session: Session,
    name: str,
    environment: str | None,
    scenarios: int | None,
    split: str,
    first_seed: int,
    step: int | None,
) -> TaskSet | None:
    """The scenarios that the options name; None where none does."""
    from db import evaluation_requests
    from environments import fitting
    from rl.config import TaskSet

    usual = evaluation_requests.usual_set(session, name)
    if environment is not None:
        values = {"environment": environment, "split": split, "first_seed": first_seed, "count": scenarios or SCENARIOS}
        chosen = TaskSet.model_validate(values)
    elif scenarios is None and step is None:
        return None
    elif usual is None:
        option = "scenarios" if scenarios is not None else "step"
        raise InvalidInput(option, scenarios or step, "the line has no [validation]: give --environment too")
    else:
        chosen = usual.model_copy(update={"count": scenarios or usual.count})
    fitting.check_fits("scenarios", chosen)
    return chosen
