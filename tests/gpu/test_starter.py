"""The starter policy from nothing."""

import json
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from gpu import starter
from gpu.checkpoints import digest
from gpu.starter import build
from rl.errors import InvalidInput

TEXTS = ["turn left", "move forward 12"] * 30


def test_the_command_line_is_deterministic_by_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps(text) + "\n" for text in TEXTS))
    words = ["gpu.starter", "--texts", str(texts), "--out", str(tmp_path / "a"), "--seed", "1"]
    monkeypatch.setattr(sys, "argv", words)
    starter.main()
    for name, seed in (("b", 1), ("c", 2)):
        build(TEXTS, tmp_path / name, seed)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")
    weights = load_file(tmp_path / "a" / "model.safetensors")
    assert sum(tensor.numel() for tensor in weights.values()) > 600_000


def test_a_starter_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space")

    out = tmp_path / "starter"
    with monkeypatch.context() as patch:
        patch.setattr(starter, "write_full", fail)
        with pytest.raises(OSError, match="no space"):
            build(TEXTS, out, 0)
    assert not out.exists()
    assert (build(TEXTS, out, 0) / "model.safetensors").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["starter"]
    with pytest.raises(InvalidInput, match="something is there already"):
        build(TEXTS, out, 0)


def test_no_texts_no_starter(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="at least one text"):
        build([], tmp_path, 0)
