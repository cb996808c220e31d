"""``rlfleet adopt``: a line's first version that lies with ART's service, or what the service has newer than ours."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from fleet.noted import noted
from fleet.terminal import AsJson, connect, errors, say
from rl.errors import InvalidInput


def adopt(
    reason: Annotated[str, typer.Option(help="why, for whoever reads it later")],
    line: Annotated[str, typer.Option(help="the line of versions")] = "main",
    as_json: AsJson = False,
) -> None:
    """Register a line's model with ART's service and make its newest step there a version; nothing is trained.

    Trainings with art-serverless go on from such a version alone. The gpu workers need WANDB_API_KEY. A job that ended
    without success gets new attempts. Exit code 1 when it has failed by the time that it is shown.
    """
    from db import job_views
    from db.wanted import ENDED
    from tasks import adopting, ring

    if not reason.strip():
        raise InvalidInput("reason", reason, "say why, in a few words: it is stored with the change")
    connect()
    with noted("adopt", line, reason=reason) as session:
        job_id = adopting.request(session, line)
    if later := ring.ring_or_later():
        errors.print(f"recorded, and rung later: {later}", highlight=False, markup=False, soft_wrap=True)
    found = job_views.summary(job_id)
    if as_json:
        typer.echo(json.dumps({"schema": 1, "line": line, "job": vars(found) if found else None}))
    else:
        say(found)
    if found is None or found.state in ENDED:
        raise typer.Exit(1)
    errors.print(f"`rlfleet jobs show {job_id}` says what becomes of it", highlight=False, markup=False, soft_wrap=True)
