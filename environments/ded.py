"""Deduction: given a task in words, write the program that does it, in one reply.

``ded`` has tasks that take three to twenty-five lines, ``ded-small`` one line, ``ded-public`` those of a data set that
the user has. The program is run on hidden tests in the sandbox, all in one launch, and has to pass every one: no more
are run than decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from environments.contract import Episode
from environments.dealing import Bank, Dealt
from environments.episode import TextEnvironment, TextEpisode, Took, check_owner
from environments.programs import bank, public
from environments.programs.family import EXAMPLES
from environments.programs.judging import Case, fenced, grade, program_of
from environments.sandbox import Limits
from rl.records import ScenarioRef

ECHOES = 0.3
"""How often a guess prints the output of an example, and is no program of another task."""


class Ded(TextEnvironment):
    """Tasks that take three to twenty-five lines."""

    name = "ded"
    profile = "default"
    system = (
        "You write Python 3 programs. A program reads standard input and prints what is asked for, and nothing else. "
        "You may think first. Put the whole program into one ```python block at the end."
    )
    max_turns = 1
    max_tokens = 4096
    blocks = True
    sandboxed = True
    limits: Limits = bank.QUICK
    collection: Callable[[], bank.Collection] = staticmethod(bank.programs)

    def ask(self, solved: bank.Solved) -> str:
        """The user's message: the task and two examples."""
        shown = zip(solved.task.inputs[:EXAMPLES], solved.outputs, strict=False)
        examples = (f"\n\nInput:\n```\n{given}```\nOutput:\n```\n{output.rstrip()}\n```" for given, output in shown)
        return solved.task.statement + "".join(examples)

    def say(self, program: str) -> str:
        """The reply that is this program."""
        return fenced(program)

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment.
            SandboxUnavailable: the scenario is none of those that are kept, and programs cannot be run here.
        """
        check_owner(self, ref)
        dealt = bank.problem(self.collection(), ref)
        solved = dealt.content
        return DedEpisode(
            self,
            ref,
            Dealt(self.ask(solved), dealt.digest),
            solved.cases,
            kind=self.collection().kind(solved.task),
            answer=solved.task.program,
            other=lambda chance: self._other(solved, chance),
        )

    def _other(self, solved: bank.Solved, chance: Random) -> str:
        """The program of another task, or one that prints the output of an example."""
        if chance.random() < ECHOES:
            return f"print({chance.choice(solved.outputs[:EXAMPLES]).rstrip()!r})\n"
        others = [one.task for one in self.collection().solved if one.task.statement != solved.task.statement]
        return chance.choice(others).program


class DedSmall(Ded):
    """Tasks that take one line, in few words: for small models."""

    name = "ded-small"
    profile = "small"
    system = "Write one line of Python that reads input() and prints. Reply with the line only."
    max_tokens = 60
    collection = staticmethod(bank.one_liners)

    def ask(self, solved: bank.Solved) -> str:
        shown = zip(solved.task.inputs[:EXAMPLES], solved.outputs, strict=False)
        return "\n".join(
            [solved.task.statement, *(f"{given.rstrip()} -> {output.rstrip()}" for given, output in shown)]
        )

    def say(self, program: str) -> str:
        return program.rstrip()


class DedPublic(Ded):
    """Tasks of a data set in a file that ``RLFLEET_PROGRAMS_DATA`` names."""

    name = "ded-public"
    profile = "public"
    limits = public.LIMITS

    def scenarios(self, split: str) -> int | None:
        """How many rows of the split can be used.

        Raises:
            MissingDependency: as ``open``.
            InvalidInput: as ``open``.
        """
        return self._rows().size(split)

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment, its split has no such seed, or the file is none.
            MissingDependency: no file is named, it is not there, or Parquet cannot be read here.
        """
        check_owner(self, ref)
        rows = self._rows()
        dealt = rows.deal(ref)
        row = dealt.content

        def other(chance: Random) -> str:
            seed = chance.randrange(rows.size(ref.split))
            return rows.deal(ref.model_copy(update={"seed": seed})).content.program

        return DedEpisode(self, ref, Dealt(row.prompt, dealt.digest), row.cases, "public", row.program, other)

    def _rows(self) -> Bank[public.Problem]:
        return public.found().problems


class DedEpisode(TextEpisode):
    """One task, and one reply. Of ``total`` tests ``passed`` were passed until one was not, or all were.

    ``ended_by`` is how the last run ended: ``ok`` where it ended well, whatever it printed. It is ``timeout`` also
    where all tests together took too long, and empty where the reply holds no program.
    """

    def __init__(
        self,
        environment: Ded,
        ref: ScenarioRef,
        task: Dealt[str],
        cases: Sequence[Case],
        kind: str,
        answer: str,
        other: Callable[[Random], str],
    ) -> None:
        self.passed, self.total, self.ended_by = 0, len(cases), ""
        self._cases, self._limits = cases, environment.limits
        self._answer, self._other, self._say = answer, other, environment.say
        super().__init__(environment, ref, task.digest, task.content, kind)

    def _act(self, reply: str) -> Took:
        self.passed, self.total, self.ended_by = grade(program_of(reply), self._cases, self._limits)
        return Took("", 1.0 if self.solved else 0.0, over=True)

    @property
    def solved(self) -> bool:
        """Whether every test is passed."""
        return self.passed == self.total

    def oracle(self) -> str:
        """The program that made the tests."""
        return self._say(self._answer)

    def guess(self, chance: Random) -> str:
        """The program of another task, or one that prints the output of an example."""
        return self._say(self._other(chance))
