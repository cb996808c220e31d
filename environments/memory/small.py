"""Memory for small models: six facts and two relations in the prompt, one to be told. Nothing is run.

``Mia colour?`` is in a line of its own; for ``Mia friend colour?`` two lines have to be read.
"""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

from environments.contract import Episode
from environments.dealing import Dealt, deal
from environments.episode import TextEnvironment, TextEpisode, Took, check_owner
from environments.memory.phrases import Terms, normal
from environments.memory.replies import Malformed, read
from environments.memory.tables import listed
from environments.memory.task import said
from rl.records import ScenarioRef

NAMES = listed("Ada Ben Eva Finn Ida Jon Kim Leo Mia Nora Otto Pia")
VALUES = {
    "colour": listed("red blue green teal pink grey black white"),
    "pet": listed("cat dog fish duck goat mouse snake horse"),
    "drink": listed("tea milk water juice cider cocoa coffee lemonade"),
    "town": listed("Ulm Bonn Paris Rome Oslo Turin Lyon Porto"),
}
FORM = "Reply like <reply>blue</reply>."


class Notes(NamedTuple):
    """Lines of (name, key, value), what is asked for, and the values that answer it and that do not."""

    lines: tuple[tuple[str, str, str], ...]
    question: tuple[str, ...]
    answer: str
    others: tuple[str, ...]

    def key(self) -> list[Any]:
        """The notes and the question, whatever the order of the lines."""
        return [sorted(map(list, self.lines)), list(self.question)]

    def text(self) -> str:
        """The opening."""
        return "\n".join(
            [*(f"{name} {key}: {value}" for name, key, value in self.lines), f"{' '.join(self.question)}?"]
        )


def draw(chance: Random, hops: int) -> Notes:
    """Three people with two facts each; two of them have a friend among the three."""
    people, keys = chance.sample(NAMES, 3), chance.sample(sorted(VALUES), 2)
    values = {key: chance.sample(VALUES[key], 3) for key in keys}
    facts = {(name, key): values[key][place] for place, name in enumerate(people) for key in keys}
    friends = {name: chance.choice([one for one in people if one != name]) for name in people[:2]}
    lines = [*((*who, value) for who, value in facts.items()), *((one, "friend", friends[one]) for one in friends)]
    chance.shuffle(lines)
    key = chance.choice(keys)
    asked = chance.choice(people[:2] if hops else people)
    answer = facts[friends[asked] if hops else asked, key]
    others = tuple(value for value in facts.values() if value != answer)
    question = (asked, "friend", key) if hops else (asked, key)
    return Notes(tuple(lines), question, answer, others)


class MemorySmall(TextEnvironment):
    """One fact out of six, found at once or by way of a friend, in turn."""

    name = "memory-small"
    profile = "small"
    system = f"Answer from the notes in one word. {FORM}"
    max_turns = 1
    max_tokens = 32
    idle = said("")

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment.
        """
        check_owner(self, ref)
        return MemorySmallEpisode(self, ref, deal(ref, lambda chance: draw(chance, ref.seed % 2), Notes.key))


class MemorySmallEpisode(TextEpisode):
    """Notes and a question, answered once."""

    def __init__(self, environment: MemorySmall, ref: ScenarioRef, dealt: Dealt[Notes]) -> None:
        self._notes = dealt.content
        every = {normal(value) for values in VALUES.values() for value in values}
        answer = normal(self._notes.answer)
        self._right = False
        self._terms = Terms(needed=frozenset({answer}), others=frozenset(every - {answer}))
        super().__init__(environment, ref, dealt.digest, self._notes.text(), f"hops-{len(self._notes.question) - 2}")

    def _act(self, reply: str) -> Took:
        try:
            block = read(reply)
        except Malformed as malformed:
            return Took(str(malformed), over=True)
        self._right = block.kind == "reply" and self._terms.hold(block.text)
        return Took("", float(self._right), over=True)

    @property
    def solved(self) -> bool:
        """Whether the value was told, and no other one."""
        return self._right

    def _too_long(self) -> Took:
        return Took("", over=True)

    def oracle(self) -> str:
        """The value that is asked for."""
        return said(self._notes.answer)

    def guess(self, chance: Random) -> str:
        """Any of the six values."""
        return said(chance.choice([self._notes.answer, *self._notes.others]))
