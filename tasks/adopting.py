"""A line's first version with ART's service: the model is registered there, and its newest step is a version of ours.

Nothing is trained. It is a job of kind ``train`` without windows, so that it is done once, and never beside a training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from rl.errors import InvalidInput, Later, StartError
from tasks import frozen
from worker.settings import settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.jobs import Claim
    from tasks.carry import Effect, Lease

KEY = "adopt"
"""In a job's inputs: what the service is to call the model."""


def request(session: Session, line: str) -> int:
    """Record that the line is to have a version there. The job's id, also of one that was asked for already.

    One that has ended without success gets new attempts.

    Raises:
        InvalidInput: there is no such line.
    """
    from db import jobs, lines, planning, versions
    from rl.planner import TRAIN_FIRST, Want

    row = lines.named(session, line)
    known = len(versions.places(session, row.id))
    inputs = {"windows": [], KEY: lines.prefix_of(row), "versions": known}
    job_id = planning.request(session, row.id, Want("train", "gpu", inputs, {}, TRAIN_FIRST))
    jobs.requeue(job_id, session)
    return job_id


def adopt(claim: Claim, lease: Lease) -> Effect:
    """Register the model, and return the effect that stores the version.

    Raises:
        InvalidSettings: no key of the service is set here.
        InvalidInput: the line has that very version already.
        Later: another job of the line is about to go on with a training there, which may have left the newest step; or
            that of one that has ended is not to be seen yet; or the service is away.
        MissingDependency: ART is not installed here.
        PermanentError, TransientError: the service refuses it, or does not answer.
    """
    from backends.art import ArtServerless
    from db import lines, versions
    from db.session import transaction
    from rl.protocol import TrainCommand
    from tasks.beside import beside
    from tasks.supervise import supervise

    backend = ArtServerless()
    with transaction() as session:
        base = lines.config_of(lines.named(session, claim.line)).base_model
        others = beside(session, claim, None)
    folder = settings().artifacts.resolve() / "jobs" / str(claim.job_id) / f"fence-{claim.fence}"
    command = TrainCommand(
        backend=backend.name,
        job=claim.job_id,
        fence=claim.fence,
        dataset="",
        out=str(folder),
        base=base,
        config={},
        model=str(claim.inputs[KEY]),
        beside=others,
    )
    try:
        written, manifest = supervise(backend.place(_no_child), command, lease, {"stage": KEY})
    except Later:
        frozen.remove(command)
        raise
    (last,) = written
    told = {
        "asked": backend.name,
        "used": backend.name,
        "why": "it was asked to register the model; nothing is trained",
    }

    def effect(session: Session) -> dict[str, Any]:
        line = lines.named(session, claim.line)
        if (name := versions.remote_named(session, line.id, last.path)) is not None:
            raise InvalidInput(KEY, last.path, f"it is {name} already: the service has nothing newer")
        version = versions.add(
            session,
            line=line,
            prefix=lines.prefix_of(line),
            job_id=claim.job_id,
            fence=claim.fence,
            checkpoints=[versions.NewCheckpoint(last.step, last.kind, last.path, base, last.sha256, last.metrics)],
            parent_id=None,
            base_model=base,
            manifest={"windows": [], "parent": None, "base": base, "backend": {**manifest["backend"], **told}},
        )
        return {"version": version.name, "step": last.step}

    return effect


def _no_child() -> NoReturn:
    raise StartError("a service trains elsewhere: the device's child is not started for it")
