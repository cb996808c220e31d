"""What a training job does between its claim and its commit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rl.errors import NoTrainingData
from rl.objectives import is_on_policy
from tasks import frozen
from worker.child import resident
from worker.settings import settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from backends.choose import Choice
    from db.jobs import Claim
    from db.tables import Window
    from rl.protocol import TrainCommand
    from tasks.carry import Effect, Lease
    from tasks.frozen import Start
    from worker.child import Child


@dataclass(frozen=True)
class Plan:
    """Everything that the child is told, and what the version row will say of it."""

    windows: list[int]
    names: list[str]
    hashes: dict[str, str]
    start: Start
    command: TrainCommand
    choice: Choice

    def manifest(self) -> dict[str, Any]:
        """What the version's manifest says of its inputs; ``dataset_file`` is of the very bytes that were read."""
        start = {"parent": self.start.parent, "base": self.start.base}
        return {"windows": self.names, **self.hashes, **start, "backend": self.choice.manifest()}


def train_on(claim: Claim, lease: Lease) -> Effect:
    """Train, and return the effect that stores checkpoints, version, and the windows' new state.

    Raises:
        InvalidSettings: ``TRAIN_BACKEND`` names none that would honour the config.
        OffPolicyRefused: an on-policy objective, and calls of another model or without log-probabilities.
        ChildLost: the child died or stalled.
        OutOfMemory: memory ran out, and says what the next attempt changes.
        Drained: the worker is going down, and says where the state was saved.
        DiskFull: there is no room for the dataset or a checkpoint.
    """
    from tasks.supervise import supervise

    plan = _prepare(claim)
    place = plan.choice.backend.place(partial(_child, lease))
    written, manifest = supervise(place, plan.command, lease, {"stage": "train", "windows": plan.names})

    def effect(session: Session) -> dict[str, Any]:
        from db import lines, versions, windows

        line = lines.named(session, claim.line)
        parent = versions.named(session, plan.start.parent)[0].id if plan.start.parent else None
        version = versions.add(
            session,
            line=line,
            prefix=lines.prefix_of(line),
            job_id=claim.job_id,
            fence=claim.fence,
            checkpoints=[
                versions.NewCheckpoint(one.step, one.kind, one.path, plan.command.base, one.sha256, one.metrics)
                for one in written
            ],
            parent_id=parent,
            base_model=plan.start.base,
            manifest=manifest | plan.manifest(),
        )
        for window in plan.windows:
            windows.move(session, window, "trained", f"job {claim.job_id} made {version.name}")
        return {"version": version.name, "windows": plan.names}

    return effect


def _child(lease: Lease) -> Child:
    """The device's child, once it is ready."""
    resident().wait_ready(lease.beat)
    return resident()


def _prepare(claim: Claim) -> Plan:
    """Freeze the dataset (once for all attempts) and write the files that the child reads."""
    from backends.choose import choose
    from backends.settings import settings as backend_settings
    from db import datasets, lines, trajectories, versions, windows
    from db.session import transaction

    names, config = list(claim.inputs["windows"]), claim.config | (claim.adjust or {})
    choice = choose(backend_settings().backend, config)
    with transaction() as session:
        line = lines.named(session, claim.line)
        rows = [windows.named(session, line.id, name) for name in names]
        found = trajectories.of_windows(session, [row.id for row in rows])
        usable = _usable(found, claim.config)
        about = {"windows": names, "config": claim.config, "left_out": len(found) - len(usable)}
        dataset = datasets.freeze(session, line.id, claim.job_id, [row.id for row in rows], usable, about)
        kept = frozen.read(session, dataset.id)
        goes_on_from = _goes_on_from(session, line.id, rows, claim.config)
        start = frozen.start_from(session, lines.config_of(line).base_model, goes_on_from, claim.config)
        if is_on_policy(claim.config["objective"]):
            kept = frozen.aged(session, line.id, kept, start.parent)
        else:
            kept = frozen.in_text(session, line.id, kept)
        own = versions.places(session, line.id)
    if not kept.rows:
        raise NoTrainingData(f"no scored trajectory in {', '.join(names)}: see what collecting them found")
    folder = settings().artifacts.resolve() / "jobs" / str(claim.job_id) / f"fence-{claim.fence}"
    path, written = frozen.write(folder, kept)
    beside = frozen.curate(folder, config["ptx"]["source"], own) if config.get("ptx") else None
    resume = (claim.resume or {}).get("path")
    command = frozen.command_for(
        claim.job_id,
        claim.fence,
        start,
        path,
        config,
        resume=resume,
        save_seconds=settings().save_seconds,
        curated=beside and beside[0],
        backend=choice.backend.name,
    )
    hashes = {"dataset": dataset.sha256, "dataset_file": written} | ({"curated_file": beside[1]} if beside else {})
    return Plan([row.id for row in rows], names, hashes, start, command, choice)


def _usable(rows: list[Any], config: dict[str, Any]) -> list[Any]:
    """The scored trajectories, without those below the config's ``min_score``."""
    least = config.get("min_score")
    return [row for row in rows if row.score is not None and (least is None or row.score >= least)]


def _goes_on_from(session: Session, line_id: int, rows: list[Window], config: dict[str, Any]) -> str | None:
    """The name of the version that training goes on from; None for the line's base model.

    A round goes on from the version that played it; an hour from the line's newest version when it trains an
    adapter, and from the base model when it trains full weights.
    """
    from db import planning, versions

    if rows[0].run_id:
        return planning.policy_of(session, rows[0])
    return versions.stable_name(session, line_id) if config.get("lora") is not None else None
