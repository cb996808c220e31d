from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.jobs import cost, recovery
from bench.jobs.meter import Cpu

ROOT = Path(__file__).parents[2]


def test_cpu_is_added_up_and_shared_out() -> None:
    used = Cpu(sender=1.5, worker=2.5, postgres=1.0, broker=0.5) - Cpu(0.5, 0.5, 0.5, 0.0)
    assert (used.total, used.celery_side) == (4.0, 3.0)
    assert used.each(1000) == {
        "sender": 1.0,
        "worker": 2.0,
        "postgres": 0.5,
        "broker": 0.5,
        "sender_and_worker": 3.0,
        "all": 4.0,
    }


def test_a_ratio_is_of_neighbours_and_the_median_counts() -> None:
    bare = Cpu(1.0, 1.0, 0.0, 0.0)
    ours = [Cpu(1.0, 2.0, 1.0, 0.0), Cpu(1.0, 1.0, 0.0, 0.0), Cpu(9.0, 9.0, 2.0, 0.0)]
    found = cost._summary([(bare, one) for one in ours], 1000)
    assert (found["ratios"], found["ratio"], found["ok"]) == ([2.0, 1.0, 10.0], 2.0, True)
    assert found["ratio_sender_and_worker"] == 1.5
    assert found["ours_ms"]["postgres"] == 1.0


@pytest.mark.parametrize(("share", "value"), [(0.5, 2.0), (0.9, 4.0), (0.25, 1.0), (1.0, 4.0)])
def test_a_quantile_is_a_value_that_was_seen(share: float, value: float) -> None:
    assert recovery.quantile([1.0, 2.0, 3.0, 4.0], share) == value


BURNS = """
import subprocess, sys, psutil
from bench.jobs import meter
before = meter.tree_seconds(psutil.Process())
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.3: pass"], check=True)
print(meter.tree_seconds(psutil.Process()) - before)
"""


def test_seconds_of_a_tree_hold_those_of_children_that_ended() -> None:
    """In a process of its own: what other tests have started comes and goes."""
    ran = subprocess.run([sys.executable, "-c", BURNS], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert float(ran.stdout) >= 0.28, "the kernel counts in ticks of 10 ms"


@pytest.mark.slow
def test_a_quick_run_measures_every_part(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "bench.jobs", "--quick", "--json", str(tmp_path / "report.json")],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert (report["schema"], report["quick"]) == (1, True)
    assert run.returncode == (0 if report["ok"] else 1)
    assert report["cost"]["bare_ms"]["postgres"] < report["cost"]["ours_ms"]["postgres"]
    assert len(report["cost"]["ratios"]) == 5
    assert report["claims"]["ours_per_second"] > 0
    assert report["burst"]["longest_queue"] <= report["burst"]["bound"]
    assert 0 < report["recovery"]["p50_seconds"] <= report["recovery"]["max_seconds"]
    assert report["recovery"]["ok"]
