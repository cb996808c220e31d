"""Several environments played as one: ``environments.load("sat-small+textcraft-small*2")``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from environments.contract import Environment, Episode, Step
from environments.episode import check_owner
from rl.mix import deal, members, size
from rl.records import Message, ScenarioRef


class Mixed:
    """A mix: each scenario is one of a member's, as ``rl.mix`` deals them.

    An episode tells by its ``environment`` whose it is: that one's success, tools and limits are the episode's. What a
    mix says of itself is what holds for all of them: the largest limits, and every tool.
    """

    profile = "mix"
    idle = ""

    def __init__(self, name: str, environments: Mapping[str, Environment]) -> None:
        """``environments`` has the members by name."""
        self.name = name
        self._dealing = members(name)
        self._members = {member.environment: environments[member.environment] for member in self._dealing}
        every = list(self._members.values())
        self.system = "\n\n".join(f"{one.name}: {one.system}" for one in every)
        self.max_turns = max(one.max_turns for one in every)
        self.max_tokens = max(one.max_tokens for one in every)
        self.success = max(one.success for one in every)
        self.tools: Sequence[Mapping[str, Any]] = [tool for one in every for tool in one.tools]
        self.blocks = any(one.blocks for one in every)
        self.sandboxed = any(one.sandboxed for one in every)

    def scenarios(self, split: str) -> int | None:
        """How many seeds can be dealt before a member runs out; None where none does.

        Raises as the members' ``scenarios`` do.
        """
        return size(self._dealing, {name: one.scenarios(split) for name, one in self._members.items()})

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the member's scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment, or its member has no such seed.
            MissingDependency: what the member is played with is not installed here.
        """
        check_owner(self, ref)
        owner, seed = deal(self._dealing, ref.seed)
        return MixedEpisode(self._members[owner].open(ScenarioRef(environment=owner, split=ref.split, seed=seed)))


class MixedEpisode:
    """A member's episode. Its type names the member too: ``sat-small: n3``."""

    def __init__(self, episode: Episode) -> None:
        self._episode = episode
        self.environment = episode.environment
        self.content_hash = episode.content_hash
        self.type = f"{episode.environment.name}: {episode.type}"

    @property
    def messages(self) -> list[Message]:
        """The member's opening."""
        return self._episode.messages

    @property
    def solved(self) -> bool | None:
        """As the member's."""
        return self._episode.solved

    def step(self, action: str) -> Step:
        """As the member's."""
        return self._episode.step(action)

    def oracle(self) -> str:
        """What the member's expert does next."""
        return self._episode.oracle()

    def guess(self, chance: Random) -> str:
        """What the member's guess is."""
        return self._episode.guess(chance)

    def close(self) -> None:
        """As the member's."""
        self._episode.close()
