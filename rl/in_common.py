"""Results on logs, compared on the scenarios that all of them have.

Which scenarios the logs hold is known only when an evaluation looks. Later ones ask about the same as far as they can
(``db.held_out``), but rows come late, are erased, or were learned from by one version and not by another. So what is
compared are the scenarios in common, as long as these are at least 95 % of what was asked for, or of what the greatest
result has where the logs hold less. Below that, who lacks scenarios that others have is asked about these too; of those
that lack some, the one with most scenarios is asked only when nobody else does, and of several such the last to look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rl.alike import MIN_COVERAGE
from rl.config import digest
from rl.held_out import LoggedSet
from rl.line_state import Part, Result, of_halves


def lacking(task_set: LoggedSet, results: Mapping[int, Result]) -> set[int]:
    """The places of the results that are to be asked about more scenarios, before all can be compared.

    Results that do not name their scenarios are not looked at.
    """
    named = {place: set(one.ids) for place, one in results.items() if one.ids}
    if not named:
        return set()
    most = min(task_set.count, max(len(one) for one in named.values()))
    if len(set.intersection(*named.values())) >= MIN_COVERAGE * most:
        return set()
    every = set.union(*named.values())
    found = {place for place, one in named.items() if one != every}
    return found - {max(found, key=lambda place: (len(named[place]), results[place].newest))} or found


def restricted(task_set: LoggedSet, results: Mapping[int, Result]) -> dict[int, Result]:
    """The results on the scenarios that all of them have; as they are where one does not name its scenarios."""
    if not results or not all(one.ids for one in results.values()):
        return dict(results)
    common = set.intersection(*(set(one.ids) for one in results.values()))
    same = digest(sorted(common))
    return {place: replace(_only(one, common, task_set.samples), scenarios=same) for place, one in results.items()}


def _only(result: Result, scenarios: set[int], samples: int) -> Result:
    """The result on some of its scenarios. One that lacks some of its samples counts as one that lacks all."""
    if len(scenarios) == len(result.ids):
        return result
    rows = zip(result.ids, result.kinds, result.successes, strict=True)
    kept = [(one, kind, halves) for one, kind, halves in rows if one in scenarios]
    judged = [(kind, halves) for _, kind, halves in kept if halves is not None]
    types = {kind: _count([halves for name, halves in judged if name == kind], samples) for kind, _ in judged}
    k, n = _count([halves for _, halves in judged], samples)
    return replace(
        result,
        k=k,
        n=n,
        types=dict(sorted(types.items())),
        parts=tuple(Part(sample, 0, len(kept), len(kept) - len(judged)) for sample in range(samples)),
        ids=tuple(one for one, _, _ in kept),
        kinds=tuple(kind for _, kind, _ in kept),
        successes=tuple(halves for _, _, halves in kept),
        broken=min(result.broken, n),
        at_limit=min(result.at_limit, n),
    )


def _count(halves: Sequence[int], samples: int) -> tuple[float, int]:
    return of_halves(sum(halves)), len(halves) * samples
