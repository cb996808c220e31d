"""ScienceWorld as an environment: a task of school science, and what an agent does in the house to solve it."""

from __future__ import annotations

import re
from functools import cache
from random import Random

from environments.contract import Environment, Episode
from environments.dealing import Bank, Dealt
from environments.episode import TextEnvironment, TextEpisode, Took, action_of, check_owner
from environments.sciworld.gold import Variation, known
from environments.sciworld.pool import Pool, pool
from environments.sciworld.simulator import Simulator, State
from rl.records import ScenarioRef

FORM = "Reply with one action, such as: open door to kitchen"
LONGEST_ACTION = 200
LOOK = "look around"
UNWRITTEN = re.compile(r"[^\x20-\x7e]+")


class SciWorld(TextEnvironment):
    """ScienceWorld 1.2.3's own simulator, without simplifications."""

    name = "sciworld"
    profile = "scienceworld-1.2.3"
    system = (
        "You solve a task in a simulated house with workshop and foundry. Each turn you take one action:\n"
        "look around, look at THING, look in THING, read THING, inventory, task\n"
        "go to PLACE, open THING, close THING, activate THING, deactivate THING\n"
        "pick up THING, put down THING, move THING to THING, pour THING in THING, dunk THING in THING, mix THING\n"
        "use THING on THING, connect THING to THING, disconnect THING, eat THING, flush THING\n"
        "focus on THING tells that the task is about this thing: a wrong one ends the episode\n"
        "wait lets ten moments pass, wait1 one\n"
        "Where an action is ambiguous, reply with the number of what you mean. "
        "You may think first; then begin the line with Action:"
    )
    max_turns = 60
    max_tokens = 256
    blocks = True

    def scenarios(self, split: str) -> int | None:
        """How many variations the split has."""
        return variations().size(split)

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment, or its split has no such seed.
            MissingDependency: Java or the package is not installed.
            EngineUnavailable: all simulators are busy for too long.
            ChildLost: the simulator ended or does not answer; so may ``step``, ``oracle`` and ``guess``.
        """
        check_owner(self, ref)
        return Science(self, ref, variations().deal(ref), pool())


@cache
def variations() -> Bank[Variation]:
    """The variations that are dealt out, by the hashes of their transcripts."""
    return Bank({variation.digest: variation for variation in known()})


class Science(TextEpisode):
    """One variation being played."""

    def __init__(self, environment: Environment, ref: ScenarioRef, dealt: Dealt[Variation], shared: Pool) -> None:
        self._variation = dealt.content
        self._pool = shared
        self._player = object()
        self._taken: list[str] = []
        self._score = 0.0
        self._completed = False
        with shared.simulator(self._player) as simulator:
            opening = self._load(simulator)
        super().__init__(environment, ref, dealt.digest, opening, self._variation.task)

    def oracle(self) -> str:
        """The next action of the gold path that was not taken yet."""
        path, place = self._variation.path, 0
        for action in self._taken:
            place += place < len(path) and action == path[place]
        return path[place] if place < len(path) else LOOK

    def guess(self, chance: Random) -> str:
        """One of the actions that the simulator would understand.

        The simulator names things by chance as it lists them, so that the same list comes only from a game that was not
        asked before: this one is given up, and loaded and repeated for what follows.
        """
        with self._pool.simulator(self._player) as simulator:
            self._resume(simulator)
            found = simulator.possible()
            simulator.player = None
        return chance.choice(found)

    def close(self) -> None:
        """Let go of the simulator that has the game."""
        self._pool.leave(self._player)

    def _act(self, reply: str) -> Took:
        action = " ".join(UNWRITTEN.sub(" ", action_of(reply).partition("\n")[0]).split())
        if not action or len(action) > LONGEST_ACTION:
            return self._scored(FORM)
        state = self._step(action)
        self._score, self._completed = state.score, state.completed
        return self._scored(state.observation, over=state.completed or state.score < 0)

    @property
    def solved(self) -> bool:
        """Whether the simulator says that the task is completed, and not failed."""
        return self._completed and self._score >= 0

    def _too_long(self) -> Took:
        return self._scored(super()._too_long().observation)

    def _scored(self, observation: str, over: bool = False) -> Took:
        """The score counts where the episode ends, and only there."""
        ends = over or self._turns >= self._environment.max_turns
        if ends:
            self.close()
        return Took(observation, min(1.0, max(0.0, self._score)) if ends else 0.0, over)

    def _step(self, action: str) -> State:
        with self._pool.simulator(self._player) as simulator:
            self._resume(simulator)
            state = simulator.step(action)
            self._taken.append(action)
            return state

    def _resume(self, simulator: Simulator) -> None:
        """Have this episode's game on the simulator, as far as it was played."""
        if simulator.player is not self._player:
            self._load(simulator)
            for action in self._taken:
                simulator.step(action)

    def _load(self, simulator: Simulator) -> str:
        opening = simulator.load(self._variation.task, self._variation.number)
        simulator.player = self._player
        return opening
