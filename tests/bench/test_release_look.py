"""The benchmark of a look at a canary, on few calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_number_of_calls_is_looked_at() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "bench.release_look", "--calls", "800", "400"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["schema"] == 1
    assert [(one["calls"], one["rewards"]) for one in report["looks"]] == [(400, 100), (800, 200)]
    assert all(0 < one["database_seconds"] <= one["seconds"] for one in report["looks"])
