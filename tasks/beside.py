"""What a training with a service must not meet there: other trainings of its line, and steps newer than its parent.

The service goes on from a model's newest step alone, and says of a new step not which training left it. So nothing is
asked for while another training of the line may leave one, nor beside a version that nobody has decided on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rl.errors import InvalidInput, Later
from rl.remote import WANDB, artifact_of, is_remote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from db.at_service import Newer
    from db.jobs import Claim
    from rl.protocol import Beside

UNDECIDED_SECONDS: Final = 300.0
"""An evaluation takes minutes, and a person's word longer."""


def beside(session: Session, claim: Claim, parent: str | None) -> Beside:
    """What the process that asks the service is to know of it. ``parent`` is the URI of what the job goes on from,
    and None where it trains nothing.

    Raises:
        Later: another job of the line is about to go on with its training, or the newest version is not decided on.
    """
    from db import at_service
    from rl.protocol import Beside

    others = at_service.open_trainings(session, claim.line_id, claim.job_id)
    for one in others:
        if one.state == "queued":
            raise Later(f"job {one.job_id} of this line has asked the service for a training, and comes first")
    artifact = artifact_of(parent or "")
    asked = {one.job_id: one.remote for one in others}
    if artifact is None:
        return Beside(others=asked)
    newer = at_service.newer_versions(session, claim.line_id, f"{WANDB}{artifact.model}:", artifact.step)
    _check_decided(newer)
    return Beside(others=asked, newer={one.step: _what_then(one) for one in newer})


def check_not_taken(session: Session, claim: Claim, uris: Sequence[str]) -> None:
    """Raises ``InvalidInput`` where what a service made for the job is a version of the line already.

    One that was rejected does not count: its step may have been deleted there, and its number given to a new one.
    """
    from db import versions

    for uri in uris:
        if is_remote(uri) and (name := versions.remote_named(session, claim.line_id, uri)) is not None:
            remedy = f"it is {name} already, which `rlfleet adopt` made of it: `rlfleet jobs cancel {claim.job_id}`"
            raise InvalidInput("step", uri, f"{remedy} puts this job aside, and its windows stay to be trained on")


def _check_decided(newer: Sequence[Newer]) -> None:
    if not newer:
        return
    last = newer[-1]
    if last.state == "candidate":
        how = f"it is evaluated, or waits for `rlfleet approve`, `rlfleet deploy` or `rlfleet reject {last.name}`"
    elif last.stage == "canary":
        how = "it is a canary"
    else:
        return
    what = f"the service goes on only from {last.name}, its newest step, which is not decided on yet: {how}"
    raise Later(what, UNDECIDED_SECONDS)


def _what_then(one: Newer) -> str:
    """What a person can do about a step that is in the way; nothing that would take a live version's weights away."""
    if one.state == "rejected":
        return (
            f"it is {one.name}, which was rejected: delete that step with W&B, or have `rlfleet adopt` make it a"
            " version anew, to be evaluated again"
        )
    if one.stage is not None:
        return f"it is {one.name}, which is released: train on from it, with a new run where this is a round of one"
    return f"it is {one.name}: `rlfleet deploy {one.name}` has trainings go on from it, or delete that step with W&B"
