"""Train commands carried out by TRL, beside the same commands carried out by our own trainer."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpu import trainer, trl_trainer
from gpu.checkpoints import digest, read_optimizer, read_record
from gpu.policy import Policy
from rl.protocol import CheckpointWritten, Done
from tests.gpu.trl_cases import (
    GRPO,
    SFT,
    WHOLE,
    MakeRow,
    Settings,
    Write,
    assert_same_update,
    both,
    groups,
    run,
    spoken_row,
    steps,
    weights,
    written,
)

# TRL and what it loads warn about themselves; what is compared here are numbers.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_sft_steps_agree(policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow) -> None:
    dataset = write_rows([make_row(i, score=float(i)) for i in range(10)])
    local, other = both(policy, base, dataset, tmp_path, SFT | {"min_score": 1.0})
    assert [event.step for event in steps(other)] == [1, 2, 3, 4, 5]
    assert {event.total for event in steps(other)} == {5}
    for mine, theirs in zip(steps(local), steps(other), strict=True):
        for name in ("loss", "gradient_norm"):
            assert theirs.metrics[name] == pytest.approx(mine.metrics[name], rel=1e-4)
    assert steps(other)[-1].metrics["loss"] < 0.5 * steps(other)[0].metrics["loss"]
    assert_same_update(base, local, other, gradient=1e-3)


def test_a_full_checkpoint_is_the_same_folder(
    policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow
) -> None:
    dataset = write_rows([make_row(i) for i in range(6)])
    config = SFT | {"steps": 1, "optimizer": {"learning_rate": 1e-3}}
    local, other = both(policy, base, dataset, tmp_path, config)
    assert_same_update(base, local, other)
    mine, theirs = Path(written(local).path), Path(written(other).path)
    assert (written(other).kind, written(other).step, theirs.name) == ("full", 1, "step-000001")
    assert written(other).sha256 == digest(theirs)
    assert sorted(one.name for one in mine.iterdir()) == sorted(one.name for one in theirs.iterdir())
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (theirs / name).read_bytes() == (mine / name).read_bytes()
    assert read_record(theirs) == read_record(mine) | {"sha256": written(other).sha256}
    assert policy.load("trained", str(theirs)).tokens.prompt([{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dual_clip": 1.5, "temperature": 0.7},
        {"objective": "dapo", "overlong": {"rule": "soft", "max_tokens": 12, "buffer": 6}},
        {"objective": "dr_grpo", "max_tokens": 20},
        {"objective": "reinforce_baseline", "normalise_std": False},
        {"objective": "cispo"},
        WHOLE,
    ],
    ids=lambda settings: str(settings.get("objective", settings)),
)
def test_one_update_agrees(
    policy: Policy,
    base: Path,
    tmp_path: Path,
    write_rows: Write,
    make_adapter: Callable[[int], Path],
    settings: Settings,
) -> None:
    dataset, parent = groups(write_rows, whole=settings is WHOLE), make_adapter(2)
    local, other = both(policy, base, dataset, tmp_path, GRPO | settings, parent=str(parent))
    assert_same_update(parent, local, other)
    (mine,), (theirs,) = steps(local), steps(other)
    for name in ("loss", "gradient_norm"):
        assert theirs.metrics[name] == pytest.approx(mine.metrics[name], rel=1e-4)
    assert other[-1].manifest["trl"]["accumulation"] > 1
    assert other[-1].manifest["config"] == local[-1].manifest["config"]
    assert other[-1].manifest["rows"] == local[-1].manifest["rows"]


def test_updates_of_uneven_batches_agree(policy: Policy, base: Path, tmp_path: Path, write_rows: Write) -> None:
    """Twelve episodes in five mini-batches, one row at a time: some micro-batches only fill up."""
    config = GRPO | {"mini_batches": 5, "epochs": 2, "token_budget": 1}
    local, other = both(policy, base, groups(write_rows), tmp_path, config | {"optimizer": {"learning_rate": 1e-3}})
    assert len(steps(local)) == 10
    for mine, theirs in zip(steps(local), steps(other), strict=True):
        assert theirs.metrics["loss"] == pytest.approx(mine.metrics["loss"], rel=1e-3, abs=1e-5)
        assert theirs.metrics["gradient_norm"] == pytest.approx(mine.metrics["gradient_norm"], rel=1e-3)
    assert other[-1].manifest["trl"]["rows"] == 1


@pytest.mark.slow
def test_the_lineage_goes_on(policy: Policy, base: Path, tmp_path: Path, write_rows: Write) -> None:
    """A version that TRL trained is a parent of one that we train, Adam's moments included, and the other way round."""
    dataset, config = groups(write_rows), GRPO | {"mini_batches": 2}
    first = run(trl_trainer.train, policy, base, dataset, tmp_path / "1", config)
    second = run(trainer.train, policy, base, dataset, tmp_path / "2", config, parent=written(first).path)
    third = run(trl_trainer.train, policy, base, dataset, tmp_path / "3", config, parent=written(second).path)
    assert [written(events).step for events in (first, second, third)] == [2, 4, 6]
    assert (written(third).kind, third[-1].manifest["updates"]) == ("adapter", 2)
    state = read_optimizer(Path(written(third).path))
    assert int(state["step"]) == 6
    assert read_record(Path(written(third).path))["parent"] == written(second).path
    again = run(trl_trainer.train, policy, base, dataset, tmp_path / "4", config, parent=written(second).path)
    assert written(again).sha256 == written(third).sha256


def test_nothing_to_learn_writes_the_parent_again(
    policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_adapter: Callable[[int], Path]
) -> None:
    rng, parent = random.Random(1), make_adapter(4)
    rows = [spoken_row(rng, i, False).model_copy(update={"score": 0.5}) for i in range(4)]
    events = run(trl_trainer.train, policy, base, write_rows(rows), tmp_path / "out", GRPO, parent=str(parent))
    assert [type(event) for event in events] == [CheckpointWritten, Done]
    assert events[-1].manifest["updates"] == 0
    before, after = weights(parent), weights(written(events).path)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
