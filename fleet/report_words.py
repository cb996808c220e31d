"""What a report says in words, on a page and in a terminal."""

from __future__ import annotations

from rl.report import Point, Report


def chosen(report: Report) -> str:
    """The pick and the tie set in words."""
    names = {one.step: one.label for one in report.points}
    if report.pick is None:
        return "Nothing can be ranked."
    others = ", ".join(names[step] for step in report.tie_set)
    what = f"{names[report.pick]}, no improvement" if report.pick == 0 else names[report.pick]
    return f"Pick: {what}; tie set: {others}."


def columns(report: Report) -> list[str]:
    """The heads of the table's columns."""
    return [report.axis, *report.types, "overall", "training score", "covered", "remarks"]


def remarks(report: Report, one: Point) -> list[str]:
    """What is to be said of a checkpoint beside its numbers."""
    found = ["pick"] if one.picked else []
    found += ["tie set"] if one.tied else []
    found += [f"vetoed by {', '.join(one.vetoed)}"] if one.vetoed else []
    found += [alarm.name for alarm in report.alarmed().get(one.step, [])]
    found += ["early stop"] if one.step == report.early_stop else []
    return found + ([f"not ranked: {one.left_out}"] if one.left_out else [])


def findings(report: Report) -> dict[str, list[str]]:
    """Alarms with their evidence, numbers that cannot be, and what the data do not tell, by heading."""
    names = {one.step: one.label for one in report.points}
    lint = [
        f"{names[one.step]}: {one.type} {one.published:g} cannot be, of {one.n}"
        + ("" if one.k is None else f": it must be {one.k}/{one.n}")
        for one in report.lint
    ]
    return {
        "Alarms": [f"{one.name} at {names[one.step]}: {one.evidence}" for one in report.alarms],
        "Numbers that cannot be": lint,
        "What the data do not tell": list(report.notes),
    }
