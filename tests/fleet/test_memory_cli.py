"""``rlfleet memory`` prints a plan from a config.json alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet import cli
from rl.errors import InvalidInput

QWEN3_14B = {
    "num_hidden_layers": 40,
    "hidden_size": 5120,
    "intermediate_size": 17408,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
}


@pytest.fixture
def base(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text(json.dumps(QWEN3_14B))
    return str(tmp_path)


def test_the_table_of_a_model(base: str) -> None:
    shown = CliRunner().invoke(cli.app, ["memory", "--base", base])
    assert shown.exit_code == 0
    assert re.search(r"27\.5 GiB  weights\n +0\.2 GiB  adapter\n", shown.stdout)
    assert "fits: everything fits\ntoken budget 3072, checkpointed layers 0\n" in shown.stdout
    same = CliRunner().invoke(cli.app, ["memory", "--base", str(Path(base) / "config.json")])
    assert same.stdout == shown.stdout


def test_options_and_json(base: str) -> None:
    options = ["--token-budget", "8192", "--longest", "4096", "--device-gib", "80", "--lora-rank", "64", "--reference"]
    shown = CliRunner().invoke(cli.app, ["memory", "--base", base, *options, "--json"])
    assert shown.exit_code == 0
    said = json.loads(shown.stdout)
    assert (said["schema"], said["fits"], said["layers"], said["token_budget"]) == (1, True, 40, 8192)
    assert said["bytes"]["capacity"] == 80 << 30
    assert said["bytes"]["adapter"] == 4 * 64 * 40 * 100_352
    assert said["bytes"]["reference"] > 0
    assert 0 < said["checkpointed_layers"] <= 40


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--device-gib", "24"], 0),
        (["--device-gib", "24", "--cpu"], 1),
        (["--lora-rank", "0"], 1),
        (["--lora-rank", "0", "--devices", "2"], 1),
        (["--lora-rank", "0", "--devices", "4"], 0),
    ],
)
def test_the_exit_code_says_whether_it_fits(base: str, options: list[str], code: int) -> None:
    shown = CliRunner().invoke(cli.app, ["memory", "--base", base, *options])
    assert shown.exit_code == code
    assert ("does not fit" in shown.stdout) == bool(code)


@pytest.mark.parametrize("text", [None, "{", "[]", "{}"])
def test_a_base_without_widths_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    shown = CliRunner().invoke(cli.app, ["memory", "--base", str(tmp_path)])
    assert isinstance(shown.exception, InvalidInput)
