"""The peak memory of a fresh process that writes a dataset's file, at a number of rows and at ten times as many.

The last of the rows are many times as large as those before, so that what was read says nothing of what comes.

``python -m bench.collect.memory DATASET FOLDER`` is that process; it prints its peak in bytes and the file's SHA-256.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.collect.rows import Filled
from bench.faults.ground import Ground

GROWTH_MB = 64.0
"""The most that the peak may grow by from one dataset to one of ten times as many rows."""


def measure(ground: Ground, small: Filled, large: Filled) -> dict[str, Any]:
    """The peaks at both, in MB of 1e6 bytes, and how much the second is above the first."""
    peaks = [_peak(ground, one) / 1e6 for one in (small, large)]
    return {
        "rss_growth_mb": round(peaks[1] - peaks[0], 1),
        "rss_mb": [round(one, 1) for one in peaks],
        "rss_rows": [small.calls, large.calls],
    }


def _peak(ground: Ground, filled: Filled) -> int:
    folder = ground.folder("memory", str(filled.dataset_id))
    argv = [sys.executable, "-m", "bench.collect.memory", str(filled.dataset_id), str(folder)]
    said = subprocess.run(argv, env=os.environ, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    (folder / "dataset.jsonl").unlink()
    return int(said[0])


def main(dataset_id: int, folder: Path) -> str:
    """Write the file there; what to print."""
    from tasks import frozen

    _, sha256 = frozen.write(folder, frozen.Frozen(dataset_id, {"v1": 0}, False, None))
    return f"{peak_bytes()} {sha256}\n"


def peak_bytes() -> int:
    """The most resident memory that this process ever had. The kernel's own count: others outlive an ``exec``."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise RuntimeError("/proc/self/status says nothing of VmHWM: this is measured on Linux alone")
    return int(found[1]) * 1024


if __name__ == "__main__":
    sys.stdout.write(main(int(sys.argv[1]), Path(sys.argv[2])))
