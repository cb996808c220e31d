"""Three published rules by which a later model takes the place of an earlier one, environment by environment.

They are those of the Affine validator, as it was at the dates in their names; the candidate is the later model.

* ``affine-2025-10``: in one environment the candidate wins when the lower end of its 80 % interval is above the upper
  end of the stable version's, else the stable version wins. Who has too few scenarios loses; with too few of both
  nobody wins. Released when the stable version wins nowhere and the candidate somewhere.
* ``affine-2025-12``: the candidate's mean must be above m + min(max(0.2 (1 - m), 0.02), 0.1), m the stable version's
  mean, in every environment. From m = 0.98 on that is 1 or more, and nothing is above it.
* ``champion-2026-07``: in one environment the candidate is dominant with a mean above the champion's + 0.03, not worse
  with at least 0.98 times the champion's, else worse, as it is with too few scenarios. Released when it is dominant
  somewhere and worse nowhere.
"""

from __future__ import annotations

from collections.abc import Callable

from rl.verdicts import EnvironmentVerdict, PolicyDecision, Tally, Verdicts, interval_80

AFFINE_2025_10 = "affine-2025-10"
AFFINE_2025_12 = "affine-2025-12"
CHAMPION_2026_07 = "champion-2026-07"
DOMINANT_BY = 0.03
NOT_WORSE = 0.98
ROUNDING = 1e-9
"""Means that are equal on paper compare as equal."""

Word = Callable[[Tally, Tally], str]
Need = Callable[[Tally, Tally], str]


def affine_2025_10(verdicts: Verdicts, min_scenarios: int) -> PolicyDecision:
    """Some environment won by intervals that do not overlap, and none lost; where both have too little, neither."""

    def word(candidate: Tally, stable: Tally) -> str:
        if candidate.n < min_scenarios:
            return "neither" if stable.n < min_scenarios else "stable"
        won = stable.n < min_scenarios or candidate.interval[0] > stable.interval[1]
        return "candidate" if won else "stable"

    def need(candidate: Tally, stable: Tally) -> str:
        return _few(candidate, stable, min_scenarios) or _successes(candidate, _above(candidate.n, stable.interval[1]))

    found = _each(verdicts, word)
    lost, won = _named(found, "stable"), _named(found, "candidate")
    released = bool(won) and not lost
    reason = f"won in {_list(won)}, lost in {_list(lost)}: both intervals hold 80 % and must not overlap"
    return _decision(AFFINE_2025_10, released, reason, found, lost or won or found, need)


def affine_2025_12(verdicts: Verdicts, min_scenarios: int) -> PolicyDecision:
    """Every environment won by a tenth or a fifth of what is missing."""

    def word(candidate: Tally, stable: Tally) -> str:
        enough = min(candidate.n, stable.n) >= min_scenarios
        return "candidate" if enough and candidate.mean > threshold(stable.mean) + ROUNDING else "stable"

    def need(candidate: Tally, stable: Tally) -> str:
        return _few(candidate, stable, min_scenarios) or _mean(candidate, "above", threshold(stable.mean))

    found = _each(verdicts, word)
    lost = _named(found, "stable")
    beaten = f"above the threshold in {_list(_named(found, 'candidate'))}, not in {_list(lost)}"
    return _decision(AFFINE_2025_12, not lost, beaten, found, lost or found, need)


def champion_2026_07(verdicts: Verdicts, min_scenarios: int) -> PolicyDecision:
    """Dominant somewhere, worse nowhere."""

    def word(candidate: Tally, stable: Tally) -> str:
        if min(candidate.n, stable.n) < min_scenarios or candidate.mean < NOT_WORSE * stable.mean - ROUNDING:
            return "worse"
        return "dominant" if candidate.mean > stable.mean + DOMINANT_BY + ROUNDING else "not worse"

    found = _each(verdicts, word)
    worse, dominant = _named(found, "worse"), _named(found, "dominant")

    def need(candidate: Tally, stable: Tally) -> str:
        if few := _few(candidate, stable, min_scenarios):
            return few
        if worse:
            return _mean(candidate, "at least", NOT_WORSE * stable.mean)
        return _mean(candidate, "above", stable.mean + DOMINANT_BY)

    reason = f"dominant in {_list(dominant)}, worse in {_list(worse)}"
    return _decision(CHAMPION_2026_07, bool(dominant) and not worse, reason, found, worse or dominant or found, need)


def threshold(prior: float) -> float:
    """What the mean of a later model must be above, by affine-2025-12."""
    return prior + min(max(0.2 * (1 - prior), 0.02), 0.1)


def _above(n: int, bound: float) -> int | None:
    """The fewest successes of ``n`` whose interval lies above the bound; None: not even all."""
    low, high = 0, n + 1
    while low < high:
        middle = (low + high) // 2
        if middle > n or interval_80(middle, n)[0] > bound:
            high = middle
        else:
            low = middle + 1
    return low if low <= n else None


def _each(verdicts: Verdicts, word: Word) -> list[EnvironmentVerdict]:
    found = []
    for name in verdicts.environments:
        candidate, stable = verdicts.tallies(name)
        said = word(candidate, stable)
        found.append(EnvironmentVerdict(environment=name, candidate=candidate, stable=stable, verdict=said))
    return found


def _named(found: list[EnvironmentVerdict], verdict: str) -> list[EnvironmentVerdict]:
    return [one for one in found if one.verdict == verdict]


def _list(found: list[EnvironmentVerdict]) -> str:
    shown = [f"{one.environment} ({one.candidate.mean:.4g} against {one.stable.mean:.4g})" for one in found]
    return ", ".join(shown) or "none"


def _few(candidate: Tally, stable: Tally, least: int) -> str:
    """What is missing for a comparison; empty when both have enough scenarios."""
    counts = (("candidate", candidate.n), ("stable", stable.n))
    lacks = [f"{least - n} more verdicts on the {name} version" for name, n in counts if n < least]
    return " and ".join(lacks)


def _successes(candidate: Tally, needed: int | None) -> str:
    if needed is None:
        return f"more scenarios: not even {candidate.n} of {candidate.n} would be enough"
    return f"{needed} of {candidate.n} or more; it has {candidate.k:g}"


def _mean(candidate: Tally, how: str, needed: float) -> str:
    if needed > 1 or (how == "above" and needed >= 1):
        return f"a mean {how} {needed:.4g}, which no version can have"
    return f"a mean {how} {needed:.4g}; it has {candidate.mean:.4g}"


def _decision(
    policy: str,
    released: bool,
    reason: str,
    found: list[EnvironmentVerdict],
    decisive: list[EnvironmentVerdict],
    need: Need,
) -> PolicyDecision:
    """``would_change`` names what decisive environments need: it is missing, or losing it would stop the release."""
    needs = "; ".join(f"{one.environment}: {need(one.candidate, one.stable)}" for one in decisive)
    return PolicyDecision(
        released=released,
        probability=None,
        policy=policy,
        reason=reason,
        would_change=f"less than this: {needs}" if released else needs,
        environments=found,
    )
