from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_scrape_of_a_small_fleet_is_measured(tmp_path: Path) -> None:
    words = ["--quick", "--scrapes", "3", "--json", str(tmp_path / "report.json")]
    run = subprocess.run([sys.executable, "-m", "bench.metrics", *words], cwd=ROOT, check=False, timeout=200)
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert (report["schema"], report["jobs"]) == (1, 2000)
    assert run.returncode == (0 if report["ok"] else 1)
    assert report["added_up_ms"] > 0
    assert report["query_ms"].keys() > {"jobs", "due", "counters"}
