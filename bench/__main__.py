"""``python -m bench``: everything that is measured, one after the other, each in a process of its own.

The report of all goes to the file of ``--json``, by name; what each part prints goes through. The exit status is 0 if
and only if every part keeps its bounds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PARTS = ("jobs", "collect", "train_ratio", "engine", "loop", "release", "gateway", "sandbox", "metrics")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = _arguments(argv)
    report: dict[str, Any] = {"schema": 1, "quick": args.quick, "passed": True}
    with tempfile.TemporaryDirectory(prefix="rlfleet-bench-") as folder:
        for name in args.parts.split(",") if args.parts else PARTS:
            file = Path(folder) / f"{name}.json"
            words = ["-m", f"bench.{name}", "--json", str(file), *(["--quick"] if args.quick else [])]
            sys.stderr.write(f"bench.{name}\n")
            done = subprocess.run([sys.executable, *words], check=False)
            failed = {"error": f"exit status {done.returncode}, and no report"}
            report[name] = json.loads(file.read_bytes()) if file.exists() else failed
            report["passed"] = report["passed"] and done.returncode == 0
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if report["passed"] else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small numbers, in a few minutes")
    parser.add_argument("--parts", help=f"some of {', '.join(PARTS)}, separated by commas")
    parser.add_argument("--json", type=Path, help="file for the reports")
    args = parser.parse_args(argv)
    if unknown := set((args.parts or PARTS[0]).split(",")) - set(PARTS):
        parser.error(f"--parts = {args.parts}: there is no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return args


if __name__ == "__main__":
    sys.exit(main())
