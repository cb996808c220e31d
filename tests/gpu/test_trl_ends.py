"""How a training with TRL ends that is refused, told to stop, or out of memory, and what it leaves as it was."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gpu import child, trainer, trl_trainer
from gpu.policy import Policy
from gpu.trl_loop import Fed
from rl.errors import ChildLost, InvalidInput, NoTrainingData, OffPolicyRefused, OutOfMemory, TrainingDiverged
from rl.protocol import CheckpointWritten, Done, Event, Failed, Paused, Progress, TrainCommand
from tests.gpu.trl_cases import (
    GRPO,
    SFT,
    WHOLE,
    MakeRow,
    Settings,
    Write,
    groups,
    run,
    steps,
    written,
)
from worker.child import Child

# TRL and what it loads warn about themselves; what is compared here are numbers.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


def test_a_diverging_run_saves_nothing(
    policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow
) -> None:
    wild = SFT | {"optimizer": {"learning_rate": 1e30}}
    with pytest.raises(TrainingDiverged, match=r"step 2: loss .*; lower optimizer\.learning_rate"):
        run(trl_trainer.train, policy, base, write_rows([make_row(0)]), tmp_path / "out", wild)
    assert not (tmp_path / "out").exists()


def test_data_is_refused_as_by_our_own_trainer(
    policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow
) -> None:
    dataset = write_rows([make_row(7)])
    with pytest.raises(OffPolicyRefused, match="call 7-0 has no tokens"):
        run(trl_trainer.train, policy, base, dataset, tmp_path / "out", GRPO)
    with pytest.raises(NoTrainingData):
        run(trl_trainer.train, policy, base, dataset, tmp_path / "out", SFT | {"min_score": 2.0})
    with pytest.raises(InvalidInput, match="4 episodes are several sequences, and TRL has a ratio for each"):
        run(trl_trainer.train, policy, base, groups(write_rows), tmp_path / "out", GRPO | WHOLE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (SFT | {"observation_weight": 0.5}, r"observation_weight = 0\.5: TRL does not read it"),
        (GRPO | {"kl": {}}, "kl = "),
        (GRPO | {"quantization": "4bit"}, "quantization = '4bit'"),
        (GRPO | {"objective": "rloo"}, "objective = rloo: TRL is given sft, grpo"),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(
    policy: Policy, base: Path, tmp_path: Path, config: Settings, named: str
) -> None:
    with pytest.raises(InvalidInput, match=named):
        run(trl_trainer.train, policy, base, "unread", tmp_path / "out", config)


def test_several_devices_are_refused(base: Path, tmp_path: Path) -> None:
    two = Policy(torch.device("cpu"), devices=[torch.device("cpu")] * 2)
    with pytest.raises(InvalidInput, match="device = 2: TRL takes every device that its process sees"):
        run(trl_trainer.train, two, base, "unread", tmp_path / "out", SFT)


@pytest.mark.parametrize("before", [0, 2])
def test_a_pause_comes_between_two_steps_and_without_a_state(
    policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow, before: int
) -> None:
    events: list[Any] = []
    dataset = write_rows([make_row(i) for i in range(4)])
    command = TrainCommand(job=3, fence=2, dataset=dataset, out=str(tmp_path / "a"), base=str(base), config=SFT)
    trl_trainer.train(command, policy, events.append, pausing=lambda: len(events) >= before)
    assert [type(event) for event in events] == [Progress] * before + [Paused]
    assert events[-1].step == before
    assert not (tmp_path / "a").exists()
    resumed = run(trl_trainer.train, policy, base, dataset, tmp_path / "b", SFT, resume=str(tmp_path / "state-000002"))
    assert resumed[-1].manifest["resume_refused"] == "TRL saves no states: trained from the beginning"
    assert len(steps(resumed)) == 5


def test_a_pause_behind_the_last_step_is_too_late(
    policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow
) -> None:
    events: list[Any] = []
    dataset = write_rows([make_row(0)])
    command = TrainCommand(job=3, fence=2, dataset=dataset, out=str(tmp_path), base=str(base), config=SFT)
    trl_trainer.train(command, policy, events.append, pausing=lambda: len(events) >= 5)
    assert [type(event) for event in events[5:]] == [CheckpointWritten, Done]


def test_a_stop_saves_nothing(policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow) -> None:
    events: list[Any] = []
    dataset = write_rows([make_row(0)])
    command = TrainCommand(job=3, fence=2, dataset=dataset, out=str(tmp_path / "a"), base=str(base), config=SFT)
    with pytest.raises(ChildLost, match="after step 1 of 5"):
        trl_trainer.train(command, policy, events.append, stopping=lambda: len(events) >= 1)
    assert not (tmp_path / "a").exists()


def test_memory_that_runs_out_means_fewer_rows_at_once(
    policy: Policy,
    base: Path,
    tmp_path: Path,
    write_rows: Write,
    make_row: MakeRow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset, config = write_rows([make_row(i) for i in range(8)]), SFT | {"token_budget": 1000, "steps": 2}
    expected = run(trl_trainer.train, policy, base, dataset, tmp_path / "a", config | {"token_budget": 200})
    room, real = 2, Fed.training_step

    def short(self: Fed, model: Any, inputs: Any, items: Any = None) -> Any:
        if len(inputs["input_ids"]) > room and self.feed.optimizer.done:
            raise OutOfMemory("out of memory while training with TRL")
        return real(self, model, inputs, items)

    monkeypatch.setattr(Fed, "training_step", short)
    events = run(trl_trainer.train, policy, base, dataset, tmp_path / "b", config)
    manifest = events[-1].manifest
    said = manifest["trl"]
    assert (said["rows"], said["accumulation"], manifest["token_budget_shrunk"]) == (2, 2, 1)
    assert manifest["token_budget"] == 2 * said["width"]
    assert [event.step for event in steps(events)] == [1, 1, 2]
    assert written(events).sha256 == written(expected).sha256
    room = 0
    with pytest.raises(OutOfMemory):
        run(trl_trainer.train, policy, base, dataset, tmp_path / "c", config)
    assert not (tmp_path / "c").exists()


def test_what_serves_is_left_as_it_is(policy: Policy, base: Path, tmp_path: Path, write_rows: Write) -> None:
    version = policy.load("v1", str(base))
    tokenizer, model = version.tokens.tokenizer, version.model
    before = (tokenizer.padding_side, tokenizer.pad_token, model.config.to_dict(), model.generation_config.to_dict())
    run(trl_trainer.train, policy, base, groups(write_rows), tmp_path / "out", GRPO)
    assert before == (
        tokenizer.padding_side,
        tokenizer.pad_token,
        model.config.to_dict(),
        model.generation_config.to_dict(),
    )
    assert "forward" not in vars(model)


def test_a_machine_without_trl_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gpu.trl_trainer", "gpu.trl_loop"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(InvalidInput, match=r"trl is not installed on this machine; install rlfleet\[gpu,trl\]"):
        child._trainer("trl")
    assert child._trainer("local") is trainer.train


@pytest.fixture
def resident(tmp_path: Path) -> Iterator[Child]:
    resident = Child("cpu", tmp_path / "state")
    yield resident
    resident.stop()


def test_a_worker_has_it_done_by_the_resident_child(
    resident: Child, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow
) -> None:
    dataset = write_rows([make_row(i) for i in range(4)])
    command = TrainCommand(
        job=3, fence=2, dataset=dataset, out=str(tmp_path / "out"), base=str(base), config=SFT, backend="trl"
    )
    events: list[Event | None] = [event for event in resident.train(command) if event]
    assert [type(event) for event in events] == [Progress] * 5 + [CheckpointWritten, Done]
    refused = command.model_copy(update={"config": SFT | {"observation_weight": 1.0}})
    *_, last = resident.train(refused)
    assert isinstance(last, Failed)
    assert (last.error, "observation_weight = 1.0" in last.message) == ("InvalidInput", True)
