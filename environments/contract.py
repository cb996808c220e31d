"""What an environment is: scenarios addressed by (split, seed), played in turns of text.

An environment keeps no state between episodes, so one instance may have any number of episodes open. Everything random
in an episode follows from its scenario's seed: the same actions lead to the same observations and rewards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple, Protocol

from rl.records import Message, ScenarioRef


class Step(NamedTuple):
    """What one action led to.

    ``observation`` is the next user message and is None once ``done``. ``truncated`` tells that the turn
    limit ended the episode, not anything the agent did.
    """

    observation: str | None
    reward: float
    done: bool
    truncated: bool


class Episode(Protocol):
    """One scenario being played. Its rewards sum to a number in [0, 1]."""

    @property
    def environment(self) -> Environment:
        """Whose scenario it is, never a mix: its ``success``, ``tools``, ``idle`` and limits are the episode's."""

    @property
    def messages(self) -> list[Message]:
        """The opening system and user messages."""

    @property
    def content_hash(self) -> str:
        """SHA-256, in hex, of everything that makes the scenario what it is. Never shared between splits."""

    @property
    def type(self) -> str:
        """The kind of scenario, such as a level's name: versions are compared by type too."""

    @property
    def solved(self) -> bool | None:
        """Whether what the scenario asks for is done, as its state tells and not the rewards.

        None where the rewards alone tell right from wrong, as ``Environment.success`` divides them.
        """

    def step(self, action: str) -> Step:
        """Take the agent's reply, whatever it holds: text that is no action is answered, or ends the episode.

        Raises:
            InvalidInput: the episode is over.
            SandboxUnavailable: code of the reply cannot be run as safely as is required here.
        """

    def oracle(self) -> str:
        """The next action of a scripted expert that solves the scenario. For demonstrations, tests and bounds."""

    def guess(self, chance: Random) -> str:
        """An action that is drawn by chance among what a well-formed reply can say."""

    def close(self) -> None:
        """Give back what the episode holds: a process, a folder. It may be called twice."""


class Environment(Protocol):
    """A family of scenarios."""

    @property
    def name(self) -> str:
        """What ``environments.load`` and ``ScenarioRef.environment`` call it."""

    @property
    def profile(self) -> str:
        """Which of the family's settings these are, such as ``hard``."""

    @property
    def system(self) -> str:
        """The system message that opens every episode."""

    @property
    def max_turns(self) -> int:
        """Turns after which an episode is truncated."""

    @property
    def max_tokens(self) -> int:
        """Tokens that one reply may have, end-of-turn token included."""

    @property
    def success(self) -> float:
        """The episode is a success, as its verdict says, from this sum of rewards on."""

    @property
    def idle(self) -> str:
        """What an agent says that does nothing."""

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """Functions that the model may call instead of writing an action, in OpenAI's form; often none."""

    @property
    def blocks(self) -> bool:
        """Whether a step may take longer than some milliseconds, so that it is taken on a thread of its own."""

    @property
    def sandboxed(self) -> bool:
        """Whether a step may run code that the model wrote."""

    def scenarios(self, split: str) -> int | None:
        """How many scenarios the split has; None where every seed is another one."""

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario: the same (split, seed) is the same scenario everywhere.

        Raises:
            InvalidInput: the scenario belongs to another environment, or its split has no such seed.
            NoScenario: this one cannot be made; others may be played.
            MissingDependency: what the environment is played with is not installed here.
        """
