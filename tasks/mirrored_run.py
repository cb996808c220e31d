"""A training as sinks are told of it: its numbers, and no word of what anybody said to a model.

Settings are sent as far as they are numbers, names and switches; text with a slash in it may be a path or a URL of
ours, and stays here.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl.windows import parse

if TYPE_CHECKING:
    from backends.sinks import Model, Run
    from backends.steps import Step
    from db.mirrored import Origin, Trained, Training


def run_of(training: Training, artifacts: Path) -> Run:
    """The run, with the steps of its file, or the fewer ones of its row where there is no file.

    Of one that has ended, the row's steps come after the last of the file as well: no more of them will be written.
    """
    from backends.sinks import Decided, Evaluated, Run
    from backends.steps import FILE, read
    from db.version_views import words_of

    trained = training.trained
    drawn, steps = _drawn(training), read(artifacts / "jobs" / str(training.job) / FILE)
    last = steps[-1].step if steps else 0
    if training.ended or not steps:
        steps += [one for one in drawn if one.step > last]
    own = trained.checkpoint.step if trained else 0
    evaluations = sorted(trained.evaluations if trained else (), key=lambda one: (one.is_own, one.step))
    return Run(
        key=key_of(training),
        name=trained.version.name if trained else f"job-{training.job}",
        group=_group(training),
        tags=(trained.version.name,) if trained else (),
        state=training.state,
        params=_params(training),
        steps=tuple(steps),
        evaluations=tuple(
            Evaluated(one.step, words_of(one.task_set), float(one.overall.k), one.overall.n) for one in evaluations
        ),
        decisions=tuple(
            Decided(one.released, one.policy, "" if one.actor else one.reason, _seconds(one.created_at))
            for one in (trained.decisions if trained else ())
        ),
        models=_models(trained, own),
        mark={
            "job": training.job,
            "fence": training.fence,
            "key": key_of(training),
            "step": max((one.step for one in (*steps[-1:], *drawn[-1:])), default=0),
            "ended": training.ended,
            "version": trained.version.id if trained else None,
            "facts": training.facts,
        },
    )


def key_of(origin: Origin) -> str:
    """The name that a run has for ever, also after its rows were restored elsewhere."""
    told = hashlib.sha256(f"{origin.line}/{origin.job}/{origin.created:.6f}".encode()).hexdigest()
    return f"job-{origin.job}-{told[:10]}"


def _group(training: Training) -> str:
    """The line, or the line and the run that its windows are rounds of."""
    runs = {parse(name).run for name in training.windows} - {None}
    return f"{training.line}/{runs.pop()}" if len(runs) == 1 else training.line


def _drawn(training: Training) -> list[Step]:
    from backends.steps import Step

    names = [name for name in training.curves if name != "step"]
    return [
        Step(step, {name: training.curves[name][at] for name in names if training.curves[name][at] is not None}, 0.0)
        for at, step in enumerate(training.curves.get("step", ()))
    ]


def _params(training: Training) -> dict[str, Any]:
    found: dict[str, Any] = {"job": training.job, "line": training.line, "windows": training.windows}
    found["config"] = _told(training.config)
    if trained := training.trained:
        version = trained.version
        found |= {"version": version.name, "parent": trained.parent, "base_model": Path(version.base_model).name}
        found |= {"dataset": version.manifest.get("dataset"), "sha256": trained.checkpoint.sha256}
    return found


def _told(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _told(one) for name, one in value.items() if not _is_place(one)}
    return [_told(one) for one in value if not _is_place(one)] if isinstance(value, list) else value


def _is_place(value: Any) -> bool:
    return isinstance(value, str) and "/" in value


def _models(trained: Trained | None, step: int) -> tuple[Model, ...]:
    """The version's checkpoint once it passed, until retention or an erasure takes it back; it may lie elsewhere."""
    from backends.sinks import Model
    from tasks.stored import here

    if trained is None or trained.version.state != "ready" or trained.version.erased_at is not None:
        return ()
    checkpoint = trained.checkpoint
    if checkpoint.kind == "remote" or checkpoint.removed_at is not None:
        return ()
    aliases = ("ready", *trained.live)
    folder = Path(here(checkpoint.uri))
    return (Model(trained.version.name, folder, checkpoint.kind, step, checkpoint.sha256, aliases),)


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
