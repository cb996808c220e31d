"""A training from what is stored: the frozen rows as the file that the child reads, and the command it is sent.

Every attempt of a job and `rlfleet reproduce` make both here, so that equal rows become equal bytes.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rl.errors import DiskFull, NoTrainingData, OffPolicyRefused
from rl.protocol import BackendName, Beside, DatasetRow, Remote, TrainCommand

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from rl.dataset_line import StoredCall
    from rl.records import Call, Trajectory

DATASET = "dataset.jsonl"
CURATED = "curated.jsonl"


@dataclass(frozen=True)
class Start:
    """What a training goes on from: a folder with full weights, one with the parent's state, the version of both.

    ``folder`` holds an adapter on the base, or is the base itself where full weights go on; of a parent that lies with
    a service it is the name there. ``step`` is that of the parent's checkpoint.
    """

    base: str
    folder: str | None
    parent: str | None
    step: int | None = None


@dataclass(frozen=True)
class Frozen:
    """A frozen dataset, and whose calls count as what in it.

    ``own`` are the line's versions with their places. On-policy training goes on from ``parent``, and every call is one
    of theirs; for any other objective the calls of other models are text, because their tokens are another model's.
    """

    dataset_id: int
    own: Mapping[str, int]
    is_on_policy: bool
    parent: str | None


class Curated(NamedTuple):
    """A file of rows for ``ptx``, its SHA-256, and how many rows of its source are not in it as they are held out."""

    path: Path
    sha256: str
    left_out: int


def start_from(
    session: Session, base_model: str, version: str | None, config: Mapping[str, Any], step: int | None = None
) -> Start:
    """Where a training starts that goes on from ``version``; from ``base_model`` when there is none.

    It goes on from the version's checkpoint, or from the one of ``step``. One of full weights (no ``lora`` in its
    ``config``) goes on from the optimizer's state of full weights too.

    Raises:
        InvalidInput: there is no such version, or it has no checkpoint of that step.
    """
    from db import checkpoints, versions

    if version is None:
        return Start(base_model, None, None)
    row, checkpoint = versions.named(session, version)
    if step is not None and step != checkpoint.step:
        checkpoint = checkpoints.at_step(session, row, step)
    if checkpoint.kind == "full":
        return Start(checkpoint.uri, None if config.get("lora") else checkpoint.uri, version, checkpoint.step)
    return Start(checkpoint.base_uri, checkpoint.uri, version, checkpoint.step)


def age_of(trajectory: str, calls: Sequence[StoredCall | Call], own: Mapping[str, int], parent: str | None) -> int:
    """How many versions before or after ``parent`` spoke the calls; those that say nothing are nobody's.

    Raises:
        OffPolicyRefused: names the first call of another model than ``own``, or without log-probabilities.
    """
    said = [call for call in calls if call.token_ids is None or call.token_ids]
    for call in said:
        if parent is None or call.model not in own or not call.has_tokens:
            raise OffPolicyRefused(
                f"call {call.call_id} of trajectory {trajectory} was spoken by {call.model!r}"
                f"{'' if call.has_tokens else ' without log-probabilities'}, and training goes on from {parent!r}:"
                " use an objective for foreign data (sft, weighted_sft, dpo)"
            )
    return max((abs(own[call.model] - own[str(parent)]) for call in said), default=0)


def write(folder: Path, frozen: Frozen) -> tuple[Path, str]:
    """Write the file that the child reads, one ``DatasetRow`` a line. Returns its path and its SHA-256.

    The calls are streamed: what is held in memory does not grow with the dataset.

    Raises:
        OffPolicyRefused: training is on-policy; names the first call of another model, or without log-probabilities.
        DatabaseUnavailable: the database went away.
        DiskFull: there is no room for it.
    """
    from db import streaming

    with streaming.snapshot() as session:
        return _written(folder / DATASET, _lines(session, frozen))


def curate(folder: Path, url: str, own: Container[str], held_out: Mapping[str, Any] | None) -> Curated:
    """Write all usable rows of the source at ``url`` as a second such file, for ``ptx``; see ``write``.

    Of calls that none of the models ``own`` spoke, only the text. None of those whose owner refused consent, and none
    of a scenario that is held out by the ``share`` and ``salt`` of ``held_out``, as a dataset's manifest has them.

    Raises:
        InvalidInput: there is no such source.
        NoTrainingData: it holds no usable row.
        DiskFull: there is no room for it.
    """
    import sources
    from db import withdrawals
    from db.session import transaction
    from rl.held_out import is_held_out
    from rl.records import Trajectory

    rows = [one for one in sources.connect(url).read(None) if isinstance(one, Trajectory) and one.consent is not False]
    with transaction() as session:
        refused = withdrawals.refused(session, [one.trajectory_id for one in rows])
    rows = [one for one in rows if one.trajectory_id not in refused]
    share, salt = (float(held_out["share"]), str(held_out["salt"])) if held_out else (0.0, "")
    kept = [one for one in rows if not is_held_out(one.scenario_id, share, salt)]
    if not kept:
        why = f": all {len(rows)} are held out for evaluation" if rows else ""
        raise NoTrainingData(f"no usable row in {url}, which config.ptx.source names{why}")
    return Curated(*_written(folder / CURATED, (_line(one, own) for one in kept)), len(rows) - len(kept))


def remove(command: TrainCommand) -> None:
    """Remove the folder of an attempt that did not begin, dataset and log: the next one writes its own."""
    shutil.rmtree(command.out, ignore_errors=True)


def _written(path: Path, lines: Iterable[bytes]) -> tuple[Path, str]:
    total = hashlib.sha256()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for line in lines:
                total.update(line)
                file.write(line)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"{path}: no room left on this device; free some and `rlfleet jobs requeue` it") from error
        raise
    return path, total.hexdigest()


def command_for(
    job_id: int,
    fence: int,
    start: Start,
    dataset: Path,
    config: Mapping[str, Any],
    resume: str | None = None,
    save_seconds: float = 0.0,
    curated: Path | None = None,
    backend: BackendName = "local",
    model: str | None = None,
    remote: Remote | None = None,
    others: Beside | None = None,
) -> TrainCommand:
    """What the child is told; it writes beside ``dataset``."""
    return TrainCommand(
        backend=backend,
        job=job_id,
        fence=fence,
        dataset=str(dataset),
        curated=None if curated is None else str(curated),
        out=str(dataset.parent),
        base=start.base,
        parent=start.folder,
        config=dict(config),
        resume=resume,
        save_seconds=save_seconds,
        model=model,
        remote=remote,
        beside=others or Beside(),
    )


def _lines(session: Session, frozen: Frozen) -> Iterator[bytes]:
    from db import streaming
    from rl.dataset_line import dataset_line

    for one, calls in streaming.of_dataset(session, frozen.dataset_id):
        if frozen.is_on_policy:
            age, kept = age_of(one.trajectory_id, calls, frozen.own, frozen.parent), calls
        else:
            age, kept = 0, [call if call.model in frozen.own else call.in_text() for call in calls]
        yield dataset_line(one.trajectory_id, one.group, one.score, kept, age)


def _line(row: Trajectory, own: Container[str]) -> bytes:
    """The line of a trajectory that comes from a source; without the tokens that none of ``own`` spoke."""
    calls = [_text(call, own).model_dump(mode="json", exclude_none=True) for call in row.calls]
    line = DatasetRow(trajectory_id=row.trajectory_id, group=row.scenario_id, score=row.reward, calls=calls)
    # Without defaults: a field that a later rlfleet adds must not change the bytes of a row that has no use for it.
    return line.model_dump_json(exclude_defaults=True).encode() + b"\n"


def _text(call: Call, own: Container[str]) -> Call:
    bare = {"prompt_token_ids": None, "token_ids": None, "logprobs": None}
    return call if call.model in own else call.model_copy(update=bare)
