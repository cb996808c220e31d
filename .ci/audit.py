"""``make audit``: what is publicly known against the packages that ``constraints.txt`` pins. It needs the network.

Writes ``build/audit.json``, as pip-audit does, and a table of what was found. Exit code 0 where nothing is known of any
package, 1 where something is, and 2 where a package could not be asked about.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "build" / "audit.json"
NAMED = 5
SECONDS = 240.0
"""For all packages: pip-audit asks about one after the other, and waits for each as long as ``--timeout`` says."""


def summary(report: str) -> tuple[int, str]:
    """The exit code, and the words for people. pip-audit counts what it could not ask about as harmless."""
    every = json.loads(report)["dependencies"]
    asked = [one for one in every if "skip_reason" not in one]
    unknown = [one["name"] for one in every if "skip_reason" in one]
    found = [(one["name"], one["version"], bad) for one in asked for bad in one["vulns"]]
    lines = [f"{name} {version}: {bad['id']}, {_remedy(bad['fix_versions'])}" for name, version, bad in found]
    lines.append(f"{len(asked)} of {len(every)} packages were asked about, {len(found)} findings")
    if unknown:
        more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
        lines.append(f"nothing is known of {', '.join(unknown[:NAMED])}{more}: the service did not answer for them")
    return (1 if found else 2 if unknown else 0), "\n".join(lines) + "\n"


def _remedy(versions: list[str]) -> str:
    return f"fixed in {', '.join(versions)}" if versions else "no fix"


def main() -> int:
    """Ask, write the report, and say what it says."""
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.unlink(missing_ok=True)
    what = ["-r", str(ROOT / "constraints.txt"), "--no-deps", "--disable-pip"]
    how = ["--progress-spinner", "off", "--timeout", "30", "--format", "json", "--output", str(REPORT)]
    argv = [sys.executable, "-m", "pip_audit", *what, *how]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"nothing was audited: no answer for all packages within {SECONDS:g} s\n")
        return 2
    if not REPORT.is_file():
        sys.stderr.write(
            f"nothing was audited: {(done.stderr.strip().splitlines() or ['pip-audit said nothing'])[-1]}\n"
        )
        return 2
    code, words = summary(REPORT.read_text(encoding="utf-8"))
    sys.stdout.write(words)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
