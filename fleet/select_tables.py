"""What ``rlfleet select`` says to people."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from fleet.terminal import console, say
from rl.choice import Choice, Ranked
from rl.intervals import beta_interval
from rl.power import power_table
from rl.selection import CREDIBLE, shown

MARKED = "*"


def show(choice: Choice, *, power: bool = False) -> None:
    """Print the rows with 80 % intervals, the tie set marked, what is wrong, and what the data do not tell.

    With ``power`` also how many scenarios a difference needs.
    """
    if choice.rows:
        console.print(_rows(choice))
        how = "weighted types" if choice.weights else "paired bootstrap" if choice.paired else "independent rates"
        say(f"{MARKED} tie set; intervals hold 80 %; P(worse) than the best, a tie below {CREDIBLE:g}: {how}")
    for line in _wrong(choice):
        say(line)
    for alarm in choice.alarms:
        say(f"{alarm.name} at step {alarm.step}: {alarm.evidence}")
    if choice.early_stop is not None:
        say(f"early stop at step {choice.early_stop}: two evaluations in a row brought no improvement")
    for note in choice.notes:
        say(note)
    if choice.confirm is not None:
        say(choice.confirm.statement)
    if power:
        show_power()
    say(f"pick: {_picked(choice.pick)}; {choice.reason}")


def _rows(choice: Choice) -> Table:
    names = list(choice.rows[0].types)
    table = Table(padding=(0, 0))
    for name in ("step", *names, "all", "mean", "P(worse)", "P(best)"):
        table.add_column(Text(name))
    for row in choice.rows:
        mark = MARKED if row.step in choice.tie_set else ""
        style = "bold" if row.step == choice.pick else None
        table.add_row(f"{row.step}{mark}", *(_cell(row.types[name]) for name in names), *_overall(row), style=style)
    return table


def _cell(count: tuple[int, int]) -> str:
    low, high = beta_interval(*count)
    return f"{shown(count)}\n{low:.2f}-{high:.2f}"


def _overall(row: Ranked) -> tuple[str, ...]:
    low, high = row.interval
    better = "vetoed" if row.best_better is None else f"{row.best_better:.4f}"
    best = "" if row.best is None else f"{row.best:.3f}"
    missing = "" if row.coverage == 1 else f"\n{row.coverage:.1%} covered"
    return f"{shown((row.k, row.n))}{missing}", f"{row.mean:.4f}\n{low:.4f}-{high:.4f}", better, best


def _wrong(choice: Choice) -> list[str]:
    """Numbers that cannot be, rows that were left out, and vetoes."""
    lines = []
    for flag in choice.lint:
        must = "nobody can tell what it was" if flag.k is None else f"it must be {shown((flag.k, flag.n))}"
        lines.append(f"step {flag.step}: {flag.type} {flag.published:g} cannot be, of {flag.n}: {must}")
    lines += [f"step {step} is not ranked: {why}" for step, why in choice.unresolved.items()]
    lines += [f"step {one.step} is vetoed: {one.type} is worse than at step 0 (P {one.p:.4f})" for one in choice.vetoed]
    return lines


def show_power() -> None:
    """Print how many paired scenarios a difference of two rates needs."""
    table = Table("difference", "discordant", "paired scenarios")
    for one in power_table():
        table.add_row(f"{one['difference']:.2f}", f"{one['discordance']:.0%}", f"{one['scenarios']:.0f}")
    console.print(table)


def _picked(pick: int | None) -> str:
    return "none" if pick is None else "step 0, no improvement" if pick == 0 else f"step {pick}"
