from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]


def _pins() -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    matches = [re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s,;+*]+)", line) for line in lines if line]
    assert all(matches), "constraints.txt: every line is name==version, without a local version"
    return {canonicalize_name(match[1]): match[2] for match in matches if match}


def _declared() -> Iterator[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in (line for lines in project["optional-dependencies"].values() for line in lines):
        if not line.startswith("rlfleet["):
            yield Requirement(line)
    yield from map(Requirement, project["dependencies"])


def _closure() -> dict[str, str]:
    """Name to installed version of everything that the extras bring on this machine."""
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = list(_declared())
    while waiting:
        wanted = waiting.pop()
        name, extras = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if (name, extras) in seen or name == "pip":  # which comes with Python, for pip-audit too
            continue
        seen.add((name, extras))
        dist = distribution(name)
        found[name] = Version(dist.version).public
        for line in dist.requires or []:
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
                waiting.append(requirement)
    return found


def test_everything_installed_is_pinned_at_its_version() -> None:
    pins = _pins()
    wrong = {name: (version, pins.get(name)) for name, version in _closure().items() if pins.get(name) != version}
    assert wrong == {}, "name: (installed, pinned); pin these in constraints.txt, or run `make install`"


def test_every_declared_range_admits_its_pin() -> None:
    pins = _pins()
    outside = [str(wanted) for wanted in _declared() if pins[canonicalize_name(wanted.name)] not in wanted.specifier]
    assert outside == []


def test_openai_stays_on_httpx() -> None:
    assert Version(_pins()["openai"]).major == 2
