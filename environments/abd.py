"""Abduction: given a program and what it printed, find an input that makes it print that, in one reply.

``abd`` has programs of three to twenty-five lines, ``abd-small`` of one line, ``abd-public`` those of a data set that
the user has. Any input that leads to the output counts: the program is run on it in the sandbox.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from environments import sandbox
from environments.contract import Episode
from environments.dealing import Bank, Dealt
from environments.episode import TextEnvironment, TextEpisode, Took, check_owner
from environments.programs import bank, public
from environments.programs.judging import fenced, input_of, printed
from environments.sandbox import Limits
from rl.records import ScenarioRef


def reply_with(text: str) -> str:
    """The reply that is this input."""
    return f"<INPUT>{text.rstrip()}</INPUT>"


class Abd(TextEnvironment):
    """Programs of three to twenty-five lines."""

    name = "abd"
    profile = "default"
    system = (
        "You are shown a Python program and what it printed. Find an input that makes it print exactly that. You may "
        "think first. Write the input between <INPUT> and </INPUT>, line for line as the program reads it."
    )
    max_turns = 1
    max_tokens = 4096
    blocks = True
    sandboxed = True
    limits: Limits = bank.QUICK
    collection: Callable[[], bank.Collection] = staticmethod(bank.programs)

    def ask(self, program: str, output: str) -> str:
        """The user's message."""
        return f"{fenced(program)}\nIt printed:\n```\n{output.rstrip()}\n```"

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment.
            SandboxUnavailable: the scenario is none of those that are kept, and programs cannot be run here.
        """
        check_owner(self, ref)
        dealt = bank.puzzle(self.collection(), ref)
        task = dealt.content.solved.task
        return AbdEpisode(
            self,
            ref,
            Dealt(task.program, dealt.digest),
            output=dealt.content.output,
            kind=self.collection().kind(task),
            answer=task.inputs[dealt.content.number],
            give=task.give,
        )


class AbdSmall(Abd):
    """Programs of one line, in few words: for small models."""

    name = "abd-small"
    profile = "small"
    system = "What input makes the program print the output? Reply like <INPUT>7</INPUT>."
    max_tokens = 40
    collection = staticmethod(bank.one_liners)

    def ask(self, program: str, output: str) -> str:
        return f"{program}Output: {output.rstrip()}"


class AbdPublic(Abd):
    """Programs of a data set in a file that ``RLFLEET_PROGRAMS_DATA`` names."""

    name = "abd-public"
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
        """A fresh episode of the scenario: what is asked for is what the program prints for the row's input here.

        Where it does not end well here, the row's own output is asked for.

        Raises:
            InvalidInput: the scenario belongs to another environment, its split has no such seed, or the file is none.
            MissingDependency: no file is named, it is not there, or Parquet cannot be read here.
            SandboxUnavailable: programs cannot be run here.
        """
        check_owner(self, ref)
        rows = self._rows()
        dealt = rows.deal(ref)
        row = dealt.content

        def give(chance: Random) -> str:
            seed = chance.randrange(rows.size(ref.split))
            return rows.deal(ref.model_copy(update={"seed": seed})).content.given

        output = public.output_of(row)
        return AbdEpisode(self, ref, Dealt(row.program, dealt.digest), output, "public", row.given, give)

    def _rows(self) -> Bank[public.Puzzle]:
        return public.found().puzzles


class AbdEpisode(TextEpisode):
    """One program, and one reply. ``ended_by`` is how its run ended, empty where the reply holds no input."""

    def __init__(
        self,
        environment: Abd,
        ref: ScenarioRef,
        program: Dealt[str],
        output: str,
        kind: str,
        answer: str,
        give: Callable[[Random], str],
    ) -> None:
        self.ended_by = ""
        self._printed = False
        self._program, self._output = program.content, output
        self._answer, self._give, self._limits = answer, give, environment.limits
        super().__init__(environment, ref, program.digest, environment.ask(self._program, output), kind)

    def _act(self, reply: str) -> Took:
        given = input_of(reply)
        if given is None:
            return Took("", over=True)
        ran = sandbox.run(self._program, given, limits=self._limits)
        self.ended_by = ran.outcome
        self._printed = printed(ran, self._output)
        return Took("", 1.0 if self._printed else 0.0, over=True)

    @property
    def solved(self) -> bool:
        """Whether the program printed the output."""
        return self._printed

    def oracle(self) -> str:
        """The input that the output was made from."""
        return reply_with(self._answer)

    def guess(self, chance: Random) -> str:
        """Another input of the kind that the program reads."""
        return reply_with(self._give(chance))
