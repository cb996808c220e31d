"""``python -m bench.release``: what the release rule does to versions whose truth is known.

Each trial is a release of its own: the canary grows by ``rl.stages`` on the verdicts of ``rl.sequential``, looked at
after every hour, on the simulated traffic of ``bench/release_traffic.py``. The report goes to the file of ``--json``,
whose path is all that stdout gets; the table goes to stderr. The exit status is 0 if and only if the three bounds
of ``docs/release.md`` hold.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.release_traffic import AGENTS, Bools, Sums, Traffic, World
from rl.anytime import log_mixed
from rl.contrast import Arm, bounds
from rl.sequential import Attempts, Evidence, Failures, Rules, alphas, failed, verdict
from rl.stages import Progress, Stages, step

SCHEMA = 1
MOST_FALSE = 0.05
"""Of promotions of an equal version, and of rollbacks because one agent's requests fail whoever answers."""
LEAST_ROLLED_BACK = 0.95
HALF = 50
TRIALS, QUICK_TRIALS = 2000, 200
ALONE = "equal, one agent fails always"
BOUND = ("equal", "worse by 15 points", ALONE)
"""The worlds with a bound; the others have a quarter of the trials."""
PLAIN_Z = 1.645
AT_ONCE = 100
"""Trials that are simulated together: their arrays fit into a core's cache."""
LAST_HOUR = 1000
WORLDS = {
    "equal": World(),
    "worse by 15 points": World(difference=-0.15),
    "better by 10 points": World(difference=0.10),
    "fails 5 % not 1 %": World(canary_fails=0.05),
    ALONE: World(one_fails=1.0),
}
RULES = Rules()
STAGES = Stages()


@dataclass
class Trial:
    """One release. ``share`` is what it has, ``outcome`` how it ended: an action, or the cause of a rollback.

    ``plain`` says that a test for one look, done at each, called the canary better at one of them, and ``together``
    that a test of all agents' failures called it failing. ``past`` are its hours: the canary's (failed, all) requests
    by agent, [A] each, and the stable version's; ``most`` is the agent that most of the canary's ``lost`` requests are
    of.
    """

    stage: int = 0
    since: int = 0
    requests: float = 0.0
    rewards_before: float = 0.0
    rewards: float = 0.0
    seen: float = 0.0
    served: float = 0.0
    all_served: float = 0.0
    failures: Failures = field(default_factory=Failures)
    past: list[tuple[Bools, Bools, tuple[int, int]]] = field(default_factory=list)
    lost: NDArray[np.int64] = field(default_factory=lambda: np.zeros(AGENTS, np.int64))
    most: int = 0
    plain: bool = False
    together: bool = False
    outcome: str = ""
    hours: int = 0
    reason: str = ""

    @property
    def share(self) -> int:
        return STAGES.stages[self.stage].share


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = _arguments(argv)
    trials = QUICK_TRIALS if args.quick else TRIALS
    worlds = {
        name: play(world, trials if name in BOUND else trials // 4, [args.seed, i])
        for i, (name, world) in enumerate(WORLDS.items())
    }
    outcome = report(worlds) | {"seed": args.seed, "quick": args.quick}
    show(outcome, Console(stderr=True, soft_wrap=True))
    if args.json:
        args.json.write_text(json.dumps(outcome, indent=1) + "\n")
        sys.stdout.write(f"{args.json}\n")
    return 0 if outcome["passed"] else 1


def play(world: World, trials: int, seed: Sequence[int]) -> list[Trial]:
    """So many releases in this world, each to its end."""
    ended: list[Trial] = []
    for chunk in range(0, trials, AT_ONCE):
        ended += _play(world, min(AT_ONCE, trials - chunk), np.random.default_rng([*seed, chunk]))
    return ended


def _play(world: World, count: int, rng: np.random.Generator) -> list[Trial]:
    ended: list[Trial] = []
    trials, traffic = [Trial() for _ in range(count)], Traffic(world, count, rng)
    while trials and traffic.now < LAST_HOUR:
        _look(trials, traffic)
        going = np.array([not trial.outcome for trial in trials])
        if not going.all():
            ended += [trial for trial in trials if trial.outcome]
            trials = [trial for trial in trials if not trial.outcome]
            traffic.keep(going)
    return ended + trials


def _look(trials: Sequence[Trial], traffic: Traffic) -> None:
    """One more hour, and the verdict and the step of each trial after it."""
    stage, share = np.array([[trial.stage, trial.share] for trial in trials]).T
    canary, stable = traffic.hour(stage, share)
    known = traffic.known()
    sums = known.contrast()
    lower, upper = bounds(sums, RULES.alpha)[0], bounds(sums, alphas([], RULES)[RULES.primary])[1]
    units = np.count_nonzero(known.canary_units, axis=1), np.count_nonzero(known.stable_units, axis=1)
    for i, trial in enumerate(trials):
        _count(trial, traffic.of_canary[0][i], traffic.of_canary[1][i], (int(stable[0][i]), int(stable[1][i])))
        trial.requests += canary[1][i]
        trial.served += canary[1][i]
        trial.all_served += canary[1][i] + stable[1][i]
        trial.rewards, trial.seen = known.canary_n[i], known.canary_n[i] + known.stable_n[i]
        difference = float(sums[0, i] / sums[1, i]) if sums[1, i] else 0.0
        arms = _arms(known, i, int(units[0][i]), int(units[1][i]))
        trial.plain = trial.plain or _plain(*arms)
        evidence = _evidence(arms, difference, float(lower[i]), float(upper[i]))
        _advance(trial, evidence, traffic.now + 1)


def _count(trial: Trial, lost: Bools, made: Bools, stable: tuple[int, int]) -> None:
    """One more hour of requests; from the beginning where another agent has most of the canary's failures."""
    trial.past.append((lost, made, stable))
    trial.lost = trial.lost + lost
    most, since = int(np.argmax(trial.lost)), len(trial.past) - 1
    if most != trial.most:
        trial.most, trial.failures, since = most, Failures(), 0
    for failures, requests, others in trial.past[since:]:
        canary = int(np.count_nonzero(failures)), int(np.count_nonzero(requests))
        batch = Attempts(canary, others, (canary[0] - int(failures[most]), canary[1] - int(requests[most])))
        trial.failures = failed(trial.failures, batch, RULES.failure_ratio)
    trial.together = trial.together or log_mixed(trial.failures.logs) >= -math.log(RULES.alpha)


def _arms(known: Sums, i: int, canary_units: int, stable_units: int) -> tuple[Arm, Arm]:
    n, others = int(known.canary_n[i]), int(known.stable_n[i])
    means = float(known.canary_total[i]) / max(n, 1), float(known.stable_total[i]) / max(others, 1)
    return Arm(n, canary_units, means[0]), Arm(others, stable_units, means[1])


def _plain(canary: Arm, stable: Arm) -> bool:
    """The z-test of two proportions at 5 %, one-sided."""
    if min(canary.n, stable.n) < RULES.min_rewards:
        return False
    rate = (canary.mean * canary.n + stable.mean * stable.n) / (canary.n + stable.n)
    noise = math.sqrt(rate * (1 - rate) * (1 / canary.n + 1 / stable.n))
    return canary.mean - stable.mean > PLAIN_Z * noise


def _evidence(arms: tuple[Arm, Arm], difference: float, lower: float, upper: float) -> Evidence:
    return Evidence(
        signal=RULES.primary,
        canary=arms[0],
        stable=arms[1],
        difference=difference,
        lower=lower if np.isfinite(lower) else None,
        upper=upper if np.isfinite(upper) else None,
    )


def _advance(trial: Trial, evidence: Evidence, hours: int) -> None:
    said = verdict([evidence], trial.failures, RULES)
    progress = Progress(
        stage=trial.stage,
        hours=hours - trial.since,
        requests=int(trial.requests),
        rewards=int(trial.rewards - trial.rewards_before),
        rewards_altogether=int(trial.rewards),
    )
    done = step(STAGES, progress, said)
    trial.hours, trial.reason = hours, done.reason
    if done.action == "advance":
        trial.stage, trial.since, trial.requests, trial.rewards_before = trial.stage + 1, hours, 0.0, trial.rewards
    elif done.action != "hold":
        trial.outcome = done.cause or done.action


def report(worlds: dict[str, list[Trial]]) -> dict[str, Any]:
    """One object: how the trials of each world ended, and whether the three bounds hold.

    A false promotion is an equal version that was given 100 %, whatever became of it then. A rollback came in time
    when the version never had half of the traffic.
    """
    equal, worse = worlds["equal"], worlds["worse by 15 points"]
    false = _share(equal, lambda trial: trial.share == 100)
    alone = _share(worlds[ALONE], lambda trial: trial.outcome == "failing")
    in_time = _share(worse, lambda trial: trial.outcome in ("worse", "failing") and trial.share < HALF)
    return {
        "schema": SCHEMA,
        "worlds": {name: summary(trials) for name, trials in worlds.items()},
        "false_promotion": false,
        "false_promotion_of_a_plain_test": _share(equal, lambda trial: trial.plain),
        "most_false_promotion": MOST_FALSE,
        "false_rollback": alone,
        "false_rollback_of_all_together": _share(worlds[ALONE], lambda trial: trial.together),
        "most_false_rollback": MOST_FALSE,
        "rolled_back_in_time": in_time,
        "least_rolled_back_in_time": LEAST_ROLLED_BACK,
        "passed": max(false, alone) <= MOST_FALSE and in_time >= LEAST_ROLLED_BACK,
    }


def summary(trials: Sequence[Trial]) -> dict[str, Any]:
    """How trials of one world ended, and what the ends took. Rewards are those of both versions that had come."""
    ends = Counter(trial.outcome or "goes on" for trial in trials)
    rolled_back = [trial for trial in trials if trial.outcome in ("worse", "failing")]
    return {
        "trials": len(trials),
        "ends": {name: count / len(trials) for name, count in sorted(ends.items())},
        "reached_half": _share(trials, lambda trial: trial.share >= HALF),
        "given_100": _share(trials, lambda trial: trial.share == 100),
        "rollback_rewards": quantiles([trial.seen for trial in rolled_back]),
        "rollback_canary_rewards": quantiles([trial.rewards for trial in rolled_back]),
        "rollback_hours": quantiles([float(trial.hours) for trial in rolled_back]),
        "rollback_share_of_requests": quantiles([trial.served / trial.all_served for trial in rolled_back]),
        "end_hours": quantiles([float(trial.hours) for trial in trials]),
    }


def quantiles(values: Sequence[float]) -> dict[str, float | None]:
    """The median and the 90th percentile, both values that were seen; None where nothing was."""
    if not values:
        return {"p50": None, "p90": None}
    found = np.quantile(values, [0.5, 0.9], method="inverted_cdf")
    return {"p50": round(float(found[0]), 4), "p90": round(float(found[1]), 4)}


def show(outcome: dict[str, Any], console: Console) -> None:
    """The report for people."""
    table = Table("the canary", "how it ended", "100 %", "rewards until rollback", "of the canary", "hours to the end")
    for name, found in outcome["worlds"].items():
        ends = ", ".join(f"{end} {share:.1%}" for end, share in found["ends"].items())
        delays = [_shown(found[key]) for key in ("rollback_rewards", "rollback_canary_rewards", "end_hours")]
        table.add_row(name, ends, f"{found['given_100']:.1%}", *delays)
    console.print(table)
    plain = outcome["false_promotion_of_a_plain_test"]
    console.print("columns of two numbers: median, 90th percentile", highlight=False)
    console.print(f"a test for one look, done every hour, would have promoted an equal version in {plain:.1%}")
    together = outcome["false_rollback_of_all_together"]
    console.print(
        f"with one agent that always fails, all failures together call an equal version failing in {together:.1%}"
    )
    console.print(
        f"{'passed' if outcome['passed'] else 'failed'}: an equal version was promoted in "
        f"{outcome['false_promotion']:.2%}, and rolled back for one agent's failures in "
        f"{outcome['false_rollback']:.2%} (at most {MOST_FALSE:.0%} each), a version 15 points worse was rolled back "
        f"in time in {outcome['rolled_back_in_time']:.2%} (at least {LEAST_ROLLED_BACK:.0%})",
        highlight=False,
    )


def _share(trials: Sequence[Trial], holds: Callable[[Trial], bool]) -> float:
    return sum(holds(trial) for trial in trials) / len(trials)


def _shown(found: dict[str, float | None]) -> str:
    return "" if found["p50"] is None else f"{found['p50']:,.0f}, {found['p90']:,.0f}"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.release", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_TRIALS} trials instead of {TRIALS}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the report")
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error(f"--seed = {args.seed}: give 0 or more")
    return args


if __name__ == "__main__":
    sys.exit(main())
