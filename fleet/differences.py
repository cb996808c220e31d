"""What came of training a version again, and what is not as it was: the usual reasons why other bytes come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from fleet.folders import files_of

REMEDIES = {
    "threads": "set RLFLEET_TORCH_THREADS to the first",
    "device": "RLFLEET_DEVICE chooses another",
    "environment": "this version was made before manifests named one",
}
RECORD = "checkpoint.json"
"""A checkpoint's own account of itself, which is not part of its hash."""


@dataclass(frozen=True)
class Difference:
    """Something that was ``stored`` with the version and is ``here`` otherwise; None stands for nothing."""

    name: str
    stored: object
    here: object

    def __str__(self) -> str:
        """As people read it."""
        remedy = REMEDIES.get(self.name)
        here = "" if self.stored is None else f", {self.here} here"
        return f"{self.name}: {'not recorded' if self.stored is None else f'{self.stored} then'}{here}" + (
            f" ({remedy})" if remedy else ""
        )


@dataclass(frozen=True)
class Outcome:
    """The two hashes, the seconds that it took, and what was not as it was when the version was trained."""

    version: str
    stored: str
    reproduced: str
    seconds: float
    differences: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        """Whether the checkpoint has come out again, bit for bit."""
        return self.stored == self.reproduced

    def json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {"schema": 1, **asdict(self), "equal": self.equal, "seconds": round(self.seconds, 1)}

    def lines(self) -> list[str]:
        """The same for people."""
        hashes = [f"stored      {self.stored}", f"reproduced  {self.reproduced}"]
        if self.equal:
            return [*hashes, f"{self.version}: equal, {self.seconds:.0f} s"]
        why = "likely because of" if self.differences else "and nothing that is recorded differs"
        return [*hashes, f"{self.version}: different, {self.seconds:.0f} s, {why}", *map(str, self.differences)]


def of_environment(stored: Mapping[str, Any] | None, here: Mapping[str, Any]) -> list[Difference]:
    """Every entry of the environment that is another here than in the version's manifest."""
    if stored is None:
        return [Difference("environment", None, dict(here))]
    names = [*stored, *(name for name in here if name not in stored)]
    return [Difference(name, stored.get(name), here.get(name)) for name in names if stored.get(name) != here.get(name)]


def of_memory(manifest: Mapping[str, Any], adjust: Mapping[str, Any]) -> list[Difference]:
    """Micro-batches that became smaller on the way: the rows say how small, but not from which step on."""
    budget = manifest.get("token_budget")
    found = []
    if lowered(manifest):
        given = dict(manifest.get("config") or {}).get("token_budget")
        why = "after memory ran out" if manifest.get("token_budget_shrunk") else "to fit into memory"
        found.append(Difference("token_budget", f"{given}, and {budget} {why}", budget))
    if adjust and manifest.get("resumed"):
        step = dict(manifest["resumed"]).get("step")
        found.append(Difference("adjusted", f"{dict(adjust)}, perhaps only after step {step}", dict(adjust)))
    return found


def lowered(manifest: Mapping[str, Any]) -> bool:
    """Whether the training took a smaller token budget than its config's."""
    given, budget = dict(manifest.get("config") or {}).get("token_budget"), manifest.get("token_budget")
    return bool(manifest.get("token_budget_shrunk")) or (given is not None and budget is not None and budget < given)


def of_files(stored: Path, here: Path) -> list[Difference]:
    """The files of two checkpoints that differ, with their SHA-256; none when the stored one is gone."""
    if not stored.is_dir():
        return []
    then, now = files_of(stored), files_of(here)
    names = sorted((then.keys() | now.keys()) - {RECORD})
    return [Difference(name, then.get(name), now.get(name)) for name in names if then.get(name) != now.get(name)]


def first_other_line(stored: Path, here: Path) -> int | None:
    """The number of the first line that two files do not share, from 1; None when they are equal."""
    with stored.open("rb") as then, here.open("rb") as now:
        pairs = enumerate(zip_longest(then, now), start=1)
        return next((number for number, (old, new) in pairs if old != new), None)
