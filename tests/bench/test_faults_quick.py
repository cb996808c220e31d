from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.worker.doubles import wait_until

ROOT = Path(__file__).parents[2]
HOME = re.compile(r"postgres -D (\S+)/home/pg/")


def faults(*words: str, seconds: float = 580) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    argv = [sys.executable, "-m", "bench.faults", *words]
    return subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=seconds, check=False)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_few_faults_leave_every_effect_there_once(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "faults.json"
    run = faults("--quick", "--seed", str(seed), "--json", str(path))
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"{path}\n"
    report = json.loads(path.read_text())
    assert (report["schema"], report["seed"], report["passed"]) == (1, seed, True)
    assert len(report["rows"]) >= 5
    for row in report["rows"]:
        assert all(row["ours"]["invariants"].values())
        assert set(row["ours"]["invariants"]) == {f"I{n}" for n in range(1, 8)}
    assert not [one for one in psutil.Process().children() if "bench.faults" in words(one)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_nothing_outlives_a_harness_that_is_ended(number: signal.Signals) -> None:
    argv = [sys.executable, "-m", "bench.faults", "--rows", "1", "--no-raw"]
    harness = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: any("bench.faults.child" in words(one) for one in below(harness)), 60)
        left = below(harness)
        home = next(Path(found[1]) for one in left if (found := HOME.search(words(one))))
        harness.send_signal(number)
        harness.wait(60)
        wait_until(lambda: not any(map(runs, left)), 60)
    finally:
        harness.kill()
        harness.wait()
    if number is signal.SIGKILL:  # which leaves nobody to remove it
        shutil.rmtree(home)
    assert not home.exists()


def below(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return list(psutil.Process(process.pid).children(recursive=True))


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def test_a_row_that_does_not_exist_is_refused() -> None:
    run = faults("--rows", "1,99", seconds=60)
    assert run.returncode == 2
    assert "there is no row 99" in run.stderr
