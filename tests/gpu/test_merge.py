"""Full weights out of an adapter and its base."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from fleet import publish
from gpu import checkpoints
from gpu.merge import merge
from rl.errors import InvalidInput


def test_the_merged_weights_say_what_the_adapter_says(
    base: Path, make_adapter: Callable[[int], Path], tmp_path: Path
) -> None:
    adapter = make_adapter(1)
    sha256 = checkpoints.digest(adapter)
    merge(adapter, base, tmp_path / "one", sha256, checkpoints.digest(base))
    merge(adapter, base, tmp_path / "two", sha256)
    assert checkpoints.digest(tmp_path / "one") == checkpoints.digest(tmp_path / "two")
    ids = torch.tensor([[5, 9, 11, 40, 7]])
    bare: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(adapter))
    merged: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    with torch.no_grad():
        want, got = adapted(input_ids=ids).logits, merged(input_ids=ids).logits
        assert not torch.allclose(want, bare(input_ids=ids).logits, atol=1e-2)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    words = "go to the red ball"
    tokens = [AutoTokenizer.from_pretrained(folder)(words)["input_ids"] for folder in (base, tmp_path / "one")]
    assert tokens[0] == tokens[1]


@pytest.mark.slow
def test_folders_that_are_not_what_they_were_are_refused(
    base: Path, make_adapter: Callable[[int], Path], tmp_path: Path
) -> None:
    adapter = make_adapter(1)
    sha256 = checkpoints.digest(adapter)
    with pytest.raises(InvalidInput, match=r"adapter = .*it was changed since"):
        merge(adapter, base, tmp_path / "out", "0" * 64)
    with pytest.raises(InvalidInput, match=r"base = .*it was changed since"):
        merge(adapter, base, tmp_path / "out", sha256, "0" * 64)
    with pytest.raises(InvalidInput, match=r"base = .*there is no such folder"):
        merge(adapter, tmp_path / "nowhere", tmp_path / "out", sha256)
    argv = [sys.executable, "-m", "gpu.merge", "--adapter", str(adapter), "--base", str(base)]
    argv += ["--out", str(tmp_path / "out"), "--sha256", "0" * 64]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("gpu.merge: adapter = ")
    assert not (tmp_path / "out").exists()


def test_a_process_without_torch_knows_a_checkpoint_by_the_same_hash(make_adapter: Callable[[int], Path]) -> None:
    adapter = make_adapter(1)
    assert publish.digest(adapter) == checkpoints.digest(adapter)
