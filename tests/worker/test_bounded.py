"""Programs that end with the process that started them, or when their time is up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from worker.bounded import bounded

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
SLEEPS = "import time; print('here', flush=True); time.sleep(600)"
PARENT = f"""
import subprocess, time
from worker.bounded import bounded
child = subprocess.Popen(bounded(0, "-c", {SLEEPS!r}), stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_it_ends_with_its_parent_however_that_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.kill()
    deadline = time.monotonic() + PATIENCE
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Whether it runs; one that ended may have nobody who asks for its status."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_it_ends_when_its_time_is_up_and_else_by_itself() -> None:
    assert (
        subprocess.run(bounded(1, "-c", SLEEPS), stdout=subprocess.DEVNULL, check=False).returncode == -signal.SIGALRM
    )
    said = subprocess.run(
        bounded(0, "-c", "import os; print(os.getpid()); raise SystemExit(3)"), stdout=subprocess.PIPE, check=False
    )
    assert said.returncode == 3


def test_one_whose_parent_is_gone_already_does_not_begin() -> None:
    argv = bounded(0, "-c", "print('begun')")
    argv[3] = "1"
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
