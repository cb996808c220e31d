"""What a report of a run, a version or a published table draws: counts with intervals, marks, alarms, and words.

Nothing is drawn here. Every rate is k of n verdicts with its 80 % interval under a uniform prior, so a page and a
picture say the same numbers. A point is hollow where verdicts are missing: it shows what is known of a checkpoint, and
below 95 % takes no part in the choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from rl.alarms import Alarm
from rl.choice import Choice, choose
from rl.errors import InvalidInput
from rl.intervals import beta_interval
from rl.lint import Lint, lint
from rl.power import DISCORDANCE, decidable, paired_scenarios
from rl.published import PublishedRow
from rl.records import Record

WANTED = (0.05, 0.10, 0.20)
"""Differences of two rates for which the report says how many scenarios they need."""


class Count(Record):
    """``k`` of ``n`` verdicts were right, a tie half of one; the true rate is in ``low`` to ``high`` with 80 %."""

    k: int | float
    n: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """The share that was right."""
        return self.k / self.n

    @classmethod
    def of(cls, k: float, n: int) -> Count:
        """``n`` is at least 1."""
        low, high = beta_interval(k, n)
        return cls(k=k, n=n, low=low, high=high)


class Point(Record):
    """One checkpoint. ``overall`` is None where no verdict is known, and ``types`` lacks those without verdicts.

    ``coverage`` is the share of the verdicts asked for that are there; ``left_out`` says why it was not ranked.
    """

    step: int
    label: str
    overall: Count | None
    types: dict[str, Count]
    training_score: float | None = None
    coverage: float = 1.0
    tied: bool = False
    picked: bool = False
    vetoed: tuple[str, ...] = ()
    left_out: str = ""

    @property
    def hollow(self) -> bool:
        """Whether verdicts are missing."""
        return self.coverage < 1 or bool(self.left_out)


class Size(Record):
    """What the held-out set can decide. ``scenarios`` holds the paired scenarios that a difference of rates needs."""

    n: int
    decidable: float | None
    scenarios: dict[str, int]
    statement: str


class Report(Record):
    """A chain of checkpoints by ``axis``, the choice among them, and what is wrong or unknown.

    ``training_scale`` is whether training scores are shares from 0 to 1, as rates are.
    """

    title: str
    kind: Literal["run", "version", "table"]
    axis: str
    judged_on: str
    types: list[str]
    points: list[Point] = Field(min_length=1)
    alarms: list[Alarm]
    early_stop: int | None
    pick: int | None
    reason: str
    decision: str = ""
    lint: list[Lint] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    size: Size | None = None

    @property
    def tie_set(self) -> list[int]:
        """The steps that the data do not tell apart."""
        return [one.step for one in self.points if one.tied]

    @property
    def training_scale(self) -> bool:
        """Whether every training score is a share."""
        return all(0 <= one.training_score <= 1 for one in self.points if one.training_score is not None)

    def alarmed(self) -> dict[int, list[Alarm]]:
        """The alarms by step."""
        found: dict[int, list[Alarm]] = {}
        for one in self.alarms:
            found.setdefault(one.step, []).append(one)
        return found

    def as_json(self) -> dict[str, Any]:
        """One object for machines."""
        said = self.model_dump(mode="json")
        return {"schema": 1, **said, "tie_set": self.tie_set}


def of_table(rows: Sequence[PublishedRow], title: str = "published table") -> Report:
    """The report of a published table, by the same rule as ``rlfleet select``.

    Raises:
        InvalidInput: there is no row.
    """
    if not rows:
        raise InvalidInput("rows", [], "the table is empty; give at least one row")
    choice = choose(rows)
    points = [_published(row, choice) for row in sorted(rows, key=lambda row: row.step)]
    most = max((one.overall.n for one in points if one.overall is not None), default=0)
    return Report(
        title=title,
        kind="table",
        axis="step",
        judged_on=f"{most} scenarios",
        types=sorted({name for one in points for name in one.types}),
        points=points,
        alarms=choice.alarms,
        early_stop=choice.early_stop,
        pick=choice.pick,
        reason=choice.reason,
        lint=choice.lint,
        notes=choice.notes,
        size=size_of(most),
    )


def _published(row: PublishedRow, choice: Choice) -> Point:
    counts = lint(row).counts
    ranked = next((one.types for one in choice.rows if one.step == row.step), None)
    shown = ranked if ranked is not None else counts
    return Point(
        step=row.step,
        label=str(row.step),
        overall=total(shown) if ranked is not None or len(counts) == len(row.types) else None,
        types=counted(shown),
        training_score=row.training_score,
        coverage=choice.coverage.get(row.step, 0.0 if ranked is None else 1.0),
        tied=row.step in choice.tie_set,
        picked=row.step == choice.pick,
        vetoed=tuple(one.type for one in choice.vetoed if one.step == row.step),
        left_out=choice.unresolved.get(row.step, ""),
    )


def counted(types: Mapping[str, tuple[int, int]]) -> dict[str, Count]:
    """The types that have verdicts, by name."""
    return {name: Count.of(k, n) for name, (k, n) in sorted(types.items()) if n}


def total(types: Mapping[str, tuple[int, int]]) -> Count | None:
    """All types together; None without a verdict."""
    k, n = (sum(one[place] for one in types.values()) for place in (0, 1))
    return Count.of(k, n) if n else None


def size_of(n: int) -> Size | None:
    """What ``n`` scenarios that were not trained on can decide; None where there are none."""
    if n == 0:
        return None
    needed = {f"{one:g}": round(paired_scenarios(one)) for one in WANTED}
    least = decidable(n)
    what = f"no difference up to {DISCORDANCE:g}" if least is None else f"a difference of {least:.2f} or more"
    others = ", ".join(f"{one} needs {count}" for one, count in needed.items())
    statement = (
        f"{n} scenarios can decide {what}; {others} (paired, two-sided 5 %, power 80 %, "
        f"{DISCORDANCE:.0%} of scenarios discordant)"
    )
    return Size(n=n, decidable=least, scenarios=needed, statement=statement)
