"""What a training job does between its claim and its commit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rl.errors import Later, NoTrainingData, PermanentError
from rl.objectives import is_on_policy
from tasks import frozen, storing
from tasks.beside import beside, check_not_taken
from tasks.engine import announce
from worker.child import resident
from worker.settings import settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from backends.choose import Choice
    from db.jobs import Claim
    from db.tables import Dataset, Window
    from rl.protocol import Remote, TrainCommand
    from tasks.carry import Effect, Lease
    from tasks.frozen import Start
    from worker.child import Child


AT_ONCE = 200
"""The calls of so many trajectories are in memory at once."""
MOST_NAMED = 5
"""So many windows and reasons a message names."""


@dataclass(frozen=True)
class Plan:
    """Everything that the child is told, and what the version row will say of it.

    ``inputs`` are hashes of files, and what was held out of the curated one.
    """

    dataset: int
    names: list[str]
    inputs: dict[str, Any]
    start: Start
    command: TrainCommand
    choice: Choice

    def manifest(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """The version's manifest: what was ``said`` of the training, and its inputs.

        ``dataset_file`` is of the very bytes that were read.
        """
        start: dict[str, Any] = {"parent": self.start.parent, "base": self.command.base}
        if self.start.step is not None:
            start["parent_step"] = self.start.step
        backend = {**said.get("backend", {}), **self.choice.manifest()}
        return {**said, "windows": self.names, **self.inputs, **start, "backend": backend}


def train_on(claim: Claim, lease: Lease) -> Effect:
    """Train, and return the effect that stores checkpoints, version, and the windows' new state.

    Raises:
        InvalidSettings: ``TRAIN_BACKEND`` names none that would honour the config.
        OffPolicyRefused: an on-policy objective, and calls of another model or without log-probabilities.
        ChildLost: the child died or stalled.
        OutOfMemory: memory ran out, and says what the next attempt changes.
        Drained: the worker is going down, and says where the state was saved.
        DiskFull: there is no room for the dataset or a checkpoint.
        Later: something else of the line must end first with the service that is to train; see ``tasks.beside``.
        NoTrainingData: nothing is left to learn from, or it is a round that was given up; says why.
    """
    from tasks.supervise import supervise

    plan = _prepare(claim, lease)
    place = plan.choice.backend.place(partial(_child, lease))
    try:
        written, manifest = supervise(place, plan.command, lease, {"stage": "train", "windows": plan.names})
    except Later:  # so it comes again and again, and writes its files each time
        frozen.remove(plan.command)
        raise
    there = storing.at_once(written, lease)

    def effect(session: Session) -> dict[str, Any]:
        from db import freezing, lines, versions

        line = lines.named(session, claim.line)
        check_not_taken(session, claim, [one.path for one in written])
        parent = versions.named(session, plan.start.parent)[0].id if plan.start.parent else None
        version = versions.add(
            session,
            line=line,
            prefix=lines.prefix_of(line),
            job_id=claim.job_id,
            fence=claim.fence,
            checkpoints=[
                versions.NewCheckpoint(one.step, one.kind, one.path, plan.start.base, one.sha256, one.metrics)
                for one in written
            ],
            parent_id=parent,
            base_model=plan.start.base,
            manifest=plan.manifest(manifest),
        )
        storing.note_new(session, claim.job_id, there)
        freezing.mark_trained(session, plan.dataset, f"job {claim.job_id} made {version.name}")
        return {"version": version.name, "windows": plan.names}

    return effect


def _child(lease: Lease) -> Child:
    """The device's child, once it is ready and known: while it trains, nothing else here would say where it serves."""
    announce(lease.beat)
    return resident()


def _prepare(claim: Claim, lease: Lease) -> Plan:
    """Freeze the dataset (once for all attempts), write the files that the child reads, and have its weights here."""
    from backends.choose import choose
    from backends.settings import settings as backend_settings
    from db import lines, versions, windows
    from db.session import transaction

    names, config = list(claim.inputs["windows"]), claim.config | (claim.adjust or {})
    with transaction() as session:
        line = lines.named(session, claim.line)
        rows = [windows.named(session, line.id, name) for name in names]
        origin = _asked_of(session, claim) or goes_on_from(session, line.id, rows[0], claim.config)
        start = frozen.start_from(session, lines.config_of(line).base_model, origin, claim.config)
        own, model = versions.places(session, line.id), lines.prefix_of(line)
    choice = choose(backend_settings().backend, config, start.folder or start.base)
    is_thawed = _thaw(claim)
    remote = _remote(claim, is_thawed)
    others = None
    if choice.backend.name == "art-serverless" and remote is None:
        with transaction() as session:
            others = beside(session, claim, start.folder)
    resume = None if is_thawed else (claim.resume or {}).get("path")
    _check_rounds(claim.line_id, names)
    dataset = _freeze(claim, names)
    kept = frozen.Frozen(dataset.id, own, is_on_policy(claim.config["objective"]), start.parent)
    here = _here(start, lease)  # before its files are written: who waits for the store comes again and again
    folder = settings().artifacts.resolve() / "jobs" / str(claim.job_id) / f"fence-{claim.fence}"
    path, written = frozen.write(folder, kept)
    held = dataset.manifest.get("held_out")
    curated = frozen.curate(folder, config["ptx"]["source"], own, held) if config.get("ptx") else None
    command = frozen.command_for(
        claim.job_id,
        claim.fence,
        here,
        path,
        config,
        resume=resume,
        save_seconds=settings().save_seconds,
        curated=curated and curated.path,
        backend=choice.backend.name,
        model=model,
        remote=remote,
        others=others,
    )
    inputs: dict[str, Any] = {"dataset": dataset.sha256, "dataset_file": written}
    if curated:
        left_out = {"curated_held_out": held | {"left_out": curated.left_out}} if held else {}
        inputs |= {"curated_file": curated.sha256} | left_out
    return Plan(dataset.id, names, inputs, start, command, choice)


def _here(start: Start, lease: Lease) -> Start:
    """Where its folders are on this host; see ``tasks.stored.fetched`` for what it raises."""
    from tasks.stored import at_hand

    folder = at_hand(start.folder, lease) if start.folder else None
    return replace(start, base=at_hand(start.base, lease), folder=folder)


def _thaw(claim: Claim) -> bool:
    """Whether what an earlier attempt froze and saved may not be used any more. Its dataset files are gone then."""
    from db import freezing
    from db.session import transaction
    from tasks.prune import remove_dataset_files

    with transaction() as session:
        is_gone = freezing.thaw(session, claim.job_id)
        if is_gone:
            remove_dataset_files(settings().artifacts.resolve(), [claim.job_id])
    return is_gone


def _asked_of(session: Session, claim: Claim) -> str | None:
    """The version that a service was asked to go on from by an earlier attempt; another may be stable by now."""
    from db import versions

    known = (claim.resume or {}).get("remote")
    return versions.remote_at(session, claim.line_id, known["newest"], known.get("parent")) if known else None


def _remote(claim: Claim, is_thawed: bool) -> Remote | None:
    """How far an earlier attempt came with a service.

    Raises:
        PermanentError: what was sent to it holds a trajectory that may not be trained on any more.
    """
    from rl.protocol import Remote

    known = (claim.resume or {}).get("remote")
    if not known:
        return None
    if is_thawed or (claim.resume or {}).get("erased"):
        remedy = (
            f"look with W&B for a checkpoint newer than step {known['newest']} and delete it there;"
            f" `rlfleet jobs requeue {claim.job_id}` then trains on what is left"
        )
        raise PermanentError(f"trajectories that were sent to a service were erased or refused since: {remedy}")
    return Remote.model_validate(known)


def _check_rounds(line_id: int, names: Sequence[str]) -> None:
    """Raises ``NoTrainingData`` for a round of a run that was given up, as somebody may have asked for it before."""
    from db import rounds, windows
    from db.session import transaction

    with transaction() as session:
        for window in (windows.named(session, line_id, name) for name in names):
            if window.run_id is not None:
                rounds.check_trainable(session, window)


def _freeze(claim: Claim, names: Sequence[str]) -> Dataset:
    """The job's dataset, in a short transaction of its own: rows cannot be added to the windows before it ends.

    An empty one does not stay, so that a later attempt looks again.
    """
    from db import freezing, lines
    from db.session import transaction

    try:
        with transaction() as session:
            line = lines.named(session, claim.line)
            dataset = freezing.freeze(session, line, claim.job_id, names, claim.config)
            if not dataset.manifest["trajectories"]:
                raise NoTrainingData(_nothing(names, dataset.manifest))
    except NoTrainingData:
        with transaction() as session:
            _check_policy(session, claim.line_id, names, claim.config)
        raise
    return dataset


def _check_policy(session: Session, line_id: int, names: Sequence[str], config: Mapping[str, Any]) -> None:
    """Where nothing is left of the windows: that the objective may not have their calls is the better reason.

    Raises:
        OffPolicyRefused: names the first call of another model, or without log-probabilities.
    """
    from db import calls, trajectories, versions, windows

    if not is_on_policy(config["objective"]):
        return
    rows = [windows.named(session, line_id, name) for name in names]
    parent, own = goes_on_from(session, line_id, rows[0], config), versions.places(session, line_id)
    scored = [one for one in trajectories.of_windows(session, [row.id for row in rows]) if one.score is not None]
    ids = [one.trajectory_id for one in sorted(scored, key=lambda one: (one.window, one.comparison, one.trajectory_id))]
    for first in range(0, len(ids), AT_ONCE):
        for name, spoken in calls.of_trajectories(session, ids[first : first + AT_ONCE]).items():
            frozen.age_of(name, spoken, own, parent)


def _nothing(names: Sequence[str], manifest: Mapping[str, Any]) -> str:
    """Why the dataset is empty."""
    shown = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    counts = list((manifest.get("skipped") or {}).items())
    if not counts:
        return f"no trajectory in {shown}: see what collecting found there"
    reasons = "; ".join(f"{count} {reason}" for reason, count in counts[:MOST_NAMED])
    others = sum(count for _, count in counts[MOST_NAMED:])
    return f"nothing to learn from in {shown}: {reasons}" + (f"; {others} for other reasons" if others else "")


def goes_on_from(session: Session, line_id: int, first: Window | None, config: Mapping[str, Any]) -> str | None:
    """The name of the version that training on ``first`` and others goes on from; None for the line's base model.

    A round goes on from the version that played it; of hours see ``db.freezing.goes_on_from``.
    """
    from db import freezing, planning

    if first is not None and first.run_id:
        return planning.policy_of(session, first)
    return freezing.goes_on_from(session, line_id, config)
