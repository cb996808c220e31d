"""BabyAI's GoToLocal as text: find the object that the goal names, and walk to it, in at most three turns.

Actions are ``turn left``, ``turn right``, ``move forward`` and ``go to <colour> <type>``, which walks to the
nearest object of that name in view. Reaching the goal's object is worth 1. Walking to any other object ends
the episode as failed: a rule of ours, so that naming an object is a choice and not a step of a search.
"""

from __future__ import annotations

from random import Random

from environments.babyai.goto_level import Level, layout
from environments.babyai.goto_text import FORWARD, LEFT, RIGHT, look, observe, path_to, perform
from environments.contract import Environment, Episode, Step
from environments.episode import TextEnvironment, check_owner
from rl.errors import InvalidInput
from rl.records import Message, ScenarioRef

PRIMITIVES = {"turn left": LEFT, "turn right": RIGHT, "move forward": FORWARD}
MACRO = "go to "
MAX_TURNS = 3


class BabyAIGoto(TextEnvironment):
    """The environment. A reply needs at most 6 tokens with a tokenizer that knows the colours and types."""

    name = "babyai-goto"
    profile = "small"
    system = f"Reply with one action: {', '.join(PRIMITIVES)}, go to <object>."
    max_turns = MAX_TURNS
    max_tokens = 6

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment.
        """
        check_owner(self, ref)
        seed, digest = layout(ref.split, ref.seed)
        return BabyAIGotoEpisode(self, Level(seed), digest)


class BabyAIGotoEpisode:
    """One layout being walked."""

    type = BabyAIGoto.name

    def __init__(self, environment: Environment, level: Level, content_hash: str) -> None:
        self.environment = environment
        self.content_hash = content_hash
        self._level = level
        self._turns = 0
        self._done = False
        self._reached = False
        self._opening = observe(level)

    @property
    def messages(self) -> list[Message]:
        """The opening system and user messages."""
        return [Message(role="system", content=BabyAIGoto.system), Message(role="user", content=self._opening)]

    @property
    def solved(self) -> bool:
        """Whether the goal's object was reached."""
        return self._reached

    def step(self, action: str) -> Step:
        """Take one turn. Text that is no action, or an object out of view, uses up the turn.

        Raises:
            InvalidInput: the episode is over.
        """
        if self._done:
            raise InvalidInput("action", action[:80], "the episode is over; open the scenario again")
        self._turns += 1
        success, failed, note = self._act(action.strip().lower())
        self._reached = success
        out_of_turns = self._turns >= MAX_TURNS
        self._done = success or failed or out_of_turns
        return Step(
            observation=None if self._done else observe(self._level, note),
            reward=1.0 if success else 0.0,
            done=self._done,
            truncated=out_of_turns and not success and not failed,
        )

    def _act(self, action: str) -> tuple[bool, bool, str]:
        """Whether the mission was completed, whether it was failed for good, and a note for the agent."""
        if action in PRIMITIVES:
            return perform(self._level, (PRIMITIVES[action],)), False, ""
        if not action.startswith(MACRO):
            return False, False, "Unknown action.\n"
        path = path_to(self._level, action.removeprefix(MACRO).strip())
        if path is None:
            return False, False, "Nothing happens.\n"
        success = perform(self._level, path)
        return success, not success, ""

    def oracle(self) -> str:
        """Go to the goal's object when it is in view, else turn right: two turns show the whole room."""
        target = " ".join(self._level.mission.split()[3:])
        seen, _ = look(self._level)
        return MACRO + target if any(sighting.name == target for sighting in seen) else "turn right"

    def guess(self, chance: Random) -> str:
        """A turn, a step, or a walk to any object in view."""
        seen, _ = look(self._level)
        return chance.choice([*PRIMITIVES, *(MACRO + sighting.name for sighting in seen)])

    def close(self) -> None:
        """Nothing is held."""
