"""What of two results on the same scenarios may be compared, where types of scenarios have other names in one of them.

Two evaluations may name types differently: an environment's types were renamed, split or merged between them. A type
is compared where both have about as many verdicts of it; with other numbers its name stands for other scenarios. All
the others are compared together, so that a renamed type hides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MIN_COVERAGE = 0.95
ALIKE = MIN_COVERAGE**2
"""The least share of the greater result's verdicts that another one on the same scenarios has: logs may hold 5 % fewer
scenarios for one, and 5 % of its verdicts may be missing."""
ALL, OTHERS = "all", "other types"
"""What the types that are not alike are called together: where none is, and beside those that are."""

Count = tuple[int, int]
Types = Mapping[str, Count]
"""Successes and verdicts ``(k, n)`` by type."""


def total(types: Types) -> Count:
    """Successes and verdicts of all types."""
    return sum(k for k, _ in types.values()), sum(n for _, n in types.values())


def shared(results: Sequence[Types]) -> list[str]:
    """The types that are alike in all the results, at least one, sorted."""
    most = max(total(one)[1] for one in results)
    names = set.intersection(*(set(one) for one in results))
    return sorted(name for name in names if _alike([one[name][1] for one in results], most))


def sides(one: Types, other: Types) -> dict[str, tuple[Count, Count]]:
    """What the two are compared by: the counts of the types that are alike, and of the others together.

    The others are left out where one of the two has no verdicts of them, or far more than the other one.
    """
    names = shared([one, other])
    found = {name: (one[name], other[name]) for name in names}
    rests = [total({name: count for name, count in types.items() if name not in names}) for types in (one, other)]
    if _alike([n for _, n in rests], max(total(one)[1], total(other)[1])):
        found[OTHERS if names else ALL] = rests[0], rests[1]
    return found


def _alike(sizes: Sequence[int], most: int) -> bool:
    """Whether verdicts that are missing explain how the sizes differ, of results with at most ``most`` verdicts."""
    return min(sizes) > 0 and max(sizes) - min(sizes) <= (1 - ALIKE) * most
