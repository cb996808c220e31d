"""How a report's points look: colours that colour-blind people tell apart, and marks that need no colour at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rl.report import Count, Point, Report

MOST_TYPES = 8
"""So many types are drawn, those with the most verdicts; a table has the others."""
MOST_NAMED = 8
"""In a panel with more places only the pick and the start are named."""
RING = 0.07
"""About the radius of a ring, in rates."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
STOPPED = "early stop"
ALARM_LOOK: dict[str, Any] = {"linestyle": (0, (4, 2)), "linewidth": 1.2, "zorder": 1}
STOPPED_LOOK: dict[str, Any] = {"linestyle": (0, (1, 3)), "linewidth": 2.6, "zorder": 1.5}
"""An early stop is seen over an alarm at the same step."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))


@dataclass(frozen=True)
class Palette:
    """Colours of a page; ``series`` are for the types. Okabe and Ito's, darker on white and lighter on black."""

    ink: str
    muted: str
    grid: str
    paper: str
    alarm: str
    series: tuple[str, ...]


LIGHT = Palette(
    ink="#1a1a1a",
    muted="#5f6368",
    grid="#d9dce0",
    paper="#ffffff",
    alarm="#b3261e",
    series=("#0072b2", "#c14f00", "#00805e", "#a8508a", "#8a6d00", "#2f7fb5", "#6b4fa0", "#4d4d4d"),
)
DARK = Palette(
    ink="#ececec",
    muted="#a9b0b7",
    grid="#3b4046",
    paper="#16181b",
    alarm="#ff8a80",
    series=("#56b4e9", "#ff9a56", "#3fcfa4", "#e6a0c8", "#f0c94a", "#8fcaf0", "#b9a4ec", "#c8c8c8"),
)


def shown_types(report: Report) -> list[str]:
    """The types that are drawn, in the report's order."""
    verdicts = {name: sum(one.types[name].n for one in report.points if name in one.types) for name in report.types}
    most = sorted(report.types, key=lambda name: -verdicts[name])[:MOST_TYPES]
    return [name for name in report.types if name in most]


@dataclass(frozen=True)
class Spot:
    """One place of a panel with the points that fall on it."""

    x: float
    y: float
    low: float
    high: float
    points: tuple[Point, ...]

    @property
    def label(self) -> str:
        return ", ".join(one.label for one in self.points)


def spots(placed: Sequence[tuple[float, Count | float, Point]]) -> list[Spot]:
    """The places of (x, y, point); equal ones are one. A plain number has no interval."""
    together: dict[tuple[float, float, float, float], list[Point]] = defaultdict(list)
    for x, y, point in placed:
        at = (y.rate, y.low, y.high) if isinstance(y, Count) else (y, y, y)
        together[(x, *at)].append(point)
    return [Spot(*place, tuple(points)) for place, points in sorted(together.items())]


def draw_spots(axes: Any, found: Sequence[Spot], color: str, marker: str, palette: Palette, alarmed: set[int]) -> None:
    """Marks with bars and labels: a ring is the tie set, a star the pick, hollow where verdicts are missing."""
    for one in found:
        beside = [other for other in found if other.x == one.x]
        x = one.x + 0.008 * _span(found) * (beside.index(one) - (len(beside) - 1) / 2)
        if one.high > one.low:
            axes.plot([x, x], [one.low, one.high], color=color, linewidth=1.4, alpha=0.65, zorder=2)
        mark(axes, x, one.y, one.points, color, marker, palette)
        warned = any(point.step in alarmed for point in one.points)
        if len(found) > MOST_NAMED and not any(point.picked or point.step == 0 for point in one.points):
            continue
        words = one.label + (" !" if warned else "")
        _labelled(axes, x, one, words, palette.alarm if warned else palette.ink, above=beside[-1] is one)


def _labelled(axes: Any, x: float, one: Spot, words: str, color: str, *, above: bool) -> None:
    """The label at the end of the bar, or beyond the ring of a tie where the bar is shorter than that."""
    end = one.high if above else one.low
    short = abs(end - one.y) < RING
    axes.annotate(
        words,
        (x, one.y if short else end),
        xytext=(0, (9 if short else 2) * (1 if above else -1)),
        textcoords="offset points",
        ha="center",
        va="bottom" if above else "top",
        fontsize=8,
        color=color,
        zorder=5,
    )


def mark(axes: Any, x: float, y: float, points: Sequence[Point], color: str, marker: str, palette: Palette) -> None:
    """One mark for the points at a place."""
    hollow, picked = all(one.hollow for one in points), any(one.picked for one in points)
    if any(one.tied for one in points):
        axes.plot([x], [y], "o", markersize=15, fillstyle="none", color=palette.ink, markeredgewidth=1.1, zorder=3)
    axes.plot(
        [x],
        [y],
        marker="*" if picked else marker,
        markersize=13 if picked else 6.5,
        markerfacecolor=palette.paper if hollow else color,
        markeredgecolor=palette.ink if picked and not hollow else color,
        markeredgewidth=0.8 if picked and not hollow else 1.4,
        linestyle="none",
        zorder=4,
    )


def legend_marks(report: Report, palette: Palette) -> list[Any]:
    """What a legend says of the marks and lines that are drawn."""
    from matplotlib.lines import Line2D

    plain: dict[str, Any] = {"color": palette.ink, "linestyle": "none", "markeredgewidth": 1.1}
    hollow = any(one.hollow and one.overall is not None for one in report.points)
    known: list[tuple[bool, str, dict[str, Any]]] = [
        (report.pick is not None, "pick", plain | {"marker": "*", "markersize": 11}),
        (bool(report.tie_set), "tie set", plain | {"marker": "o", "markersize": 12, "fillstyle": "none"}),
        (hollow, "verdicts missing", plain | {"marker": "o", "markersize": 6, "fillstyle": "none"}),
        (bool(report.alarms), "alarm", {"color": palette.alarm} | ALARM_LOOK),
        (report.early_stop is not None, STOPPED, {"color": palette.muted} | STOPPED_LOOK),
    ]
    return [Line2D([], [], label=label, **look) for there, label, look in known if there]


def _span(found: Sequence[Spot]) -> float:
    xs = [one.x for one in found]
    return (max(xs) - min(xs)) or 1.0
