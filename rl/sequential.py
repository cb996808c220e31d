"""A canary against the stable version, on what their requests earned and how many failed, at every look.

1. A signal is a stream of rewards: ``reward``, or a name of feedback. Each gives an interval of the canary's mean minus
   the stable version's that holds the truth at all looks together (:mod:`rl.contrast`).
2. **Roll back** when the canary's requests fail credibly more often, also without the one unit that has most of its
   failures; or when it is credibly worse in any signal. Each at ``alpha``, of which half is the primary signal's, and
   the others share the other half in the order in which they came. A margin below 0 lets the primary signal be so much
   worse.
3. **Promote** when the canary's goal is credible in the primary signal: better, by more than ``margin``.
4. **Wait** while the primary signal has too few rewards of either version to say anything, and say how many there are.
   Time alone decides nothing.
5. **Continue** otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from pydantic import Field

from rl.anytime import ODDS, log_failure_factors, log_mixed
from rl.contrast import Arm, Contrast, Reward, Rewards, contrast, interval
from rl.records import Record
from rl.training import Config

Say = Literal["wait", "continue", "promote", "roll back"]
Cause = Literal["better", "worse", "failing"]


class Rules(Config):
    """What the test promises, and from how much on it says anything.

    alpha: the chance to promote a version that is not better, and to roll one back that is not worse; for any number
        of looks.
    primary: the signal that a promotion rests on. The others can only roll back.
    margin: by how much the canary must be better, in units of the reward. Below 0: so much worse is good enough.
    min_rewards, min_units: of each version in the primary signal. The interval is asymptotic and wants some.
    failure_ratio: odds of failing up to so many times the stable version's are let pass, because agents stay with
        their version and some of them ask for what fails.
    """

    alpha: float = Field(0.05, gt=0, le=0.5)
    primary: str = "reward"
    margin: float = 0.0
    min_rewards: int = Field(50, ge=1)
    min_units: int = Field(8, ge=2)
    failure_ratio: float = Field(1.5, ge=1)


class Attempts(NamedTuple):
    """(failed, all) requests of both versions in one stretch of time that has ended.

    ``others`` are the canary's but for those of the one unit with most of its failures; None: all are of others.
    """

    canary: tuple[int, int]
    stable: tuple[int, int]
    others: tuple[int, int] | None = None


class Failures(Record):
    """Failed and all requests so far, and the logs of the e-values of the alternatives in ``rl.anytime.ODDS``.

    ``others`` and ``logs_of_others`` are without the one unit that has most of the canary's failures.
    """

    canary: tuple[int, int] = (0, 0)
    stable: tuple[int, int] = (0, 0)
    logs: tuple[float, ...] = (0.0,) * len(ODDS)
    others: tuple[int, int] = (0, 0)
    logs_of_others: tuple[float, ...] = (0.0,) * len(ODDS)


@dataclass(frozen=True)
class State:
    """Everything a verdict rests on: rewards by signal, in the order in which the signals first came, and failures."""

    signals: Mapping[str, Rewards] = field(default_factory=dict)
    failures: Failures = field(default_factory=Failures)


class Evidence(Record):
    """What one signal says. ``lower`` and ``upper`` bound the difference at all looks; None: nothing is known."""

    signal: str
    canary: Arm
    stable: Arm
    difference: float
    lower: float | None
    upper: float | None


class Verdict(Record):
    """What to do, why, and on what evidence. ``lower`` is the primary signal's."""

    say: Say
    cause: Cause | None
    reason: str
    lower: float | None
    evidence: list[Evidence]
    failures: Failures


def update(
    state: State, rules: Rules, rewards: Mapping[str, Iterable[Reward]], attempts: Iterable[Attempts] = ()
) -> State:
    """The state once rewards, by signal, and requests became known. In any order, but each only once.

    Of signals that are new the order of ``rewards`` counts.

    Raises:
        InvalidInput: a reward that is not finite, or counts that cannot be.
    """
    signals = dict(state.signals)
    for name, rows in rewards.items():
        came = Rewards.of(rows)
        signals[name] = signals[name] + came if name in signals else came
    failures = state.failures
    for batch in attempts:
        failures = failed(failures, batch, rules.failure_ratio)
    return State(signals, failures)


def failed(failures: Failures, batch: Attempts, ratio: float) -> Failures:
    """The failures once one more stretch of time has ended.

    Raises:
        InvalidInput: not 0 <= failed <= all.
    """
    others = batch.canary if batch.others is None else batch.others
    return Failures(
        canary=_plus(failures.canary, batch.canary),
        stable=_plus(failures.stable, batch.stable),
        logs=_grown(failures.logs, batch.canary, batch.stable, ratio),
        others=_plus(failures.others, others),
        logs_of_others=_grown(failures.logs_of_others, others, batch.stable, ratio),
    )


def _plus(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]


def _grown(logs: Sequence[float], canary: tuple[int, int], stable: tuple[int, int], ratio: float) -> tuple[float, ...]:
    factors = log_failure_factors(canary, stable, ratio)
    return tuple(log + float(factor) for log, factor in zip(logs, factors, strict=True))


def look(state: State, rules: Rules, before: int | None = None) -> Verdict:
    """What the state says; of rewards only those of cohorts below ``before``, where that is given.

    It leaves out hours that are too young, for versions that differ in how long their rewards take: of a version that
    fails slowly, mostly the successes are known at first.
    """
    spent = alphas(list(state.signals), rules)
    found = []
    for name, rewards in sorted(state.signals.items()):
        rows = rewards if before is None else rewards.rows(rewards.cohort < before)
        found.append(weighed(name, contrast(rows), rules.alpha, spent[name]))
    return verdict(found, state.failures, rules)


def alphas(signals: Sequence[str], rules: Rules) -> dict[str, float]:
    """The chance that each signal calls a canary worse that is not: together at most ``rules.alpha``.

    Half of it is the primary signal's. Of the others, in the order in which they first came, number j = 1, 2, 3, ...
    has the part 1 / (j (j + 1)) of the other half: a signal keeps its chance whatever comes after it, and the parts of
    however many add up to less than one. The first place is kept for ``reward``, which has no beginning, where that is
    not the primary one.
    """
    half = rules.alpha / 2
    others = [name for name in dict.fromkeys(["reward", *signals]) if name != rules.primary]
    return {rules.primary: half} | {name: half / (j * (j + 1)) for j, name in enumerate(others, start=1)}


def weighed(signal: str, sums: Contrast, alpha_better: float, alpha_worse: float) -> Evidence:
    """The evidence in one signal's sums: ``lower`` passes the truth with ``alpha_better``, ``upper`` with the other."""
    lower, upper = interval(sums, alpha_better)[0], interval(sums, alpha_worse)[1]
    return Evidence(
        signal=signal,
        canary=sums.canary,
        stable=sums.stable,
        difference=sums.difference,
        lower=lower if lower > float("-inf") else None,
        upper=upper if upper < float("inf") else None,
    )


def verdict(evidence: Sequence[Evidence], failures: Failures, rules: Rules) -> Verdict:
    """The rule at the top of this file."""
    primary = next((one for one in evidence if one.signal == rules.primary), None)
    say, cause, reason = _said(evidence, primary, failures, rules)
    lower = primary.lower if primary is not None and not _missing(primary, rules) else None
    return Verdict(say=say, cause=cause, reason=reason, lower=lower, evidence=list(evidence), failures=failures)


def _said(
    evidence: Sequence[Evidence], primary: Evidence | None, failures: Failures, rules: Rules
) -> tuple[Say, Cause | None, str]:
    if (log := credible(failures)) >= -math.log(rules.alpha):
        odds = f"evidence for more than {rules.failure_ratio:g} times the odds {math.exp(min(log, 700.0)):.3g} to 1"
        return "roll back", "failing", f"{_failing(failures)}: {odds}, at least {1 / rules.alpha:.3g}"
    for one in evidence:
        let_pass = min(rules.margin, 0.0) if one.signal == rules.primary else 0.0
        if one.upper is not None and one.upper < let_pass and not _missing(one, rules):
            return "roll back", "worse", f"worse: {shown(one)}, at most {one.upper:+.3g} at any look"
    if primary is None:
        return "wait", None, f"no {rules.primary} of either version has come; {_failing(failures)}"
    if missing := _missing(primary, rules):
        return "wait", None, f"{missing}; {_failing(failures)}"
    if primary.lower is not None and primary.lower > rules.margin:
        return "promote", "better", f"{shown(primary)}, at least {primary.lower:+.3g} at any look"
    return "continue", None, f"{shown(primary)}, {_between(primary)}"


def credible(failures: Failures) -> float:
    """Log of the evidence that the canary fails more often: that of all its units or without one, whichever is less.

    Agents stay with their version. So one whose requests fail whoever answers would have all the canary's failures
    by the chance of the canary's share; without it the evidence is that of units that know nothing of each other.
    """
    return min(log_mixed(failures.logs), log_mixed(failures.logs_of_others))


def shown(evidence: Evidence) -> str:
    """The signal with its counts and the difference, in words."""
    what = "rewards" if evidence.signal == "reward" else "values"
    arms = [f"{arm.mean:.4g} in {arm.n:,} {what} of {arm.units:,} agents" for arm in (evidence.canary, evidence.stable)]
    return f"{evidence.signal} {arms[0]} against {arms[1]}: difference {evidence.difference:+.3g}"


def _missing(evidence: Evidence, rules: Rules) -> str:
    """What the signal lacks before it may say anything; empty when it lacks nothing."""
    for name, arm in (("canary", evidence.canary), ("stable", evidence.stable)):
        if arm.n < rules.min_rewards or arm.units < rules.min_units:
            has = f"{evidence.signal} has come {arm.n:,} times from {arm.units:,} units of the {name} version"
            return f"{has}, fewer than {rules.min_rewards:,} from {rules.min_units:,}"
    return ""


def _failing(failures: Failures) -> str:
    counts = (failures.canary, failures.stable)
    canary, stable = (f"{k:,} of {n:,}" for k, n in counts)
    alone = failures.canary[0] - failures.others[0]
    of_one = f" ({alone:,} of the canary's are one agent's)" if alone > 1 and 2 * alone > failures.canary[0] else ""
    return f"{canary} requests of the canary failed, {stable} of the stable version{of_one}"


def _between(evidence: Evidence) -> str:
    if evidence.lower is None and evidence.upper is None:
        return "no bounds yet"
    return f"between {_bound(evidence.lower)} and {_bound(evidence.upper)}"


def _bound(value: float | None) -> str:
    return "any number" if value is None else f"{value:+.3g}"
