"""A memory of notes as an environment: code reads and changes them, and a reply ends the episode."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from environments.contract import Episode
from environments.dealing import Dealt, deal
from environments.episode import TextEnvironment, TextEpisode, Took, check_owner
from environments.memory import running
from environments.memory.asking import contradiction, filtered, missing_attribute, missing_entity, retrieval
from environments.memory.changing import add, change, forget, meet
from environments.memory.replies import Malformed, read
from environments.memory.tables import BY_KEY, words
from environments.memory.task import Task, code, encoded, said
from environments.memory.vault import Vault
from environments.memory.vault import draw as draw_vault
from rl.records import ScenarioRef

KINDS: tuple[Callable[[Random, Vault], Task], ...] = (
    partial(retrieval, hops=0),
    change,
    missing_entity,
    partial(filtered, tier="all"),
    partial(retrieval, hops=1),
    add,
    missing_attribute,
    partial(filtered, tier="part"),
    partial(retrieval, hops=2),
    meet,
    contradiction,
    partial(filtered, tier="none"),
    forget,
)
"""Seeds take turns over them."""

SYSTEM = f"""You keep a user's memory: user.md is about the user, entities/*.md about people, places and organisations.
A file looks like this:
# Ada Brandt
- kind: person

## Facts
- phone_number: 555-0123

## Relations
- cousin: [[entities/carla_marek.md]]

Each turn, think in <think>...</think> if you like, then write one block: code as <python>...</python>, or your \
answer as <reply>...</reply>, which ends the talk. You have 8 turns. After code you get its variables, what it \
printed and its error as <result>; variables do not last. It runs in the memory's folder for \
{running.LIMITS.wall_seconds:.0f} seconds at most and has: read_file(path), go_to_link(link), list_files(path), \
check_if_file_exists(path), check_if_dir_exists(path), get_size(path), create_file(path, content), \
update_file(path, old, new), delete_file(path), create_dir(path). old must be in the file once.

- A question: reply with what is asked as it is written in the memory, and with nothing else that the memory holds. \
Names of those on the way to it may be told. Change nothing.
- What the user tells you to change: change that and nothing else. Keys are the user's words joined by _, facts go \
under ## Facts, links under ## Relations, and a file has its person's name in lower case.
- The memory lacks what is asked: invent nothing. Ask, with the full name of whose file lacks it, and what is \
missing. If it has two values, ask which is right, with both.
- <filter> says what you may not tell. If it is all that is asked, reply like this: I may not tell the pet. If it is a \
part of that, tell the rest."""


class Memory(TextEnvironment):
    """Retrieval, updates, clarification and filters."""

    name = "memory"
    system = SYSTEM
    max_turns = 8
    max_tokens = 1024
    idle = said("")
    blocks = True
    sandboxed = True
    run: running.Runner = staticmethod(running.run)
    """What runs code on files."""

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment.
        """
        check_owner(self, ref)
        build = KINDS[ref.seed % len(KINDS)]
        dealt = deal(ref, lambda chance: build(chance, draw_vault(chance)), Task.key)
        return MemoryEpisode(self, ref, dealt)


class MemoryEpisode(TextEpisode):
    """One request about one memory. ``files`` are the memory, which is in no folder between turns."""

    def __init__(self, environment: Memory, ref: ScenarioRef, dealt: Dealt[Task]) -> None:
        self._task = dealt.content
        self._run = environment.run
        self._followed = 0
        self._fulfilled = False
        self.files: running.Files = encoded(self._task.before)
        self.before = running.digest(self.files)
        super().__init__(environment, ref, dealt.digest, self._task.request, self._task.kind)

    @property
    def after(self) -> str:
        """SHA-256, in hex, of the whole memory; ``before`` is that of the beginning."""
        return running.digest(self.files)

    def _act(self, reply: str) -> Took:
        """Run code, or judge the last word. Code that cannot be run safely raises ``SandboxUnavailable``."""
        if reply in self._task.plan[self._followed :]:
            self._followed = self._task.plan.index(reply, self._followed) + 1
        try:
            block = read(reply)
        except Malformed as malformed:
            return Took(str(malformed))
        if block.kind == "reply":
            self._fulfilled = self._task.fulfilled(block.text, self.files)
            return Took("", float(self._fulfilled), over=True)
        self.files, told = self._run(self.files, block.text)
        return Took(told)

    @property
    def solved(self) -> bool:
        """Whether the reply says what it should, and the memory was what it should be."""
        return self._fulfilled

    def oracle(self) -> str:
        """Reads all files on the way, changes what has to be changed, and replies; it knows what they hold.

        Where too few turns are left for all of that, it leaves out the reading.
        """
        plan, left = self._task.plan, self._environment.max_turns - self._turns
        return plan[min(max(self._followed, len(plan) - left), len(plan) - 1)]

    def guess(self, chance: Random) -> str:
        """Reads a file by chance; or replies with a value, a question or a refusal by chance."""
        if chance.random() < 0.5:
            path = chance.choice(list(self._task.before))
            return code(f'text = read_file("{path}")')
        attribute = chance.choice(list(BY_KEY.values()))
        name = chance.choice([path.split("/")[-1].removesuffix(".md") for path in self._task.before])
        who = name.replace("_", " ").title()
        asks = f"The memory of {who} has no {words(attribute.key)}. What is it?"
        replies = (attribute.draw(chance), who, asks, f"I may not tell the {words(attribute.key)}.")
        return said(chance.choice(replies))
