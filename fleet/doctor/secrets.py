"""Credentials that are there or not, and who may read those that lie in files. None is ever shown."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fleet.doctor.finding import Finding, fail, ok, warn
from fleet.home import home_path
from rl.errors import RlfleetError

CREDENTIALS: Mapping[str, tuple[Sequence[str], str]] = {
    "judge key": (("RLFLEET_JUDGE_KEY", "OPENPIPE_API_KEY"), "lines that a judge scores or evaluates"),
    "hub token": (
        ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
        "models of the hub that are not public, and `rlfleet publish`",
    ),
    "W&B key": (("WANDB_API_KEY",), "TRAIN_BACKEND=art-serverless, and runs that are copied to W&B"),
}
"""What each is called, the variables that hold it, and what needs it."""
IN_HOME = ("*.password", "*.key", "endpoints.json", "processes.json")


def look(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Which credentials are set, and the modes of files that hold secrets."""
    for name, (variables, needed) in CREDENTIALS.items():
        there = next((one for one in variables if environ.get(one)), None)
        absent = f"not set ({' or '.join(variables)}): needed by {needed}"
        yield ok(name, f"{there} is set" if there else absent)
    yield from _files(environ)


def _files(environ: Mapping[str, str]) -> Iterator[Finding]:
    home = home_path(environ)
    try:
        found = [path for pattern in IN_HOME for path in home.glob(pattern)]
    except (OSError, RlfleetError) as error:
        yield warn("secrets", f"{home} cannot be read ({error})", "run this as the user who runs the fleet")
        return
    found += [path for path in (Path(".env"), Path("/etc/rlfleet/rlfleet.env")) if path.is_file()]
    wrong = [path for path in found if _is_open(path)]
    for path in wrong:
        yield fail("secrets", f"{path} can be read by others", f"`chmod 600 {path}`")
    if not wrong:
        yield ok("secrets", f"{len(found)} files, each for its owner alone")


def _is_open(path: Path) -> bool:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return False
    return bool(mode & 0o077)
