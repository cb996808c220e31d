"""Of a frozen dataset exactly those rows count as learned from that the steps of the version took."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import datasets, dispatch, drawn_rows, frozen_groups, lineage, lines, trajectories, versions
from db.frozen_groups import Frozen
from db.session import transaction
from rl.batches import batches
from rl.config import TrainConfig
from rl.records import Trajectory
from rl.scoring import ScoreRow
from tests.admin.looked import AT, HOUR, add_window
from tests.db import chains

CONFIG: TypeAdapter[TrainConfig] = TypeAdapter(TrainConfig)
IDS = [f"{group}{number}" for group in "abcdefgh" for number in range(8)]
LINEAGE = 30
"""Steps that the lineage had come when the training began."""


@pytest.fixture
def session(fresh: str) -> Iterator[Session]:
    with transaction() as opened:
        yield opened


def learned(
    session: Session, fields: dict[str, Any], rows: dict[str, Any], *, steps: tuple[int, ...] = (2,), **manifest: object
) -> dict[str, Frozen]:
    """64 trajectories of 8 groups frozen, and a version with a checkpoint after each of ``steps``, the last its own."""
    line = chains.add_line(session)
    shared = {"agent_id": "a", "started_at": AT, "ended_at": AT, "reward": 0.0, "calls": []}
    found = [Trajectory(trajectory_id=name, scenario_id=f"s/{name[0]}", **shared) for name in IDS]
    window = add_window(session, line, HOUR, found)
    scores = [ScoreRow(name, "judge", "7", f"h-{name}", int(name[1]) / 8).row() for name in IDS]
    trajectories.insert_scores(session, scores)
    config = {"optimizer": {"learning_rate": 0.001}} | fields
    job_id = dispatch.request(session, dispatch.Spec("train", line.id, {"windows": [HOUR]}, config, "gpu"))
    scored = trajectories.of_windows(session, [window])
    datasets.freeze(session, line.id, job_id, [window], scored, {"windows": [HOUR], "config": config, "left_out": 0})
    made = [versions.NewCheckpoint(LINEAGE + one, "adapter", f"/{one}", "/base", f"{one:064}", {}) for one in steps]
    told = {"rows": {"read": 64, "skipped": {}, "named": {}} | rows, "step": LINEAGE + steps[-1], "updates": steps[-1]}
    prefix = lines.prefix_of(line)
    versions.add(
        session,
        line=line,
        prefix=prefix,
        job_id=job_id,
        fence=1,
        checkpoints=made,
        parent_id=None,
        base_model="random-qwen3",
        manifest=told | manifest,
    )
    return {name: one for name, (one,) in frozen_groups.holding(session, IDS).items()}


def stand_for(session: Session, step: int) -> None:
    """The version stands for its checkpoint of ``step``."""
    change = "update rlfleet.versions set checkpoint_id = c.id from rlfleet.checkpoints c where c.step = :step"
    session.execute(text(change), {"step": step})


def taken(fields: dict[str, Any], order: list[str], steps: int = 2) -> set[str]:
    """What the trainer's steps take of its episodes."""
    config = CONFIG.validate_python({"optimizer": {"learning_rate": 0.001}} | fields)
    return {one for batch in list(batches(order, config, LINEAGE))[:steps] for one in batch}


@pytest.mark.parametrize(
    ("fields", "order"),
    [
        ({"objective": "sft", "steps": 2, "batch_episodes": 4, "seed": 5}, IDS),
        ({"objective": "weighted_sft", "steps": 2, "batch_episodes": 4}, IDS),
        ({"objective": "dpo", "steps": 2, "batch_pairs": 2}, [f"{group}{one}" for group in "abcdefgh" for one in "70"]),
        ({"objective": "sft", "steps": 2, "batch_episodes": 4, "min_score": 0.5}, [one for one in IDS if one[1] > "3"]),
    ],
    ids=["sft", "weighted_sft", "dpo", "min_score"],
)
def test_who_no_step_took_was_not_learned_from(session: Session, fields: dict[str, Any], order: list[str]) -> None:
    found = learned(session, fields, {"used": len(order)})
    trained = {name for name, one in found.items() if one.learned == "yes"}
    assert trained == taken(fields, order)
    assert len(trained) == 8
    assert {one.learned for one in found.values()} == {"yes", "no"}
    drawn = found["a0"].drawn
    assert drawn is not None
    assert (drawn.count, drawn.chosen) == (8, len(order))


def test_a_row_that_was_left_out_moves_the_others(session: Session) -> None:
    fields = {"objective": "sft", "steps": 2, "batch_episodes": 4}
    rows = {"used": 63, "skipped": {"longer than the context": 1}, "named": {"longer than the context": ["c3"]}}
    found = learned(session, fields, rows)
    trained = {name for name, one in found.items() if one.learned == "yes"}
    assert trained == taken(fields, [one for one in IDS if one != "c3"])
    assert (found["c3"].learned, found["c3"].left_out) == ("no", "longer than the context")


def test_where_not_all_that_were_left_out_are_named_nobody_knows_who_was_drawn(session: Session) -> None:
    fields = {"objective": "sft", "steps": 2, "batch_episodes": 4}
    found = learned(session, fields, {"used": 62, "skipped": {"longer than the context": 2}})
    assert {one.learned for one in found.values()} == {"not known"}
    assert {(one.is_drawn, one.drawn) for one in found.values()} == {(None, drawn_rows.Drawn(8, 62))}


def test_an_earlier_checkpoint_stands_for_its_own_steps(session: Session) -> None:
    fields = {"objective": "sft", "steps": 3, "batch_episodes": 4}
    learned(session, fields, {"used": 64}, steps=(1, 3))
    stand_for(session, LINEAGE + 1)
    found = {name: one for name, (one,) in frozen_groups.holding(session, IDS).items()}
    assert {name for name, one in found.items() if one.learned == "yes"} == taken(fields, IDS, 1)


@pytest.mark.parametrize("told", [{}, {"drawn": 12}], ids=["not counted", "counted"])
def test_what_a_version_is_made_of_counts_to_the_checkpoint_that_it_stands_for(
    session: Session, told: dict[str, int]
) -> None:
    learned(session, {"objective": "sft", "steps": 3, "batch_episodes": 4}, {"used": 64} | told, steps=(1, 3))
    assert lineage.explain(session, "v1.0.0").left_out == {lineage.NOT_DRAWN: 52}
    stand_for(session, LINEAGE + 1)
    assert lineage.explain(session, "v1.0.0").left_out == {lineage.NOT_DRAWN: 60}


def test_of_a_training_whose_config_is_of_another_release_nobody_knows_what_was_drawn(session: Session) -> None:
    fields = {"objective": "sft", "steps": 3, "batch_episodes": 4}
    learned(session, fields, {"used": 64, "drawn": 12}, steps=(1, 3), config={"objective": "gone"})
    stand_for(session, LINEAGE + 1)
    assert lineage.explain(session, "v1.0.0").left_out == {}


def test_a_training_that_went_over_all_rows_learned_from_all(session: Session) -> None:
    found = learned(session, {"objective": "sft", "steps": 2, "batch_episodes": 64}, {"used": 64})
    assert {one.learned for one in found.values()} == {"yes"}


def test_of_a_version_that_does_not_say_how_far_it_came_nothing_is_known(session: Session) -> None:
    fields = {"objective": "sft", "steps": 2, "batch_episodes": 4, "observation_weight": 0.5}
    found = learned(session, fields, {"used": 64}, updates=None)
    assert {(one.learned, one.drawn, one.observation_weight) for one in found.values()} == {("not known", None, 0.5)}
