"""A training from what is stored: the frozen rows as the file that the child reads, and the command it is sent.

Every attempt of a job and `rlfleet reproduce` make both here, so that equal rows become equal bytes.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl.errors import DiskFull, NoTrainingData, OffPolicyRefused
from rl.protocol import BackendName, DatasetRow, TrainCommand

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.tables import DatasetTrajectory
    from rl.records import Call

DATASET = "dataset.jsonl"
CURATED = "curated.jsonl"


@dataclass(frozen=True)
class Start:
    """What a training goes on from: a folder with full weights, one with the parent's state, the version of both.

    ``folder`` holds an adapter on the base, or is the base itself where full weights go on.
    """

    base: str
    folder: str | None
    parent: str | None


@dataclass(frozen=True)
class Frozen:
    """The rows of a dataset in the order they are trained in, and the calls of each trajectory.

    ``ages`` says how many versions ago the policy of a trajectory was, where that is not 0.
    """

    rows: list[DatasetTrajectory]
    spoken: dict[str, list[Call]]
    ages: dict[str, int] = field(default_factory=dict)


def start_from(session: Session, base_model: str, version: str | None, config: Mapping[str, Any]) -> Start:
    """Where a training starts that goes on from ``version``; from ``base_model`` when there is none.

    One of full weights (no ``lora`` in its ``config``) goes on from the optimizer's state of full weights too.

    Raises:
        InvalidInput: there is no such version.
    """
    from db import versions

    if version is None:
        return Start(base_model, None, None)
    checkpoint = versions.named(session, version)[1]
    if checkpoint.kind == "full":
        return Start(checkpoint.uri, None if config.get("lora") else checkpoint.uri, version)
    return Start(checkpoint.base_uri, checkpoint.uri, version)


def read(session: Session, dataset_id: int) -> Frozen:
    """The dataset's rows with their calls."""
    from db import calls, datasets

    rows = datasets.rows_of(session, dataset_id)
    return Frozen(rows, calls.of_trajectories(session, [one.trajectory_id for one in rows]))


def aged(session: Session, line_id: int, frozen: Frozen, parent: str | None) -> Frozen:
    """``frozen``, whose calls versions of the line spoke, with how many versions before or after ``parent``.

    Calls that say nothing are nobody's.

    Raises:
        OffPolicyRefused: names the first call of another model, or without log-probabilities.
    """
    from db import versions

    places = versions.places(session, line_id)
    ages = {}
    for trajectory, calls in frozen.spoken.items():
        said = [call for call in calls if call.token_ids is None or call.token_ids]
        for call in said:
            if parent is None or call.model not in places or not call.has_tokens:
                raise OffPolicyRefused(
                    f"call {call.call_id} of trajectory {trajectory} was spoken by {call.model!r}"
                    f"{'' if call.has_tokens else ' without log-probabilities'}, and training goes on from {parent!r}:"
                    " use an objective for foreign data (sft, weighted_sft, dpo)"
                )
        ages[trajectory] = max((abs(places[call.model] - places[str(parent)]) for call in said), default=0)
    return replace(frozen, ages={name: age for name, age in ages.items() if age})


def in_text(session: Session, line_id: int, frozen: Frozen) -> Frozen:
    """``frozen`` with the text alone of calls that no version of the line spoke: their tokens are another model's."""
    from db import versions

    own = versions.places(session, line_id)
    return replace(frozen, spoken={name: _texts(calls, own) for name, calls in frozen.spoken.items()})


def _texts(calls: Sequence[Call], own: Container[str]) -> list[Call]:
    bare = {"prompt_token_ids": None, "token_ids": None, "logprobs": None}
    return [call if call.model in own else call.model_copy(update=bare) for call in calls]


def write(folder: Path, frozen: Frozen) -> tuple[Path, str]:
    """Write the file that the child reads, one ``DatasetRow`` a line. Returns its path and its SHA-256.

    Raises:
        DiskFull: there is no room for it.
    """
    return _written(folder / DATASET, _lines(frozen))


def curate(folder: Path, url: str, own: Container[str] = ()) -> tuple[Path, str]:
    """Write all usable rows of the source at ``url`` as a second such file, for ``ptx``; see ``write``.

    Of calls that none of the models ``own`` spoke, only the text.

    Raises:
        InvalidInput: there is no such source.
        NoTrainingData: it holds no usable row.
        DiskFull: there is no room for it.
    """
    import sources
    from rl.records import Trajectory

    rows = [one for one in sources.connect(url).read(None) if isinstance(one, Trajectory)]
    if not rows:
        raise NoTrainingData(f"no usable row in {url}, which config.ptx.source names")
    lines = (_line(one.trajectory_id, one.scenario_id, one.reward, _texts(one.calls, own)) for one in rows)
    return _written(folder / CURATED, lines)


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
    )


def _lines(frozen: Frozen) -> Iterator[bytes]:
    for one in frozen.rows:
        age = frozen.ages.get(one.trajectory_id, 0)
        yield _line(one.trajectory_id, one.group, one.score, frozen.spoken[one.trajectory_id], age)


def _line(trajectory: str, group: str, score: float, spoken: Sequence[Call], age: int = 0) -> bytes:
    calls = [call.model_dump(mode="json", exclude_none=True) for call in spoken]
    row = DatasetRow(trajectory_id=trajectory, group=group, score=score, calls=calls, staleness=age)
    # Without defaults: a field that a later rlfleet adds must not change the bytes of a row that has no use for it.
    return row.model_dump_json(exclude_defaults=True).encode() + b"\n"
