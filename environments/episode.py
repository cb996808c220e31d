"""What all episodes of text have in common: turns are counted, replies are read, and what is over stays over."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from environments.contract import Environment, Step
from rl.errors import InvalidInput
from rl.records import Message, ScenarioRef

MOST_CHARACTERS = 20_000
"""Of one reply; a longer one is no action."""

THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
ACTION = re.compile(r"^[ \t]*action[ \t]*:[ \t]*\n?", re.MULTILINE | re.IGNORECASE)


class Took(NamedTuple):
    """What an action did: the next observation, its reward, and whether the episode is over by it."""

    observation: str
    reward: float = 0.0
    over: bool = False


class TextEnvironment:
    """What most environments of text say of themselves; see ``contract.Environment``."""

    profile: str = "default"
    success: float = 1.0
    idle: str = ""
    tools: Sequence[Mapping[str, Any]] = ()
    blocks: bool = False
    sandboxed: bool = False

    def scenarios(self, split: str) -> int | None:
        """Every seed is another scenario."""
        return None


class TextEpisode(ABC):
    """An episode that says what one reply does; a subclass has ``_act``, ``oracle`` and ``guess``."""

    def __init__(self, environment: Environment, ref: ScenarioRef, content_hash: str, opening: str, kind: str) -> None:
        self.content_hash = content_hash
        self.type = kind
        self._environment = environment
        self._opening = opening
        self._id = ref.id
        self._turns = 0
        self._done = False

    @property
    def environment(self) -> Environment:
        """Whose scenario it is."""
        return self._environment

    @property
    def messages(self) -> list[Message]:
        """The opening system and user messages."""
        return [
            Message(role="system", content=self._environment.system),
            Message(role="user", content=self._opening),
        ]

    @property
    def solved(self) -> bool | None:
        """Whether what is asked for is done; None where the rewards alone tell."""
        return None

    def step(self, action: str) -> Step:
        """Take one turn, whatever the reply holds.

        Raises:
            InvalidInput: the episode is over.
        """
        if self._done:
            raise InvalidInput("action", action[:80], "the episode is over; open the scenario again")
        self._turns += 1
        took = self._act(action) if len(action) <= MOST_CHARACTERS else self._too_long()
        out_of_turns = self._turns >= self._environment.max_turns
        self._done = took.over or out_of_turns
        return Step(
            observation=None if self._done else took.observation,
            reward=took.reward,
            done=self._done,
            truncated=out_of_turns and not took.over,
        )

    def close(self) -> None:  # noqa: B027 (most episodes hold nothing)
        """Give back what the episode holds."""

    @abstractmethod
    def _act(self, reply: str) -> Took:
        """What the reply does. It never raises for what the reply holds."""

    def _too_long(self) -> Took:
        """What a reply does that is too long to be read."""
        return Took(f"The reply is longer than {MOST_CHARACTERS} characters. Reply with one action.")


def spoken(reply: str) -> str:
    """The reply without thoughts in ``<think>`` or ``<thinking>``; an unclosed one runs to the end."""
    return THOUGHT.sub("", reply).strip()


def action_of(reply: str) -> str:
    """The action in a reply: what follows the last line that begins with ``Action:``, else all that is spoken."""
    said = spoken(reply)
    *_, last = [0, *(found.end() for found in ACTION.finditer(said))]
    return said[last:].strip()


def check_owner(environment: Environment, ref: ScenarioRef) -> None:
    """Raises ``InvalidInput`` where the scenario belongs to another environment."""
    if ref.environment != environment.name:
        raise InvalidInput("scenario", ref.id, f"open it with environments.load({ref.environment!r})")
