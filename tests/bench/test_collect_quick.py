"""The benchmark of collecting as people run it: real servers, agents, and a gateway that is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_quick_run_loses_nothing(tmp_path: Path) -> None:
    file = tmp_path / "collect.json"
    run = subprocess.run(
        [sys.executable, "-m", "bench.collect", "--quick", "--json", str(file)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    report = json.loads(file.read_text()) if file.exists() else pytest.fail(run.stderr[-4000:])
    assert json.loads(run.stdout) == report
    assert run.returncode == (0 if report["passed"] else 1), run.stderr[-4000:]
    assert (report["schema"], report["quick"], report["rows"]) == (1, True, 4_000)
    assert (report["ingest_lost"], report["ingest_doubled"]) == (0, 0)
    assert (report["gateway_kills"], report["postgres_kills"], report["ingest_turns"]) == (2, 1, 4_000)
    assert report["bounds"]["rss_growth_mb"], report["rss_mb"]
    for name in ("decoded_vs_copy", "decoded_vs_orm", "ingest_turns_per_second"):
        assert report[name] > 0
