"""``python -m fleet.reference``: write the pages that follow from code; ``--check`` compares them only."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fleet.processes import ROOT
from fleet.reference import commands, configs, variables

OPENING = """# Configuration

Environment variables say where things are; typed files say what to do. This page is written by
`python -m fleet.reference` from the classes that read both, and a test holds it up to date.

A variable that is set to nothing counts as unset. `.env.template` has the same variables to be filled in; one that
cannot be used is an error that names it, its value and the remedy. Unknown keys of a file are errors too. Where those
who read a variable have different built-in values, each is followed by its readers. What libraries read for themselves
(`CUDA_VISIBLE_DEVICES`, `HF_HOME`, `OMP_NUM_THREADS`, …) is in their own documentation.

What is called secret below may lie in a file instead: `RLFLEET_ENGINE_KEY_FILE=/run/secrets/engine_key` stands for
`RLFLEET_ENGINE_KEY` ([perimeter](perimeter.md#secrets-in-files)).

## Environment variables"""


def written(root: Path) -> dict[str, str]:
    """Each page that is written, by its path."""
    configuration = f"{OPENING}\n\n{variables.page(root)}\n\n{configs.page()}\n"
    return {"docs/configuration.md": configuration, "docs/commands.md": commands.page()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or compare them: exit code 1 where one is not what the code says."""
    parser = argparse.ArgumentParser(prog="python -m fleet.reference", description="Write the pages made from code.")
    parser.add_argument("--check", action="store_true", help="compare only; exit code 1 where one is out of date")
    options = parser.parse_args(arguments)
    old = 0
    for place, text in written(ROOT).items():
        page = ROOT / place
        if not options.check:
            page.write_text(text, encoding="utf-8")
        elif not page.is_file() or page.read_text(encoding="utf-8") != text:
            sys.stderr.write(f"{place} is not what the code says: run `python -m fleet.reference`\n")
            old += 1
    return 1 if old else 0


if __name__ == "__main__":
    raise SystemExit(main())
