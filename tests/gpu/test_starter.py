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


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (None, "texts.jsonl': cannot be read: No such file or directory"),
        (b'"turn left"\nturn left\n', "line 2 of texts = 'turn left': is not JSON; each line is one string"),
        (b'\n{"text": "turn left"}\n', 'line 2 of texts = \'{"text": "turn left"}\': is no string; each line is one'),
        (b"\xff", "texts.jsonl': is not text in UTF-8"),
        (b"\n", "give at least one text"),
    ],
)
def test_texts_that_cannot_be_used_are_said_in_one_line(
    written: bytes | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts, out = tmp_path / "texts.jsonl", tmp_path / "a"
    if written is not None:
        texts.write_bytes(written)
    monkeypatch.setattr(sys, "argv", ["gpu.starter", "--texts", str(texts), "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        starter.main()
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1
    assert not out.exists()


def test_no_texts_no_starter(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="at least one text"):
        build([], tmp_path, 0)


def test_a_larger_one_has_the_shape_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps(text) + "\n" for text in TEXTS))
    words = ["--vocabulary", "300", "--context-length", "4096", "--layers", "2", "--width", "64"]
    monkeypatch.setattr(sys, "argv", ["gpu.starter", "--texts", str(texts), "--out", str(tmp_path / "a"), *words])
    starter.main()
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    shape = [config[name] for name in ("max_position_embeddings", "num_hidden_layers", "hidden_size")]
    assert (shape, config["num_attention_heads"], config["intermediate_size"]) == ([4096, 2, 64], 2, 192)
    assert config["vocab_size"] <= 300
    tokenizer = json.loads((tmp_path / "a" / "tokenizer_config.json").read_text())
    assert tokenizer["model_max_length"] == 4096
