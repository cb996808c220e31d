"""A base in four bits: what is trained on it, and where it is refused."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gpu.policy import Policy
from gpu.quantize import load_4bit, refuse_impossible
from gpu.trainer import train
from rl.config import Lora
from rl.errors import PermanentError
from rl.protocol import CheckpointWritten, DatasetRow, Done, Progress, TrainCommand

Write = Callable[[Sequence[DatasetRow]], str]
MakeRow = Callable[..., DatasetRow]
LORA = Lora()
CONFIG = {
    "objective": "sft",
    "steps": 12,
    "batch_episodes": 4,
    "quantization": "4bit",
    "lora": {"rank": 8, "alpha": 16},
    "optimizer": {"learning_rate": 0.01},
}


def test_the_matrices_of_the_layers_are_in_four_bits_and_frozen(base: Path) -> None:
    model = load_4bit(base, torch.device("cpu"))
    plain = load_file(base / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"]
    layer: Any = model.model.layers[0].self_attn.q_proj
    assert (layer.weight.dtype, layer.weight.numel()) == (torch.uint8, plain.numel() // 2)
    assert model.get_output_embeddings().weight.dtype == torch.bfloat16
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_an_adapter_learns_on_it(
    policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow
) -> None:
    dataset = write_rows([make_row(number, answers=["turn left"]) for number in range(4)])
    command = TrainCommand(job=1, fence=1, dataset=dataset, out=str(tmp_path / "out"), base=str(base), config=CONFIG)
    events: list[Any] = []
    train(command, policy, events.append)
    losses = [event.metrics["loss"] for event in events if isinstance(event, Progress)]
    assert losses[-1] < losses[0] / 2
    (written,) = [event for event in events if isinstance(event, CheckpointWritten)]
    assert written.kind == "adapter"
    (done,) = [event for event in events if isinstance(event, Done)]
    config: Any = done.manifest["config"]
    assert config["quantization"] == "4bit"


def test_it_is_for_adapters(policy: Policy, base: Path) -> None:
    with pytest.raises(PermanentError, match=r"'4bit': weights in four bits cannot be trained; set lora"):
        refuse_impossible(None)
    with pytest.raises(PermanentError, match="set lora"):
        policy.trainable(str(base), None, None, 0, "4bit")


def test_it_says_which_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PermanentError, match="needs the package bitsandbytes, which is not installed; install it"):
        refuse_impossible(LORA)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    refuse_impossible(LORA)
