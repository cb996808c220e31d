"""Whether an environment is what it says: its expert solves it, chance and silence do not, and what a step costs.

    python -m environments.check NAME [--count 50]

prints one JSON object. It looks at one environment a process, so that the process's memory is the environment's.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import environments
from environments.contract import Environment, Episode
from rl.errors import RlfleetError
from rl.records import Record, ScenarioRef

LEAST_BY_EXPERT = 0.95
BELOW_BY_CHANCE = 0.5
APART = {
    "sat-compatible": "most guesses satisfy a formula of ten literals a clause",
}
"""Why an environment is not one that has to be hard for chance."""
FEWER = {"sciworld": 8}
"""Scenarios at most by chance: its simulator takes 0.1 s to list what could be done, and has to load the game anew
after that, at every turn. A rate of one half or more would show 0 of 8 once in 256 times at most."""

Policy = Callable[[Episode], str]


class Baseline(Record):
    """What one agent did. ``interval`` holds 80 % of a Beta posterior; ``turns`` and ``mean_reward`` are of an episode.

    ``cpu_ms`` is the CPU time of a turn, of this process and those it started that have ended: the agent's own thinking
    included, the opening of scenarios not.
    """

    solved: int
    episodes: int
    interval: tuple[float, float]
    mean_reward: float
    turns: float
    cpu_ms: float

    @property
    def success(self) -> float:
        return round(self.solved / self.episodes, 4)


class Checked(Record):
    """What was measured, on the first held-out scenarios. Rates are of successes; ``random_success`` is of guesses.

    ``scenarios`` are those held out, None for endless ones. ``steps_per_second`` counts turns of all three agents by
    the clock, opening included; ``open_cpu_ms`` is CPU time of opening a scenario. ``peak_mb`` is the most memory of
    the process and of those that it started. ``passed`` says whether the expert solves at least 95 %, and, unless
    ``excluded``, chance less than half and silence nothing.
    """

    name: str
    profile: str
    oracle_success: float
    oracle_n: int
    random_success: float
    success_threshold: float
    scenarios: int | None
    steps_per_second: float
    peak_mb: float
    sandbox_level: str | None
    excluded: bool
    note: str
    passed: bool
    open_cpu_ms: float
    oracle: Baseline
    random: Baseline
    idle: Baseline


class Played(NamedTuple):
    """One episode: its reward, whether that is a success, its turns, its seconds, and CPU seconds of both parts."""

    reward: float
    success: bool
    turns: int
    seconds: float
    opening_cpu: float
    playing_cpu: float


def play(environment: Environment, ref: ScenarioRef, policy: Policy) -> Played:
    """One episode to its end."""
    began, cpu = time.perf_counter(), _cpu_seconds()
    episode = environment.open(ref)
    opened = _cpu_seconds()
    try:
        reward, turns, done = 0.0, 0, False
        while not done:
            step = episode.step(policy(episode))
            reward, turns, done = reward + step.reward, turns + 1, step.done
        seconds, ended = time.perf_counter() - began, _cpu_seconds()
        return Played(reward, reward >= episode.environment.success, turns, seconds, opened - cpu, ended - opened)
    finally:
        episode.close()


def check(name: str, count: int = 50) -> Checked:
    """Play the first ``count`` held-out scenarios, or as many as there are, with the expert, by chance and in silence.

    Raises:
        InvalidInput: no environment has that name.
        MissingDependency: what it is played with is not installed here.
        SandboxUnavailable: it runs code, and nothing here is safe enough for that.
    """
    environment = environments.load(name)
    held = environment.scenarios("held_out")
    refs = [ScenarioRef(environment=name, split="held_out", seed=seed) for seed in range(min(count, held or count))]
    few = refs[: FEWER.get(name, count)]
    level = _level() if environment.sandboxed else None
    by_expert = [play(environment, ref, lambda episode: episode.oracle()) for ref in refs]
    by_chance = [play(environment, ref, _guesser(ref)) for ref in few]
    silent = [play(environment, ref, lambda episode: episode.environment.idle) for ref in refs]
    peak, everything = peak_mb(), [*by_expert, *by_chance, *silent]
    expert, chance, silence = _baseline(by_expert), _baseline(by_chance), _baseline(silent)
    return Checked(
        name=name,
        profile=environment.profile,
        oracle_success=expert.success,
        oracle_n=expert.episodes,
        random_success=chance.success,
        success_threshold=environment.success,
        scenarios=held,
        steps_per_second=round(_turns(everything) / sum(one.seconds for one in everything), 1),
        peak_mb=peak,
        sandbox_level=level,
        excluded=name in APART or name not in environments.TEN,
        note=_note(name, len(refs), len(few)),
        passed=expert.success >= LEAST_BY_EXPERT
        and (name in APART or (chance.success < BELOW_BY_CHANCE and silence.solved == 0)),
        open_cpu_ms=round(1000 * sum(one.opening_cpu for one in everything) / len(everything), 3),
        oracle=expert,
        random=chance,
        idle=silence,
    )


def _note(name: str, by_expert: int, by_chance: int) -> str:
    said = [APART.get(name, "" if name in environments.TEN else "not one of the ten")]
    if by_chance < by_expert:
        said.append(f"chance on {by_chance} scenarios")
    return "; ".join(part for part in said if part)


def _guesser(ref: ScenarioRef) -> Policy:
    chance = Random(f"{ref.id}/random")
    return lambda episode: episode.guess(chance)


def _turns(played: Sequence[Played]) -> int:
    return sum(one.turns for one in played)


def _baseline(played: Sequence[Played]) -> Baseline:
    from rl.intervals import beta_interval  # behind the measuring: scipy's memory is not the environment's

    solved, episodes = sum(one.success for one in played), len(played)
    low, high = beta_interval(solved, episodes)
    return Baseline(
        solved=solved,
        episodes=episodes,
        interval=(round(low, 4), round(high, 4)),
        mean_reward=round(sum(one.reward for one in played) / episodes, 4),
        turns=round(_turns(played) / episodes, 2),
        cpu_ms=round(1000 * sum(one.playing_cpu for one in played) / _turns(played), 3),
    )


def _cpu_seconds() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def _level() -> str:
    from environments import sandbox

    return sandbox.level().value


def peak_mb() -> float:
    """Of this process, of those below it that live, and of the largest that has ended, in MiB.

    A process begins with the peak of the one that forked it where ``getrusage`` is asked, but not in ``/proc``.
    """
    unit = 1024**2 if sys.platform == "darwin" else 1024
    ended = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    own = _peaks("self") if Path("/proc/self/status").exists() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round((own + ended) / unit, 1)


def _peaks(process: str) -> int:
    """The sum of the peaks of a process and all below it, in KiB; 0 of one that has ended meanwhile."""
    place = Path("/proc", process)
    try:
        own = int((place / "status").read_text().split("VmHWM:")[1].split()[0])
        below = [child for thread in (place / "task").iterdir() for child in (thread / "children").read_text().split()]
    except (OSError, IndexError):
        return 0
    return own + sum(map(_peaks, below))


def main(arguments: Sequence[str] | None = None) -> None:
    """Check one environment. What it lacks is the last line of standard error, and the exit status is 1."""
    parser = argparse.ArgumentParser(prog="python -m environments.check", description="Check one environment.")
    parser.add_argument("name")
    parser.add_argument("--count", type=int, default=50, help="held-out scenarios")
    options = parser.parse_args(arguments)
    try:
        found = check(options.name, options.count)
    except RlfleetError as error:
        sys.exit(str(error))
    sys.stdout.write(json.dumps(found.model_dump()) + "\n")


if __name__ == "__main__":
    main()
