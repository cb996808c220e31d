"""Where four bits are refused, and why."""

import importlib.util
from pathlib import Path

import pytest
import torch

from gpu.policy import Policy
from gpu.quantize import refuse_impossible
from rl.config import Lora
from rl.errors import PermanentError

CUDA = torch.device("cuda:0")
LORA = Lora()


def test_a_cpu_cannot(policy: Policy, base: Path) -> None:
    with pytest.raises(PermanentError, match=r"config\.quantization = '4bit': it needs a CUDA device and this is cpu"):
        policy.trainable(str(base), None, LORA, 0, "4bit")


def test_it_is_for_adapters(policy: Policy, base: Path) -> None:
    for device in (CUDA, torch.device("cpu")):
        with pytest.raises(PermanentError, match=r"'4bit': weights in four bits cannot be trained; set lora"):
            refuse_impossible(None, device)
    with pytest.raises(PermanentError, match="set lora"):
        policy.trainable(str(base), None, None, 0, "4bit")


def test_it_says_which_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PermanentError, match="needs the package bitsandbytes, which is not installed; install it"):
        refuse_impossible(LORA, CUDA)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    refuse_impossible(LORA, CUDA)
