"""Python, and the installed packages against the versions that the tests run on."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fleet.doctor.finding import Finding, fail, ok, warn
from fleet.processes import ROOT

LEAST = (3, 11)
MOST_NAMED = 5


def look(constraints: Path = ROOT / "constraints.txt", distribution: str = "rlfleet") -> Iterator[Finding]:
    """Python; what the distribution requires; what is installed at another version than ``constraints`` says."""
    shown = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < LEAST:
        yield fail("python", shown, "install Python 3.11 or newer, and make the environment again")
    else:
        yield ok("python", shown)
    yield _required(distribution)
    yield _pinned(constraints)


def _required(distribution: str) -> Finding:
    try:
        words = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return warn("packages", f"{distribution} is not installed here", "`pip install -c constraints.txt -e '.[all]'`")
    wanted = [one for one in map(Requirement, words) if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = [f"{one} ({_version(one.name) or 'missing'})" for one in wanted if not _fits(one)]
    if wrong:
        return fail("packages", f"not as required: {_some(wrong)}", f"`pip install -c constraints.txt {distribution}`")
    return ok("packages", f"{len(wanted)} required ones are there")


def _pinned(constraints: Path) -> Finding:
    check = "constraints"
    if not constraints.exists():
        return ok(check, "not compared: there is no constraints.txt beside an installed package")
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", constraints.read_text(), re.MULTILINE)
    found = {name: _version(name) for name, _ in pins}
    # torch 2.13.0+cpu is the same release as 2.13.0, built for other hardware.
    other = [
        f"{name} {version} (tested: {pin})"
        for name, pin in pins
        if (version := found[name]) is not None and version.partition("+")[0] != pin.partition("+")[0]
    ]
    if other:
        remedy = "`pip install -c constraints.txt -e '.[all]'` installs what the tests run on"
        return warn(check, f"{len(other)} of other versions: {_some(other)}", remedy)
    return ok(check, f"{sum(one is not None for one in found.values())} packages as tested")


def _version(name: str) -> str | None:
    try:
        return metadata.version(canonicalize_name(name))
    except metadata.PackageNotFoundError:
        return None


def _fits(wanted: Requirement) -> bool:
    version = _version(wanted.name)
    return version is not None and wanted.specifier.contains(version, prereleases=True)


def _some(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
