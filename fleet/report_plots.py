"""The three plots of a report: each type against the overall rate, all against the step, all against training.

Where the x axis is an order, 80 % intervals are bands along it; where it is a rate or a score, which several
checkpoints may share, they are bars.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fleet.report_marks import (
    ALARM_LOOK,
    DASHES,
    LIGHT,
    MARKERS,
    STOPPED,
    STOPPED_LOOK,
    Palette,
    draw_spots,
    legend_marks,
    mark,
    shown_types,
    spots,
)
from rl.report import Count, Point, Report

WIDTH = 8.6
"""Inches of every plot."""
PANEL, EMPTY = 2.5, 0.9
"""Inches of a row of panels, and of a plot that there is nothing for."""
DPI = 150
MOST_TICKS = 16
MOST_BANDS = 4
"""With more types their bands would hide each other."""
RATES = (-0.24, 1.24)
"""Rates of a panel, with room for the labels above and below the bars."""
LETTER = 0.0145
"""About the width of a letter, as a share of the plot by step."""
TRAINING = "training score"

Value = Callable[[Point], Count | float | None]
"""What of a checkpoint a panel shows."""


def heights(report: Report) -> dict[str, float]:
    """The plots by name with their heights in inches."""
    types = len(shown_types(report))
    training = any(one.training_score is not None for one in report.points)
    panels = {"overall": types + training, "training": types + 1 if training else 1}
    high = {name: 0.45 + PANEL * -(-max(count, 1) // _columns(count)) for name, count in panels.items()}
    if not any(one.overall for one in report.points):
        high = dict.fromkeys(high, EMPTY)
    elif not training:
        high["training"] = EMPTY
    return {"overall": high["overall"], "step": 4.6, "training": high["training"]}


def draw(name: str, figure: Any, report: Report, palette: Palette) -> None:
    """Draw the plot ``overall``, ``step`` or ``training`` on a figure or a part of one."""
    plots: dict[str, Callable[[Any, Report, Palette], None]] = {
        "overall": _against_overall,
        "step": _against_step,
        "training": _against_training,
    }
    plots[name](figure, report, palette)


def png(report: Report, file: Path) -> None:
    """Write all three plots, one below the other, as a PNG."""
    import matplotlib as mpl

    with mpl.rc_context({"text.parse_math": False}):  # dollars in the name of a type are no formula
        _png(report, file)


def _png(report: Report, file: Path) -> None:
    from matplotlib.figure import Figure

    said = (report.title, report.reason, report.decision, report.size.statement if report.size else "")
    words = [textwrap.fill(one, 110) for one in said if one]
    lines = sum(one.count("\n") + 1 for one in words)
    sizes = {"words": 0.1 + 0.17 * lines} | heights(report)
    figure = Figure(figsize=(WIDTH, sum(sizes.values())), layout="constrained", facecolor=LIGHT.paper)
    parts: Any = figure.subfigures(len(sizes), 1, height_ratios=list(sizes.values()))
    for part, name in zip(parts, sizes, strict=True):
        part.set_facecolor(LIGHT.paper)
        if name == "words":
            part.text(0.01, 0.9, "\n".join(words), va="top", fontsize=9, color=LIGHT.ink)
        else:
            draw(name, part, report, LIGHT)
    figure.savefig(file, dpi=DPI, metadata={"Software": None})


def _against_overall(figure: Any, report: Report, palette: Palette) -> None:
    figure.suptitle("Each type and the training score against the overall rate", **_heading(palette))
    points = [one for one in report.points if one.overall is not None]
    values = [(name, _of_type(name)) for name in shown_types(report)]
    if any(one.training_score is not None for one in points):
        values.append((TRAINING, lambda one: one.training_score))
    if points:
        _panels(figure, report, palette, "overall rate", values, lambda one: one.overall.rate if one.overall else None)
    else:
        _nothing(figure, "no verdicts are known, so there is no overall rate", palette)


def _against_training(figure: Any, report: Report, palette: Palette) -> None:
    figure.suptitle("Each type and the overall rate against the training score", **_heading(palette))
    if all(one.training_score is None or one.overall is None for one in report.points):
        missing = "no training score is known of a checkpoint with verdicts: nothing can be drawn against it"
        _nothing(figure, missing, palette)
        return
    values = [(name, _of_type(name)) for name in shown_types(report)]
    values.append(("overall", lambda one: one.overall))
    _panels(figure, report, palette, "training score", values, lambda one: one.training_score)


def _of_type(name: str) -> Value:
    return lambda one: one.types.get(name)


def _columns(panels: int) -> int:
    """So many panels stand beside each other."""
    return 4 if panels in (4, 7, 8) else 3


def _panels(
    figure: Any,
    report: Report,
    palette: Palette,
    across: str,
    values: Sequence[tuple[str, Value]],
    x_of: Callable[[Point], float | None],
) -> None:
    """A panel for each value, all with the same axes."""
    columns = _columns(len(values))
    grid = figure.subplots(-(-len(values) // columns), columns, sharex=True, squeeze=False)
    alarmed, types = set(report.alarmed()), shown_types(report)
    for axes, (name, y_of) in zip(grid.flat, values, strict=False):
        placed = [(x, y, one) for one in report.points if (x := x_of(one)) is not None and (y := y_of(one)) is not None]
        color, marker, _ = _look(name, types, palette)
        draw_spots(axes, spots(placed), color, marker, palette, alarmed)
        _axes(axes, palette, name)
        if name != TRAINING or report.training_scale:
            axes.set_ylim(*RATES)
        axes.margins(x=0.16)
        if len({x for x, _, _ in placed}) == 1:
            axes.set_xlim(placed[0][0] - 0.1, placed[0][0] + 0.1)
        axes.xaxis.set_major_formatter("{x:.3g}")
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(across, fontsize=8, color=palette.muted)
    for axes in grid.flat[len(values) :]:
        axes.set_axis_off()


def _against_step(figure: Any, report: Report, palette: Palette) -> None:
    figure.suptitle(f"All against the {report.axis}", **_heading(palette))
    axes = figure.subplots()
    types = shown_types(report)
    several = types if len(types) > 1 else []  # one alone is the overall rate
    values = {name: [(one, one.types[name]) for one in report.points if name in one.types] for name in several}
    values["overall"] = [(one, one.overall) for one in report.points if one.overall is not None]
    for name, counts in values.items():
        _series(axes, counts, name, types, palette)
    axes.set_ylim(-0.02, 1.02)
    _axes(axes, palette, "")
    _training(axes, report, palette)
    _lines(axes, report, palette)
    _ticks(axes, report)
    axes.set_xlabel(report.axis, fontsize=9, color=palette.ink)
    axes.set_ylabel("rate", fontsize=9, color=palette.ink)
    _legend(figure, axes, report, palette)


def _training(axes: Any, report: Report, palette: Palette) -> None:
    """The training score; on an axis of its own at the right where it is no share."""
    trained = [(one.step, one.training_score) for one in report.points if one.training_score is not None]
    if not trained:
        return
    look: dict[str, Any] = {"color": palette.muted, "linestyle": (0, (2, 2)), "marker": "x", "label": TRAINING}
    if report.training_scale:
        axes.plot(*zip(*trained, strict=True), linewidth=1.6, zorder=3, **look)
        return
    right = axes.twinx()
    right.plot(*zip(*trained, strict=True), linewidth=1.6, **look)
    right.tick_params(colors=palette.muted, labelsize=8)
    right.set_ylabel(TRAINING, fontsize=9, color=palette.muted)
    for spine in right.spines.values():
        spine.set_visible(False)
    axes.plot([], [], **look)


def _series(
    axes: Any, values: Sequence[tuple[Point, Count]], name: str, types: Sequence[str], palette: Palette
) -> None:
    """A line with marks in a band. Of many types only the overall rate has a band; panels have the others' bars."""
    if not values:
        return
    color, marker, dashes = _look(name, types, palette)
    steps, is_overall = [one.step for one, _ in values], name == "overall"
    lows, highs = [count.low for _, count in values], [count.high for _, count in values]
    if len(values) == 1:
        axes.plot(steps * 2, [lows[0], highs[0]], color=color, linewidth=1.4, alpha=0.65)
    if is_overall or len(types) <= MOST_BANDS:
        axes.fill_between(steps, lows, highs, color=color, alpha=0.2 if is_overall else 0.09, linewidth=0)
    style = {"color": color, "linestyle": dashes, "linewidth": 2.4 if is_overall else 1.3}
    axes.plot(steps, [count.rate for _, count in values], label=name, zorder=3, **style)
    for one, count in values:
        plain = one if is_overall else one.model_copy(update={"picked": False, "tied": False})
        mark(axes, one.step, count.rate, (plain,), color, marker, palette)


def _lines(axes: Any, report: Report, palette: Palette) -> None:
    """Alarms and the early stop as vertical lines; a name stands where alarms of that name begin."""
    before: list[str] = []
    ends: list[float] = []
    for step in [one.step for one in report.points]:
        names: list[str] = [one.name for one in report.alarmed().get(step, [])]
        words = [one for one in names if one not in before]
        if names:
            axes.axvline(step, color=palette.alarm, **ALARM_LOOK)
        if step == report.early_stop:
            axes.axvline(step, color=palette.muted, **STOPPED_LOOK)
            words.append(STOPPED)
        for word in words:
            _named(axes, step, word, palette.muted if word == STOPPED else palette.alarm, ends)
        before = names


def _named(axes: Any, step: int, word: str, color: str, ends: list[float]) -> None:
    """A name above the axes, in the lowest row that is free there; ``ends`` holds where the names of each row end."""
    low, high = axes.get_xlim()
    begin = (step - low) / (high - low)
    row = next((place for place, end in enumerate(ends) if end < begin), len(ends))
    ends[row : row + 1] = [begin + LETTER * (len(word) + 1)]
    axes.annotate(
        word,
        (step, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(2, 3 + 10 * row),
        textcoords="offset points",
        fontsize=8,
        color=color,
        annotation_clip=False,
    )


def _ticks(axes: Any, report: Report) -> None:
    from matplotlib.ticker import MaxNLocator

    if len(report.points) > MOST_TICKS:
        axes.xaxis.set_major_locator(MaxNLocator(MOST_TICKS, integer=True))
        return
    labels = [one.label for one in report.points]
    axes.set_xticks([one.step for one in report.points], labels)
    if max(map(len, labels)) > 6 and len(labels) > 6:
        axes.tick_params(axis="x", labelrotation=30)


def _legend(figure: Any, axes: Any, report: Report, palette: Palette) -> None:
    """The series, and those marks that are drawn."""
    handles, _ = axes.get_legend_handles_labels()
    handles += legend_marks(report, palette)
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False, labelcolor=palette.ink)


def _look(name: str, types: Sequence[str], palette: Palette) -> tuple[str, str, Any]:
    """Colour, marker and dashes of a series."""
    if name not in types:
        return (palette.ink, "o", "-") if name == "overall" else (palette.muted, "X", (0, (2, 2)))
    place = types.index(name)
    return palette.series[place % len(palette.series)], MARKERS[place % len(MARKERS)], DASHES[place % len(DASHES)]


def _axes(axes: Any, palette: Palette, title: str) -> None:
    axes.set_facecolor("none")
    axes.grid(color=palette.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=palette.ink, labelsize=8)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(palette.muted)
    axes.set_title(title, fontsize=9, color=palette.ink, loc="left")


def _heading(palette: Palette) -> dict[str, Any]:
    return {"fontsize": 11, "color": palette.ink, "x": 0.01, "ha": "left"}


def _nothing(figure: Any, why: str, palette: Palette) -> None:
    axes = figure.subplots()
    axes.set_axis_off()
    axes.text(0.5, 0.5, why, ha="center", va="center", fontsize=9, color=palette.muted, wrap=True)
