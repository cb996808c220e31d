"""``python -m bench.results``: runs pipelines/small/*.toml, each with its own fleet, and writes a page and a figure.

What has been run is not run again: homes and reports lie in ``results`` in the home of this machine's fleet
(``RLFLEET_HOME``), a pipeline that was stopped goes on, and one whose file has changed begins anew. The page has every
pipeline that has a report for its file as it is. The exit status is 0 if and only if every pipeline that was asked for
came to its end, and 130 after ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from bench.results import page
from fleet.files import read_toml
from fleet.home import home_path, write_private
from fleet.pipeline.folder import Folder
from fleet.pipeline.report import Found
from fleet.ports import free_port
from fleet.processes import ROOT
from rl.pipeline import Pipeline

PIPELINES = ROOT / "pipelines" / "small"
FOREIGN = ("RLFLEET_", "DATABASE_URL", "REDIS_URL", "RL_", "USE_RL_MODEL", "UPSTREAM_")
"""Variables that would point a pipeline at another fleet, or have its gateway answer otherwise."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = _arguments(argv)
    folder = args.folder or home_path(os.environ) / "results"
    asked = _files(args.pipelines, args.only)
    try:
        done = {file: run(file, folder, fresh=args.fresh) for file in asked}
    except KeyboardInterrupt:
        sys.stderr.write("bench.results: stopped; the same command goes on from here\n")
        return 130
    every = {file: done[file] if file in done else kept(file, folder) for file in _files(args.pipelines, [])}
    found = [report for report in every.values() if report is not None]
    failed = [file.stem for file, report in done.items() if report is None]
    if found:
        args.out.write_text(page.text(found, args.out.with_suffix(".png").name))
        page.draw(found, args.out.with_suffix(".png"))
    for name in failed:
        sys.stderr.write(f"bench.results: {name} did not come to its end; the same command goes on with it\n")
    return 1 if failed else 0


def run(file: Path, folder: Path, *, fresh: bool = False) -> Found | None:
    """The report of the pipeline in ``file``, run in a home of its own in ``folder``; None where it failed."""
    config, home = read_toml(file, Pipeline), folder / file.stem
    known = None if fresh else kept(file, folder)
    if known is not None:
        return known
    begun = Folder(home / "pipelines" / config.name).read("pipeline")
    finished = _report_of(file, folder).exists()
    if fresh or finished or not (begun is None or _is(begun, config)):
        shutil.rmtree(home, ignore_errors=True)
        _report_of(file, folder).unlink(missing_ok=True)
    sys.stderr.write(f"bench.results: {file.stem}\n")
    known = _carried_out(file, home)
    if known is not None:
        write_private(_report_of(file, folder), json.dumps(known, indent=1) + "\n")
    return known


def kept(file: Path, folder: Path) -> Found | None:
    """The report of an earlier run of the pipeline in ``file`` as it is; None where there is none."""
    report = _report_of(file, folder)
    known: Found | None = json.loads(report.read_text()) if report.exists() else None
    return known if known is not None and _is(known["config"], read_toml(file, Pipeline)) else None


def _report_of(file: Path, folder: Path) -> Path:
    return folder / f"{file.stem}.json"


def _is(stored: object, config: Pipeline) -> bool:
    """Whether these are the stored settings; keys that came later have their defaults."""
    try:
        return Pipeline.model_validate(stored) == config
    except ValidationError:
        return False


def _carried_out(file: Path, home: Path) -> Found | None:
    words = [sys.executable, "-m", "fleet", "run", str(file.resolve()), "--json"]
    child = subprocess.Popen(words, cwd=ROOT, env=_environ(home), stdout=subprocess.PIPE, text=True)
    try:
        said, _ = child.communicate()
    except KeyboardInterrupt:
        # It has had ctrl-C as well, and stops its fleet in order; killing it would leave servers to the watchdog.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        child.communicate()
        signal.signal(signal.SIGINT, before)
        raise
    return json.loads(said) if child.returncode == 0 else None


def _environ(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    ports = {f"RLFLEET_{name}_PORT": str(free_port()) for name in ("GATEWAY", "FLOWER", "ADMIN")}
    return kept | ports | {"RLFLEET_HOME": str(home), "RLFLEET_DEVICES": "cpu"}


def _files(folder: Path, only: Sequence[str]) -> list[Path]:
    files = sorted(folder.glob("*.toml"))
    unknown = set(only) - {file.stem for file in files}
    if unknown:
        known = ", ".join(file.stem for file in files)
        raise SystemExit(f"--only = {', '.join(sorted(unknown))}: no such pipeline; {folder} has {known}")
    return [file for file in files if not only or file.stem in only]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.results", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these pipelines alone")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "results.md", help="the page; its figure lies beside"
    )
    parser.add_argument("--fresh", action="store_true", help="run finished ones again too")
    parser.add_argument("--pipelines", type=Path, default=PIPELINES, help="folder of the files")
    parser.add_argument("--folder", type=Path, help="where homes and reports lie")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
