"""Write the file of a collection: run every program of it in the sandbox, and keep what they print.

python -m environments.programs.build
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from environments.programs.bank import Collection, kept, one_liners, programs, solve, task_digest


def write(collection: Collection, path: Path) -> int:
    """Write the file; returns how many programs it holds. One program a line, sorted, so that changes can be read."""
    lines = sorted(
        f"{json.dumps(task_digest(task))}: {json.dumps(kept(solve(task)), separators=(',', ':'))}"
        for task in collection.tasks()
    )
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return len(lines)


def main() -> None:
    """Write the files of both collections."""
    for collection in (programs(), one_liners()):
        path = Path(__file__).with_name(f"{collection.name}.json")
        sys.stdout.write(f"{write(collection, path)} programs in {path.name}\n")


if __name__ == "__main__":
    main()
