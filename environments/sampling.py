"""Episodes of an environment for the reward linter: solved at once and late, failed in many ways, and silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from environments.contract import Environment, Episode
from rl.records import ScenarioRef
from rl.reward_lint import Kind, Sampled

GUESSED = 3
"""Episodes by chance alone, and so many after each beginning of the expert's."""

EACH = 8
"""Beginnings of up to so many turns are all tried, and so many turns are left to chance: each of the first counts."""

ENOUGH = 20
"""Scenarios, where nobody names another number."""

SLOW = {"sciworld": 2}
"""Fewer scenarios where they take minutes, and one guess a beginning: a guess loads this simulator's game anew."""

SILENT = "silent"

Reply = Callable[[Episode, int], str]
"""What is said in the episode's turn, counted from 0."""


def enough(environment: Environment) -> int:
    """How many scenarios are to be sampled, where nobody says: 20, or fewer where they are slow."""
    return SLOW.get(environment.name, ENOUGH)


def samples(environment: Environment, ref: ScenarioRef) -> list[Sampled]:
    """Episodes of one scenario.

    The expert's; the expert's after some turns in which nothing is said, as far as that leaves it time; the expert's
    first turns and then silence; by chance alone, after some turns of the expert's, and after some of silence; and
    silence from the start. All numbers of turns up to 8 are tried, and then every doubling. After 8 turns by chance,
    nothing more is said.
    """
    return [_sample(environment, ref, reply, how) for how, reply in _ways(environment, ref)]


def _ways(environment: Environment, ref: ScenarioRef) -> Iterator[tuple[str, Reply]]:
    yield "the expert", _expert
    yield SILENT, _silent
    for turns in _numbers(environment.max_turns):
        yield f"the expert after {turns} silent turns", _after(turns, _silent, _expert)
        yield f"silent after {turns} of the expert's turns", _after(turns, _expert, _silent)
        yield f"by chance after {turns} silent turns", _after(turns, _silent, _guess(ref, turns, -1))
    for turns in (0, *_numbers(environment.max_turns)):
        for number in range(1 if environment.name in SLOW else GUESSED):
            guess = _guess(ref, turns, number)
            yield f"by chance after {turns} of the expert's turns", _after(turns, _expert, guess)


def _numbers(most: int) -> list[int]:
    """1 to 8, 16, 32 and so on, below ``most``."""
    return [turns for turns in range(1, most) if turns <= EACH or turns & (turns - 1) == 0]


def _expert(episode: Episode, _: int) -> str:
    return episode.oracle()


def _silent(episode: Episode, _: int) -> str:
    return episode.environment.idle


def _guess(ref: ScenarioRef, turns: int, number: int) -> Reply:
    """By chance from that turn on, and silent in the end."""
    chance = Random(f"{ref.id}/{turns}/{number}")
    return _after(turns + EACH, lambda episode, _: episode.guess(chance), _silent)


def _after(turns: int, first: Reply, then: Reply) -> Reply:
    return lambda episode, turn: first(episode, turn) if turn < turns else then(episode, turn)


def _sample(environment: Environment, ref: ScenarioRef, reply: Reply, how: str) -> Sampled:
    episode = environment.open(ref)
    try:
        reward, turns, done = 0.0, 0, False
        while not done:
            step = episode.step(reply(episode, turns))
            reward, turns, done = reward + step.reward, turns + 1, step.done
        success, solved = episode.environment.success, episode.solved
    finally:
        episode.close()
    kind: Kind = "right" if (reward >= success if solved is None else solved) else "wrong"
    return Sampled(ref.id, "silent" if how == SILENT else kind, turns, reward, how, success, by_reward=solved is None)
