from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.faults.skew import library, skewed
from rl.errors import StartError

CLOCKS = """
import json, threading, time, datetime, multiprocessing
began = time.monotonic()
threading.Event().wait(0.1)
multiprocessing.Semaphore(0).acquire(timeout=0.1)
print(json.dumps({
    "time": time.time(),
    "datetime": datetime.datetime.now(datetime.timezone.utc).timestamp(),
    "gmtime": time.mktime(time.localtime()),
    "monotonic": time.monotonic(),
    "waited": time.monotonic() - began,
}))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the library is loaded by Linux's dynamic linker")


def clocks(environ: dict[str, str]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", CLOCKS], env=dict(os.environ) | environ, capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("seconds", [600, -600])
def test_the_wall_clock_is_shifted_and_the_monotonic_clock_is_not(tmp_path: Path, seconds: int) -> None:
    before, then = time.time(), time.monotonic()
    seen = clocks(skewed(seconds, tmp_path))
    took = time.monotonic() - then
    for name in ("time", "datetime", "gmtime"):
        assert -1.1 <= seen[name] - seconds - before <= took + 0.1, name
    assert then <= seen["monotonic"] <= then + took


@pytest.mark.parametrize("seconds", [600, -600])
def test_waits_last_as_long_as_they_should(tmp_path: Path, seconds: int) -> None:
    assert 0.2 <= clocks(skewed(seconds, tmp_path))["waited"] < 60


def test_the_library_is_compiled_once(tmp_path: Path) -> None:
    made = library(tmp_path).stat().st_mtime_ns
    assert library(tmp_path).stat().st_mtime_ns == made


def test_no_compiler_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartError, match="install a C compiler"):
        library(tmp_path)
