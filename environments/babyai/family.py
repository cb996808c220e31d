"""Forty BabyAI levels as text, from one room with a ball to a maze of locked doors, in at most twenty turns.

Actions are minigrid's own, and walks: to a thing in view, up to it to pick it up, through a door. A completed mission
is worth 1. A mission that the level counts as failed ends the episode.
"""

from __future__ import annotations

from random import Random

from environments.babyai.deeds import CHECK, HANDS, TURNS, act, choices
from environments.babyai.expert import advise
from environments.babyai.layouts import MAX_TURNS, Layout, layout
from environments.babyai.levels import make
from environments.babyai.moves import Mission
from environments.babyai.sight import observe
from environments.contract import Episode
from environments.episode import TextEnvironment, TextEpisode, Took, action_of, check_owner
from rl.records import ScenarioRef


class BabyAI(TextEnvironment):
    """The environment. Seeds take turns over the forty levels, so any forty in a row are one of each."""

    name = "babyai"
    profile = "levels"
    system = (
        "You move about rooms on a grid, and see what lies ahead of you. Reply with one action: "
        f"{', '.join((*TURNS, *HANDS))}, go to <thing>, pick up <thing>, go through <open door>, "
        f"toggle and go through <closed door>, {CHECK}. "
        "Name a thing as you see it, with its number: go to red ball 1. A key opens locked doors of its colour."
    )
    max_turns = MAX_TURNS
    max_tokens = 256

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment.
        """
        check_owner(self, ref)
        return BabyAIEpisode(self, ref, layout(ref.split, ref.seed))


class BabyAIEpisode(TextEpisode):
    """One layout being played."""

    def __init__(self, environment: BabyAI, ref: ScenarioRef, found: Layout) -> None:
        self._level = make(found.level, found.seed)
        self._mission = Mission.OPEN
        super().__init__(environment, ref, found.digest, observe(self._level), found.level)

    def _act(self, reply: str) -> Took:
        self._mission, note = act(self._level, " ".join(action_of(reply).lower().split()))
        if self._mission is not Mission.OPEN:
            return Took("", float(self.solved), over=True)
        return Took(f"{note}\n{observe(self._level)}" if note else observe(self._level))

    @property
    def solved(self) -> bool:
        """Whether the level's own verifier says that the mission is done."""
        return self._mission is Mission.DONE

    def oracle(self) -> str:
        """The expert's next action, from how things stand."""
        return advise(self._level)

    def guess(self, chance: Random) -> str:
        """Any action that can be tried here; asking for them is none."""
        return chance.choice(choices(self._level)[:-1])
