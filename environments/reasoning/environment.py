"""Any data set of reasoning-gym as an environment: one question, one reply, and the data set's own score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from random import Random

from environments.contract import Episode
from environments.dealing import Dealt, deal
from environments.episode import TextEnvironment, TextEpisode, Took, check_owner
from environments.reasoning.answers import answer_of, say
from environments.reasoning.gym import Drawn, gym
from rl.errors import InvalidInput, NoScenario
from rl.records import ScenarioRef

FAMILY = "reasoning-gym"
MOST_DRAWS = 256
"""For one scenario: of the split, and an entry that can be used."""

REFUSED: Mapping[str, str] = {
    "boxnet": "its entries have no answer",
    "composite": "it is made of other data sets; mix them with +",
    "game_of_life_halting": "it scores any text as right",
    "graph_color": "its entries have no answer",
    "propositional_logic": "its entries have no answer",
    "puzzle24": "it scores any four numbers that make 24, not the ones it asks for",
    "rubiks_cube": "its entries have no answer",
    "rush_hour": "its entries have no answer",
}
"""Data sets without an expert or without a wrong answer, and why."""


def datasets() -> list[str]:
    """The names of all data sets that can be played, sorted.

    Raises:
        MissingDependency: reasoning-gym is not installed here.
    """
    return [name for name in gym().datasets() if name not in REFUSED]


class ReasoningGym(TextEnvironment):
    """One data set with its own settings: every seed is a question of its own.

    A question belongs to one split by the hash of its text. An entry is passed over that has no answer, whose answer
    its data set does not score 1, or that any text answers.
    """

    profile = "reasoning-gym-0.1.25"
    system = (
        "Answer the question. You may think first; then write the answer alone, in the form that the question asks "
        "for, between <answer> and </answer>."
    )
    max_turns = 1
    max_tokens = 2048
    blocks = True

    def __init__(self, dataset: str) -> None:
        """One data set, by reasoning-gym's name.

        Raises:
            InvalidInput: there is no such data set, or it cannot be played.
            MissingDependency: reasoning-gym is not installed here.
        """
        self.dataset = dataset
        self.name = f"{FAMILY}:{dataset}"
        if dataset in REFUSED:
            raise InvalidInput("environment", self.name, f"{REFUSED[dataset]}; take another data set")
        if dataset not in (known := datasets()):
            near = ", ".join(get_close_matches(dataset, known)) or f"one of the {len(known)} in its gallery"
            raise InvalidInput("environment", self.name, f"{FAMILY} has no data set of that name; take {near}")

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment.
            NoScenario: the data set has too few questions for it.
            MissingDependency: reasoning-gym is not installed here.
            ChildLost: the process in which it runs was ended; so may ``step`` and ``guess``.
        """
        check_owner(self, ref)
        tries = iter(range(MOST_DRAWS))
        dealt = deal(ref, lambda chance: self._draw(ref.id, chance, tries), lambda drawn: drawn.question)
        return Question(self, ref, dealt)

    def other(self, chance: Random) -> str:
        """The answer of an entry drawn by chance. Raises as ``open``."""
        return self._draw(f"{self.name}/guess", chance, iter(range(MOST_DRAWS))).answer

    def _draw(self, scenario: str, chance: Random, tries: Iterator[int]) -> Drawn:
        """The next entry that can be used, while there are tries left."""
        why = "none of them is of this split"
        for _ in tries:
            drawn = gym().draw(self.dataset, chance.randrange(2**31))
            if not drawn.unusable:
                return drawn
            why = f"of the last one, {drawn.unusable}"
        raise NoScenario("scenario", scenario, f"{MOST_DRAWS} entries did not do ({why}); take another data set")


class Question(TextEpisode):
    """One entry, answered once."""

    def __init__(self, environment: ReasoningGym, ref: ScenarioRef, dealt: Dealt[Drawn]) -> None:
        self._asked = dealt.content
        self._of = environment
        super().__init__(environment, ref, dealt.digest, self._asked.question, environment.dataset)

    def _act(self, reply: str) -> Took:
        scored = gym().score(self._of.dataset, self._asked.seed, answer_of(reply))
        return Took(scored.said, scored.score, over=True)

    def oracle(self) -> str:
        """The entry's own answer."""
        return say(self._asked.answer)

    def guess(self, chance: Random) -> str:
        """The answer to another question."""
        return say(self._of.other(chance))
