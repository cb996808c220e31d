"""What a training clones beside its objective holds nothing that is held out, and neither does its reproduction."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from db import dispatch, jobs, lines, trajectories
from db.session import transaction
from fleet import reproduce
from rl.config import LineConfig
from rl.held_out import HeldOut, is_held_out
from rl.protocol import DatasetRow
from rl.records import Trajectory
from rl.scoring import by_reward
from tasks import training
from tasks.carry import Lease
from tests.db.test_lineage import HOUR, add_window
from tests.db.trained import add_version, release
from tests.tasks.held_out_line import NAMES, episode
from worker import settings as worker_settings

pytestmark = pytest.mark.usefixtures("fresh")
SETTING = HeldOut(share=0.4, salt="x", verifier="m:f")
KEPT = {name for name in NAMES if not is_held_out(name, 0.4, "x")}


def prepared(url: str) -> training.Plan:
    """What a training on the hour is told, with those rows beside it."""
    config = {
        "objective": "grpo",
        "lora": {"rank": 4},
        "optimizer": {"learning_rate": 1e-3},
        "ptx": {"coefficient": 0.5, "source": url},
    }
    with transaction() as session:
        lines.put(session, "main", LineConfig(base_model="/base", held_out=SETTING))
        line = lines.named(session, "main")
        parent = add_version(session, line, state="ready")
        release(session, parent)
        spoken = [said(episode(name), parent.name, place) for name in NAMES for place in range(2)]
        add_window(session, line, HOUR, spoken)
        scores = [by_reward(one.trajectory_id, place % 2) for place, one in enumerate(spoken)]
        trajectories.insert_scores(session, scores)
        job = dispatch.request(session, dispatch.Spec("train", line.id, {"windows": [HOUR]}, config, "gpu"))
    claim = jobs.claim(job, "a test", 60)
    assert claim is not None
    return training._prepare(claim, Lease(claim, 60))


def said(one: Trajectory, model: str, place: int) -> Trajectory:
    """The ``place``-th attempt at the same, with the tokens of that model."""
    tokens = {"prompt_token_ids": [1], "token_ids": [5], "logprobs": [-0.5]}
    call = one.calls[0].model_copy(update={"call_id": f"{one.scenario_id}/{place}", "model": model} | tokens)
    return one.model_copy(update={"trajectory_id": f"{one.scenario_id}/{place}", "calls": [call]})


def groups(path: str | Path | None) -> set[str]:
    return {DatasetRow.model_validate_json(line).group for line in Path(str(path)).read_text().splitlines()}


def test_curated_rows_are_chosen_as_the_dataset_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_ARTIFACTS", str(tmp_path / "artifacts"))
    worker_settings.settings.cache_clear()
    source = tmp_path / "curated.jsonl"
    source.write_text("".join(episode(name).model_dump_json() + "\n" for name in NAMES))
    plan = prepared(f"jsonl://{source}")
    assert 0 < len(KEPT) < len(NAMES)
    assert groups(plan.command.curated) == KEPT
    manifest = plan.manifest({})
    assert manifest["curated_held_out"] == {"share": 0.4, "salt": "x", "left_out": len(NAMES) - len(KEPT)}

    # The line holds out others by now: what the version was trained on is what its manifest says.
    with transaction() as session:
        lines.put(session, "main", LineConfig(base_model="/base", held_out=HeldOut(share=0.1, verifier="m:f")))
    shutil.rmtree(tmp_path / "artifacts")
    version = SimpleNamespace(manifest=manifest, line_id=1)
    made: Any = SimpleNamespace(version=version, checkpoint=SimpleNamespace(uri=str(tmp_path / "gone/step-1")))
    stored: Any = SimpleNamespace(made=made)
    again = reproduce._curated(stored, tmp_path / "again", f"jsonl://{source}")
    assert groups(again) == KEPT
