"""Which rows of a frozen dataset the optimizer steps of a version took.

A training takes as many rows as its steps have room for, which may be fewer than it chose. What it takes is said by
``rl.batches`` from the seed, the place in the lineage and the number of rows alone, so that it is found again here.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import text
from sqlalchemy.orm import Session

from rl.batches import batches, places_taken
from rl.config import TrainConfig
from rl.errors import InvalidInput
from rl.lessons import Learner, in_order
from rl.objectives import Cloning, Dpo, OnPolicy

CONFIG: TypeAdapter[TrainConfig] = TypeAdapter(TrainConfig)
MOST = 20_000
"""Rows of a dataset that the taken ones are looked for among; of larger ones only their number is told."""


@dataclass(frozen=True)
class Drawn:
    """``count`` of the ``chosen`` rows were taken: those of the trajectories ``names``, None where it is not known."""

    count: int
    chosen: int
    names: frozenset[str] | None = None

    def holds(self, trajectory_id: str) -> bool | None:
        """Whether a trajectory that was chosen was taken too; None where that is not known."""
        if self.count == self.chosen:
            return True
        return None if self.names is None else trajectory_id in self.names


ROWS = text("""
    select trajectory_id, "group", score from rlfleet.dataset_trajectories where dataset_id = :id
     order by "group" collate "C", trajectory_id collate "C" limit :most
""")


def drawn(
    session: Session,
    dataset: int,
    config: TrainConfig,
    manifest: Mapping[str, Any],
    step: int,
    left_out: Container[str] | None,
) -> Drawn | None:
    """What a version took of the ``dataset`` by its training's manifest; None where that does not say.

    ``step`` is that of the checkpoint that the version stands for: later ones are not its own. ``left_out`` are the
    rows that could not be used, whatever the objective; None where not all of them are known.
    """
    rows = manifest.get("rows") or {}
    if any(one is None for one in (rows.get("used"), manifest.get("step"), manifest.get("updates"))):
        return None
    chosen, done = int(rows["used"]), int(manifest["updates"])
    lineage = int(manifest["step"]) - done
    updates = min(max(step - lineage, 0), done)
    if isinstance(config, OnPolicy) and updates == done:
        return Drawn(chosen, chosen)
    if chosen > MOST:
        told = rows.get("drawn") if updates == done else None
        return None if told is None else Drawn(int(told), chosen)
    places = places_taken(batches(range(chosen), config, lineage), updates, chosen)
    if len(places) == chosen or isinstance(config, OnPolicy) or left_out is None or int(rows["read"]) > MOST:
        return Drawn(len(places), chosen)
    names = _in_order(session, dataset, config, left_out)
    if len(names) != chosen:
        return Drawn(len(places), chosen)
    return Drawn(len(places), chosen, frozenset(names[place] for place in places))


def never_drawn(
    session: Session, dataset: int, config: Mapping[str, Any], manifest: Mapping[str, Any], step: int
) -> int:
    """How many chosen rows a version did not take, as ``drawn`` tells them; 0 where that is not known.

    ``config`` is that of the training as it is stored.
    """
    rows = manifest.get("rows") or {}
    if step == manifest.get("step") and rows.get("drawn") is not None:
        return int(rows["used"]) - int(rows["drawn"])
    try:
        found = drawn(session, dataset, CONFIG.validate_python(config), manifest, step, None)
    except ValidationError:
        return 0
    return 0 if found is None else found.chosen - found.count


def _in_order(session: Session, dataset: int, config: Cloning | Dpo, left_out: Container[str]) -> list[str]:
    """The chosen trajectories in the order of the trainer's episodes; none where a score is no number."""
    found = session.execute(ROWS, {"id": dataset, "most": MOST + 1})
    learners = [Learner(*row) for row in found if row.trajectory_id not in left_out]
    try:
        return in_order(config, learners)
    except InvalidInput:
        return []
