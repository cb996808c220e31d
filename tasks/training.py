"""What a training job does between its claim and its commit."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl.errors import DiskFull, NoTrainingData, OffPolicyRefused
from rl.protocol import DatasetRow, TrainCommand
from worker.child import resident
from worker.settings import settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.jobs import Claim
    from db.tables import Window
    from tasks.carry import Effect, Lease


@dataclass(frozen=True)
class Plan:
    """Everything that the child is told, and what the version row will say of it."""

    windows: list[int]
    names: list[str]
    dataset_sha256: str
    parent: str | None
    base_model: str
    command: TrainCommand


def train_on(claim: Claim, lease: Lease) -> Effect:
    """Train, and return the effect that stores checkpoints, version, and the windows' new state.

    Raises:
        OffPolicyRefused: an on-policy objective, and calls of another model or without log-probabilities.
        ChildLost: the child died or stalled.
        OutOfMemory: memory ran out, and says what the next attempt changes.
        Drained: the worker is going down, and says where the state was saved.
        DiskFull: there is no room for the dataset or a checkpoint.
    """
    from tasks.supervise import supervise

    plan = _prepare(claim)
    resident().wait_ready(lease.beat)
    written, manifest = supervise(resident(), plan.command, lease, {"stage": "train", "windows": plan.names})

    def effect(session: Session) -> dict[str, Any]:
        from db import lines, versions, windows

        line = lines.named(session, claim.line)
        parent = versions.named(session, plan.parent)[0].id if plan.parent else None
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
            base_model=plan.base_model,
            manifest=manifest | {"windows": plan.names, "dataset": plan.dataset_sha256, "parent": plan.parent},
        )
        for window in plan.windows:
            windows.move(session, window, "trained", f"job {claim.job_id} made {version.name}")
        return {"version": version.name, "windows": plan.names}

    return effect


def _prepare(claim: Claim) -> Plan:
    """Freeze the dataset (once for all attempts) and write the files that the child reads."""
    from db import calls, datasets, lines, trajectories, windows
    from db.session import transaction

    names, config = list(claim.inputs["windows"]), claim.config | (claim.adjust or {})
    with transaction() as session:
        line = lines.named(session, claim.line)
        rows = [windows.named(session, line.id, name) for name in names]
        found = trajectories.of_windows(session, [row.id for row in rows])
        usable = _usable(found, claim.config)
        about = {"windows": names, "config": claim.config, "left_out": len(found) - len(usable)}
        dataset = datasets.freeze(session, line.id, claim.job_id, [row.id for row in rows], usable, about)
        frozen = datasets.rows_of(session, dataset.id)
        spoken = calls.of_trajectories(session, [one.trajectory_id for one in frozen])
        base, adapter, parent = _start_from(session, line.id, lines.config_of(line).base_model, rows, claim.config)
    if not frozen:
        raise NoTrainingData(f"no scored trajectory in {', '.join(names)}: see what collecting them found")
    if claim.config["objective"] not in ("sft", "weighted_sft"):
        _refuse_foreign(spoken, parent)
    folder = settings().artifacts.resolve() / "jobs" / str(claim.job_id) / f"fence-{claim.fence}"
    lines_ = (
        DatasetRow(
            trajectory_id=one.trajectory_id,
            group=one.group,
            score=one.score,
            calls=[call.model_dump(mode="json", exclude_none=True) for call in spoken[one.trajectory_id]],
        ).model_dump_json()
        for one in frozen
    )
    path = _write(folder / "dataset.jsonl", "\n".join(lines_) + "\n")
    command = TrainCommand(
        job=claim.job_id,
        fence=claim.fence,
        dataset=str(path),
        out=str(folder),
        base=base,
        parent=adapter,
        config=config,
        resume=(claim.resume or {}).get("path"),
        save_seconds=settings().save_seconds,
    )
    return Plan([row.id for row in rows], names, dataset.sha256, parent, base, command)


def _usable(rows: list[Any], config: dict[str, Any]) -> list[Any]:
    """The scored trajectories, without those below the config's ``min_score``."""
    least = config.get("min_score")
    return [row for row in rows if row.score is not None and (least is None or row.score >= least)]


def _start_from(
    session: Session, line_id: int, base_model: str, rows: list[Window], config: dict[str, Any]
) -> tuple[str, str | None, str | None]:
    """The folder with full weights, the adapter to go on from, and the name of the version that both belong to.

    A round goes on from the version that played it; an hour from the line's newest version when it trains an
    adapter, and from the base model when it trains full weights.
    """
    from db import planning, versions

    name = planning.policy_of(session, rows[0]) if rows[0].run_id else None
    if name is None and config.get("lora") is not None:
        name = versions.stable_name(session, line_id)
    if name is None:
        return base_model, None, None
    checkpoint = versions.named(session, name)[1]
    if checkpoint.kind == "full":
        return checkpoint.uri, None, name
    return checkpoint.base_uri, checkpoint.uri, name


def _refuse_foreign(spoken: dict[str, list[Any]], parent: str | None) -> None:
    """Only calls of the version that training goes on from, with their log-probabilities, are on-policy.

    Raises:
        OffPolicyRefused: names the first call that is not.
    """
    for trajectory, calls in spoken.items():
        for call in calls:
            if call.model != parent or not call.has_tokens:
                raise OffPolicyRefused(
                    f"call {call.call_id} of trajectory {trajectory} was spoken by {call.model!r}"
                    f"{'' if call.has_tokens else ' without log-probabilities'}, and training goes on from {parent!r}:"
                    " use the sft objective for such data"
                )


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"{path}: no room left on this device; free some and `rlfleet jobs requeue` it") from error
        raise
    return path
