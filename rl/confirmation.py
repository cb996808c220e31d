"""What the chosen checkpoints still need before one of them is promoted: fresh scenarios, and how many."""

from __future__ import annotations

from collections.abc import Sequence

from rl.power import DISCORDANCE, decidable, flattery, paired_scenarios
from rl.records import Record
from rl.selection import Candidate, Comparison, Selection

WANTED = 0.10
"""The difference for which a size is always said."""

LEAST = 0.005


class Confirmation(Record):
    """Fresh scenarios for the tie set. Sizes are paired scenarios for a two-sided 5 % test with 80 % power.

    ``difference`` is the pick's score minus step 0's, both posterior means; ``scenarios`` is what would show it; None
    where it is below half a point. ``scenarios_wanted`` would show a difference of 0.10. ``decidable`` is the smallest
    difference that the present ``n`` scenarios would show; None where they would show none. ``flattery`` is how much
    the best of so many equal checkpoints exceeds its true rate on average.
    """

    steps: list[int]
    n: int
    difference: float | None
    scenarios: int | None
    scenarios_wanted: int
    decidable: float | None
    flattery: float
    statement: str


def confirmation(candidates: Sequence[Candidate], selection: Selection, by: Comparison) -> Confirmation | None:
    """What to evaluate before a promotion; None where step 0 is all that could be chosen."""
    steps = [step for step in selection.tie_set if step != 0]
    if not steps:
        return None
    by_step = {one.step: one for one in candidates}
    pick = by_step[selection.pick]
    n = pick.overall[1]
    difference = by.score(pick) - by.score(by_step[0]) if 0 in by_step else 0.0
    needed = round(paired_scenarios(difference, max(difference, DISCORDANCE))) if difference >= LEAST else None
    trained = sum(one.step != 0 for one in candidates)
    found = Confirmation(
        steps=steps,
        n=n,
        difference=difference if difference >= LEAST else None,
        scenarios=needed,
        scenarios_wanted=round(paired_scenarios(WANTED)),
        decidable=decidable(n),
        flattery=flattery(n, pick.posterior_mean, trained),
        statement="",
    )
    return found.model_copy(update={"statement": _statement(found, trained)})


def _statement(found: Confirmation, trained: int) -> str:
    several = "steps " if len(found.steps) > 1 else "step "
    words = [f"before promoting, evaluate {several}{', '.join(map(str, found.steps))} and step 0 on fresh scenarios"]
    if found.scenarios is not None:
        words.append(f"{found.scenarios} would show the {found.difference:.2g} over step 0 that is estimated here")
    words.append(f"{found.scenarios_wanted} would show {WANTED:g}")
    if found.decidable is None:
        words.append(f"the {found.n} here show no difference up to {DISCORDANCE:g}")
    else:
        words.append(f"the {found.n} here show {found.decidable:.2g} or more")
    if trained > 1:
        words.append(f"the best of {trained} equal checkpoints seems {found.flattery:.2g} too good, on average")
    return "; ".join(words) + f" (paired, two-sided 5 %, power 80 %, {DISCORDANCE:.0%} of scenarios discordant)"
