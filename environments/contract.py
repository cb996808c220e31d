"""What an environment is: scenarios addressed by (split, seed), played in turns of text.

An environment keeps no state between episodes, so one instance may have any number of episodes open. An
episode's rewards sum to a number in [0, 1]; 1 is success. An episode whose class has a ``type`` says which kind of
scenario it is: versions are compared by type too. Without one the type is the environment's name.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

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
    """One scenario being played."""

    @property
    def messages(self) -> list[Message]:
        """The opening system and user messages."""

    @property
    def content_hash(self) -> str:
        """SHA-256, in hex, of everything that makes the scenario what it is. Never shared between splits."""

    def step(self, action: str) -> Step:
        """Take the agent's reply, whatever it holds: text that is no action uses up the turn.

        Raises:
            InvalidInput: the episode is over.
        """

    def oracle(self) -> str:
        """The next action of a scripted expert that solves every scenario. For tests and bounds, not for agents."""


class Environment(Protocol):
    """A family of scenarios. ``max_tokens`` is the most that one reply needs, end-of-turn token included."""

    @property
    def name(self) -> str:
        """What ``environments.load`` and ``ScenarioRef.environment`` call it."""

    @property
    def system(self) -> str:
        """The system message that opens every episode."""

    @property
    def max_turns(self) -> int:
        """Turns after which an episode is truncated."""

    @property
    def max_tokens(self) -> int:
        """Tokens that one reply may have."""

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario: the same (split, seed) is the same scenario everywhere.

        Raises:
            InvalidInput: the scenario belongs to another environment.
        """
