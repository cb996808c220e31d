"""Simulated traffic of many releases at once: agents that stay with their version, hours that differ, late rewards.

Arrays are [T, A] for T trials and A agents. Whether an agent works in an hour, what it earns (1 or 0) and when that
becomes known are drawn for itself; failures to earn become known sooner than successes, and some rewards never come.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

AGENTS = 400
BASE_RATE = 0.6
AGENT_SPREAD = 0.1
"""Standard deviation of the agents' own success rates."""
DAY_SPREAD = 0.1
"""How far the success rate rises and falls in the course of a day."""
ACTIVITY = (0.2, 0.8)
"""The chance of an agent to work in an hour, evenly spread over agents."""
DELAY_HOURS = (2.0, 4.0)
"""Mean hours until a reward of 0 and of 1 is known; exponential."""
STAGES = 2
"""Stages in which both versions serve; later ones have nothing to compare."""
LAST_HOUR = 12
"""A reward that is not known after so many hours never comes."""


@dataclass(frozen=True)
class World:
    """What the canary is: its difference in success rate, and how many of both versions' requests fail.

    Of the first agent's requests ``one_fails`` fail whoever answers; where that is not 0 it works in every hour.
    """

    difference: float = 0.0
    canary_fails: float = 0.01
    stable_fails: float = 0.01
    one_fails: float = 0.0


@dataclass
class Sums:
    """Of cohorts: what ``rl.contrast`` sums up. [T], by unit [T, A], by stage [S, T], by both [S, T, A].

    Only what both versions have rewards of in their cohort counts.
    """

    canary_n: Floats
    canary_total: Floats
    stable_n: Floats
    stable_total: Floats
    gain: Floats
    information: Floats
    unit_gain: Floats
    unit_weight: Floats
    canary_units: Bools
    stable_units: Bools
    stage_canary: Floats
    stage_n: Floats
    apart: Floats
    weight: Floats

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def kept(self, trials: Bools) -> Sums:
        """Those of some of the trials."""
        by_stage = {"stage_canary", "stage_n", "apart", "weight"}
        columns = ((f.name in by_stage, getattr(self, f.name)) for f in fields(self))
        return Sums(*(column[:, trials] if staged else column[trials] for staged, column in columns))

    def contrast(self) -> Floats:
        """What ``rl.contrast.bounds`` takes, [8, T]."""
        observed = _products(self.unit_gain, self.unit_weight, self.unit_gain, self.unit_weight)
        q, assigned = self.stage_canary / np.maximum(self.stage_n, 1), np.zeros_like(observed)
        for one in range(STAGES):
            for other in range(STAGES):
                factor = np.minimum(q[one], q[other]) - q[one] * q[other]
                parts = _products(self.apart[one], self.weight[one], self.apart[other], self.weight[other])
                assigned += factor * parts
        return np.concatenate([np.stack([self.gain, self.information]), observed, assigned])


@dataclass
class Cohort:
    """An hour's requests that did not fail: whose they were, what they earned, and after how many hours."""

    hour: int
    stage: NDArray[np.int64]
    served: Bools
    is_canary: Bools
    reward: Bools
    delay: NDArray[np.int8]

    def sums(self, now: int) -> Sums:
        """What is known of it at the end of the hour ``now``, by the formulas of ``rl.contrast``."""
        known = self.served & (self.delay <= now - self.hour)
        both = (_count(known & self.is_canary) > 0) & (_count(known & ~self.is_canary) > 0)
        known = known & both[:, None]
        canary, stable = known & self.is_canary, known & ~self.is_canary
        canary_n, stable_n = _count(canary), _count(stable)
        canary_total, stable_total = _count(canary & self.reward), _count(stable & self.reward)
        n = np.maximum(canary_n + stable_n, 1)
        q, mean = (canary_n / n)[:, None], ((canary_total + stable_total) / n)[:, None]
        side, apart = np.where(known, self.is_canary - q, 0.0), np.where(known, self.reward - mean, 0.0)
        scale = np.sqrt(n / np.maximum(n - 1, 1))[:, None]
        gain, information = side * apart, side**2
        here = np.arange(STAGES)[:, None] == self.stage
        return Sums(
            canary_n=canary_n,
            canary_total=canary_total,
            stable_n=stable_n,
            stable_total=stable_total,
            gain=gain.sum(1),
            information=information.sum(1),
            unit_gain=scale * gain,
            unit_weight=scale * information,
            canary_units=canary,
            stable_units=stable,
            stage_canary=here * canary_n,
            stage_n=here * (canary_n + stable_n),
            apart=here[:, :, None] * (scale * apart),
            weight=here[:, :, None] * (scale * side),
        )


class Traffic:
    """The releases that go on. ``hour`` serves one more hour, ``known`` is what has come of all of them by then.

    ``of_canary`` are the (failed, all) requests of the canary in that hour by agent, [T, A] each.
    """

    def __init__(self, world: World, trials: int, rng: np.random.Generator) -> None:
        self.world, self.rng, self.now = world, rng, -1
        self.place = rng.random((trials, AGENTS))
        self.rate = BASE_RATE + AGENT_SPREAD * rng.standard_normal((trials, AGENTS))
        self.activity = rng.uniform(*ACTIVITY, (trials, AGENTS))
        if world.one_fails:
            self.activity[:, 0] = 1.0
        self.phase = rng.uniform(0, 2 * np.pi, (trials, 1))
        self.cohorts: list[Cohort] = []
        nothing = np.zeros((trials, AGENTS), np.bool_)
        self.of_canary = nothing, nothing
        first = Cohort(-1, np.zeros(trials, np.int64), nothing, nothing, nothing, nothing.astype(np.int8))
        self.over = first.sums(-1)

    def hour(
        self, stage: NDArray[np.int64], shares: NDArray[np.int64]
    ) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        """Serve an hour at ``shares`` [T], per cent. Returns (failed, all) requests [T] of the canary, of stable."""
        self.now += 1
        shape = self.place.shape
        active = self.rng.random(shape) < self.activity
        is_canary = self.place < shares[:, None] / 100
        fails = np.where(is_canary, self.world.canary_fails, self.world.stable_fails)
        fails[:, 0] = np.maximum(fails[:, 0], self.world.one_fails)
        failed = active & (self.rng.random(shape) < fails)
        drift = DAY_SPREAD * np.sin(2 * np.pi * self.now / 24 + self.phase)
        reward = self.rng.random(shape) < self.rate + drift + self.world.difference * is_canary
        delay = self.rng.exponential(1.0, shape) * np.where(reward, DELAY_HOURS[1], DELAY_HOURS[0])
        hours = np.minimum(delay, LAST_HOUR + 1).astype(np.int8)
        self.cohorts.append(Cohort(self.now, stage, active & ~failed, is_canary, reward, hours))
        if self.now - self.cohorts[0].hour > LAST_HOUR:
            self.over = self.over + self.cohorts.pop(0).sums(self.now)
        canary, stable = is_canary, ~is_canary
        self.of_canary = failed & canary, active & canary
        return (_count(failed & canary), _count(active & canary)), (_count(failed & stable), _count(active & stable))

    def known(self) -> Sums:
        """What is known at the end of the hour."""
        found = self.over
        for cohort in self.cohorts:
            found = found + cohort.sums(self.now)
        return found

    def keep(self, trials: Bools) -> None:
        """Go on with some of the trials."""
        self.place, self.rate, self.activity = self.place[trials], self.rate[trials], self.activity[trials]
        self.phase, self.over = self.phase[trials], self.over.kept(trials)
        for one in self.cohorts:
            one.stage = one.stage[trials]
            one.served, one.is_canary = one.served[trials], one.is_canary[trials]
            one.reward, one.delay = one.reward[trials], one.delay[trials]


def _count(which: Bools) -> Floats:
    return np.asarray(np.count_nonzero(which, axis=1), np.float64)


def _products(gain: Floats, weight: Floats, other_gain: Floats, other_weight: Floats) -> Floats:
    """gg, gw and ww by trial, [3, T]."""
    gg, ww = np.einsum("ta,ta->t", gain, other_gain), np.einsum("ta,ta->t", weight, other_weight)
    gw = np.einsum("ta,ta->t", gain, other_weight) + np.einsum("ta,ta->t", weight, other_gain)
    return np.stack([gg, gw / 2, ww])
