"""The benchmark of the loop as people run it, on servers, workers and a model of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_quick_loop_measures_every_window(tmp_path: Path) -> None:
    file = tmp_path / "loop.json"
    words = ["--quick", "--runs", "1", "--seed", "41", "--json", str(file)]
    run = subprocess.run(
        [sys.executable, "-m", "bench.loop", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    outcome = json.loads(file.read_text()) if file.exists() else pytest.fail(run.stderr[-4000:])
    assert run.returncode == (0 if outcome["passed"] else 1), run.stderr[-4000:]
    assert run.stdout == f"{file}\n"
    assert (outcome["schema"], outcome["seeds"], outcome["errors"], outcome["windows"]) == (1, [41], [], 2)
    assert outcome["window_to_served"]["n"] == outcome["window_to_playable"]["n"] == 2
    assert outcome["window_to_served"]["max"] >= outcome["window_to_playable"]["max"] > 0
    assert outcome["logs_to_released"]["n"] == 1
    for stage in ("collect", "score", "train", "evaluate"):
        assert outcome["stages"][stage]["n"] == outcome["stages"][f"{stage}_wait"]["n"] == 2
    assert outcome["stages"]["decide"]["n"] == 1
    assert min(one["p50"] for one in outcome["stages"].values() if one["n"]) >= 0
    assert outcome["prompt_tokens_per_second"] > outcome["tokens_per_second"] > outcome["episodes_per_second"] > 0
