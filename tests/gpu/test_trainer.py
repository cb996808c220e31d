"""Train commands end to end: rows in, checkpoints out."""

import errno
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gpu import checkpoints
from gpu.checkpoints import digest, read_optimizer, read_record
from gpu.generate import Request, generate
from gpu.policy import Policy
from gpu.trainer import train
from rl.errors import ChildLost, DiskFull, InvalidInput, NoTrainingData, OffPolicyRefused, OutOfMemory, TrainingDiverged
from rl.protocol import CheckpointWritten, DatasetRow, Done, Progress, TrainCommand

Write = Callable[[Sequence[DatasetRow]], str]
MakeRow = Callable[..., DatasetRow]

SFT: dict[str, object] = {
    "objective": "sft",
    "steps": 6,
    "batch_episodes": 4,
    "observation_weight": 0.5,
    "token_budget": 200,
    "optimizer": {"learning_rate": 3e-3, "schedule": "cosine", "warmup_steps": 2, "weight_decay": 0.01},
}
GRPO: dict[str, object] = {
    "objective": "grpo",
    "mini_batches": 2,
    "token_budget": 200,
    "lora": {"rank": 4, "alpha": 8},
    "optimizer": {"learning_rate": 5e-3},
}


def run(policy: Policy, base: Path, dataset: str, out: Path, config: dict[str, object], **fields: Any) -> list[Any]:
    events: list[Any] = []
    command = TrainCommand(job=3, fence=2, dataset=dataset, out=str(out), base=str(base), config=config, **fields)
    train(command, policy, events.append)
    return events


def written(events: Sequence[Any]) -> CheckpointWritten:
    (found,) = [event for event in events if isinstance(event, CheckpointWritten)]
    return found


def rollouts(
    policy: Policy, path: Path, groups: int = 4, per_group: int = 6, score: Callable[[str], float] = len
) -> list[DatasetRow]:
    """One-call trajectories of the policy at ``path``; ``score`` says how good an answer is."""
    version = policy.load(str(path), str(path))
    tokens = version.tokens
    asked = []
    for group in range(groups):
        messages = [{"role": "user", "content": f"You see: wall {group} ahead"}]
        asked += [
            (group, messages, Request(tokens.prompt(messages), 8, 1.0, 100 * group + i)) for i in range(per_group)
        ]
    rows = []
    completions = generate(policy, version, [request for _, _, request in asked])
    for (group, messages, request), done in zip(asked, completions, strict=True):
        content = tokens.decode(done.token_ids)
        call = {
            "call_id": f"{request.seed}",
            "turn": 0,
            "model": str(path),
            "messages": messages,
            "response": {"role": "assistant", "content": content},
            "prompt_token_ids": request.prompt,
            "token_ids": done.token_ids,
            "logprobs": done.logprobs,
            "temperature": 1.0,
        }
        rows.append(DatasetRow(trajectory_id=f"{request.seed}", group=str(group), score=score(content), calls=[call]))
    policy.unload(str(path))
    return rows


def test_sft_learns_and_repeats_to_the_bit(
    policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow
) -> None:
    dataset = write_rows([make_row(i) for i in range(10)])
    first = run(policy, base, dataset, tmp_path / "a", {**SFT, "steps": 25})
    again = run(policy, base, dataset, tmp_path / "b", {**SFT, "steps": 25})
    assert written(first).sha256 == written(again).sha256 == digest(Path(written(first).path))
    other = run(policy, base, dataset, tmp_path / "c", {**SFT, "steps": 25, "seed": 1})
    assert written(other).sha256 != written(first).sha256
    progress = [event for event in first if isinstance(event, Progress)]
    assert [event.step for event in progress] == list(range(1, 26))
    assert {event.total for event in progress} == {25}
    assert progress[0].metrics["loss"] > 1.4 * math.log(300)
    assert progress[-1].metrics["loss"] < 0.75 * progress[0].metrics["loss"]
    assert progress[-1].metrics["gradient_norm"] > 0
    assert all(math.isfinite(value) for event in progress for value in event.metrics.values())


def test_a_full_checkpoint_is_a_policy(
    policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow
) -> None:
    checkpoint = written(run(policy, base, write_rows([make_row(0), make_row(1)]), tmp_path / "out", SFT))
    folder = Path(checkpoint.path)
    assert (checkpoint.kind, checkpoint.step, folder.name) == ("full", 6, "step-000006")
    assert policy.load("trained", checkpoint.path).tokens.prompt([{"role": "user", "content": "x"}])
    record = read_record(folder)
    assert record == {
        "schema": 1,
        "step": 6,
        "kind": "full",
        "base": str(base),
        "parent": None,
        "sha256": checkpoint.sha256,
        "config": record["config"],
    }
    assert record["config"]["optimizer"]["betas"] == [0.9, 0.98]
    assert not list(folder.glob("*.bin"))
    assert not list((tmp_path / "out").glob(".*"))


def test_sft_keeps_what_scores_enough_and_says_what_it_left_out(
    policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow
) -> None:
    rows = [make_row(0, score=0.9), make_row(1, score=0.1), make_row(2, answers=["turn left " * 700], score=1.0)]
    events = run(policy, base, write_rows(rows), tmp_path / "out", {**SFT, "steps": 1, "min_score": 0.5})
    manifest = events[-1].manifest
    assert manifest["rows"] == {
        "read": 3,
        "used": 1,
        "drawn": 1,
        "skipped": {"score below min_score": 1, "longer than the context": 1},
        "named": {"score below min_score": ["1"], "longer than the context": ["2"]},
    }
    with pytest.raises(NoTrainingData, match="none of 3 rows"):
        run(policy, base, write_rows(rows), tmp_path / "none", {**SFT, "min_score": 2.0})
    assert not (tmp_path / "none").exists()


def test_grpo_raises_the_reward(
    policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow
) -> None:
    undecided = write_rows([make_row(i, answers=[("turn left", "turn right")[i % 2]]) for i in range(8)])
    cloning = {**SFT, "steps": 40, "observation_weight": 0.0, "optimizer": {"learning_rate": 5e-3}}
    talker = Path(written(run(policy, base, undecided, tmp_path / "sft", cloning)).path)
    config = {**GRPO, "mini_batches": 4, "optimizer": {"learning_rate": 3e-3}}
    parent, path, means = None, talker, []
    for number in range(5):
        rows = rollouts(policy, path, per_group=16, score=lambda content: float(content == "turn left"))
        means.append(sum(row.score for row in rows) / len(rows))
        events = run(policy, talker, write_rows(rows), tmp_path / str(number), config, parent=parent)
        parent = written(events).path
        path = Path(parent)
        first = next(event for event in events if isinstance(event, Progress)).metrics
        # The first update sees the very policy that spoke: the engine's log-probabilities are the trainer's.
        assert abs(first["kl"]) < 1e-4
        assert first["clip_share"] == 0
        assert 0 < first["entropy"] < math.log(300)
    assert 0.2 < means[0] < 0.8
    assert means[-1] > means[0] + 0.15


def test_adam_goes_on_from_the_parent(policy: Policy, base: Path, tmp_path: Path, write_rows: Write) -> None:
    dataset = write_rows(rollouts(policy, base))
    first = written(run(policy, base, dataset, tmp_path / "1", GRPO))
    second = run(policy, base, dataset, tmp_path / "2", GRPO, parent=first.path)
    assert (first.step, written(second).step) == (2, 4)
    assert (first.kind, written(second).kind) == ("adapter", "adapter")
    assert second[-1].manifest["updates"] == 2
    state = read_optimizer(Path(written(second).path))
    assert int(state["step"]) == 4
    assert sum(name.startswith("exp_avg.") for name in state) == sum(name.startswith("exp_avg_sq.") for name in state)
    (Path(first.path) / checkpoints.OPTIMIZER).unlink()
    fresh = run(policy, base, dataset, tmp_path / "3", GRPO, parent=first.path)
    assert written(fresh).sha256 != written(second).sha256


def test_nothing_to_learn_writes_the_parent_again(
    policy: Policy, base: Path, tmp_path: Path, write_rows: Write
) -> None:
    rows = rollouts(policy, base)
    parent = written(run(policy, base, write_rows(rows), tmp_path / "1", GRPO)).path
    same = [row.model_copy(update={"score": 0.3}) for row in rows]
    events = run(policy, base, write_rows(same), tmp_path / "2", GRPO, parent=parent)
    assert [type(event) for event in events] == [CheckpointWritten, Done]
    assert events[-1].manifest["updates"] == 0
    assert events[-1].manifest["rows"]["skipped"] == {"no advantage in its group": 24}
    before = load_file(Path(parent) / "adapter_model.safetensors")
    after = load_file(Path(written(events).path) / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_grpo_refuses_what_is_not_on_policy(
    policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow
) -> None:
    with pytest.raises(OffPolicyRefused, match="trajectory 7, call 7-0 has no tokens"):
        run(policy, base, write_rows([make_row(7)]), tmp_path / "out", GRPO)
    rows = rollouts(policy, base, groups=1)
    with pytest.raises(OffPolicyRefused, match=r"sampled at temperature 1\.0, not 0\.5"):
        run(policy, base, write_rows(rows), tmp_path / "out", {**GRPO, "temperature": 0.5})
    call = {**rows[0].calls[0], "token_ids": [5000], "logprobs": [-1.0]}
    dataset = write_rows([*rows, rows[0].model_copy(update={"calls": [call], "score": 99.0})])
    events = run(policy, base, dataset, tmp_path / "out", GRPO)
    assert events[-1].manifest["rows"]["skipped"]["a token that the model does not have"] == 1


def test_a_diverging_run_saves_nothing(
    policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow
) -> None:
    wild = {**SFT, "optimizer": {"learning_rate": 1e30}}
    with pytest.raises(TrainingDiverged, match=r"lower optimizer\.learning_rate"):
        run(policy, base, write_rows([make_row(0)]), tmp_path / "out", wild)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("failure", "named"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), OutOfMemory),
        (OSError(errno.ENOSPC, "No space left on device"), DiskFull),
    ],
)
def test_exhaustion_has_a_name(
    policy: Policy,
    base: Path,
    tmp_path: Path,
    write_rows: Write,
    make_row: MakeRow,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    named: type[Exception],
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise failure

    where = "gpu.checkpoints.save_file" if named is DiskFull else "gpu.steps.score"
    monkeypatch.setattr(where, fail)
    with pytest.raises(named):
        run(policy, base, write_rows([make_row(0)]), tmp_path / "out", {**SFT, "steps": 1})
    assert not list(tmp_path.glob("out/*")) + list(tmp_path.glob("out/.*"))
    with policy.lock:
        pass


def test_told_to_stop_it_stops_between_steps(
    policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow
) -> None:
    events: list[Any] = []
    command = TrainCommand(
        job=1, fence=1, dataset=write_rows([make_row(0)]), out=str(tmp_path / "out"), base=str(base), config=SFT
    )
    with pytest.raises(ChildLost, match="after step 3 of 6"):
        train(command, policy, events.append, lambda: len(events) == 3)
    assert len(events) == 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({**SFT, "ptx_coef": 0.1}, "config.sft.ptx_coef"),
        ({**GRPO, "clip_low": 3}, "config.grpo.clip_low"),
        ({}, "config"),
    ],
)
def test_a_setting_nobody_reads_is_refused(
    policy: Policy, base: Path, tmp_path: Path, config: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        run(policy, base, "nowhere", tmp_path, config)
    assert caught.value.field.rstrip(".") == field


def test_datasets_that_cannot_be_read_say_where(
    policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow
) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        run(policy, base, str(tmp_path / "none.jsonl"), tmp_path / "out", SFT)
    path = Path(write_rows([make_row(0)]))
    path.write_text(path.read_text() + json.dumps({"trajectory_id": "x"}) + "\n")
    with pytest.raises(InvalidInput, match=r"dataset\.jsonl:2"):
        run(policy, base, str(path), tmp_path / "out", SFT)


def test_many_updates_on_one_batch_are_warned_of(policy: Policy, base: Path, tmp_path: Path, write_rows: Write) -> None:
    rows = rollouts(policy, base, groups=2, per_group=4)
    events = run(policy, base, write_rows(rows), tmp_path / "out", {**GRPO, "epochs": 5})
    assert events[-1].manifest["updates"] == 10
    assert "10 updates" in events[-1].manifest["warnings"][0]
