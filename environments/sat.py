"""Planted k-SAT: find values of variables that satisfy every clause of a formula, in one reply.

Three profiles: ``sat`` is 3-SAT of 20, 50 and 100 variables at the threshold ratio, ``sat-compatible`` has the
settings that Affine publishes, which almost any assignment satisfies, and ``sat-small`` is 2-SAT of 3 to 5 variables.
Every formula is drawn around an assignment that satisfies it, so ``UNSAT`` is never right; any assignment that
satisfies the formula is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

from environments.contract import Episode
from environments.dealing import Dealt, deal
from environments.episode import TextEnvironment, TextEpisode, Took, check_owner
from rl.records import ScenarioRef

ANSWER = re.compile(r"x([0-9]{1,6})=(True|False|1|0)")
"""One variable's value; the last one that a reply gives it counts."""

OR = " \u2228 "

AGREE = (3 - 5**0.5) / 2
"""Chance of a literal of 3-SAT to agree with the planted assignment, where clauses in which none does are redrawn.

With it the literals that remain agree half of the time, so that counting signs tells nothing (Jia, Moore and Strain,
"Generating hard satisfiable formulas by hiding solutions deceptively", 2007, q = 0.618, whose q / (1 + q) this is).
"""


class Formula(NamedTuple):
    """Clauses of literals (3 is x3, -3 its negation), and the values of x1, x2, ... that they were drawn around."""

    clauses: tuple[tuple[int, ...], ...]
    planted: tuple[bool, ...]

    def key(self) -> list[Any]:
        """What makes it the formula that it is: neither the order of clauses nor of literals."""
        return [len(self.planted), sorted(sorted(clause) for clause in self.clauses)]

    def satisfied(self, values: dict[int, bool]) -> bool:
        """Whether each clause has a literal that is true; one of a variable without a value is not."""
        return all(any(values.get(abs(literal)) is (literal > 0) for literal in clause) for clause in self.clauses)


Plant = Callable[[Random, int], list[bool]]
"""Which of a clause's literals agree with the planted assignment; at least one does."""


def one_sure(chance: Random, width: int) -> list[bool]:
    """One literal, drawn by chance, agrees; the others do half of the time. Affine's rule."""
    sure = chance.randrange(width)
    return [place == sure or chance.random() < 0.5 for place in range(width)]


def balanced(chance: Random, width: int) -> list[bool]:
    """Literals agree with the chance ``AGREE``, drawn again until one does."""
    while True:
        agrees = [chance.random() < AGREE for _ in range(width)]
        if any(agrees):
            return agrees


def draw(chance: Random, variables: int, width: int, count: int, plant: Plant) -> Formula:
    """A formula of ``count`` different clauses of ``width`` different variables each."""
    planted = tuple(chance.random() < 0.5 for _ in range(variables))
    clauses: dict[tuple[int, ...], tuple[int, ...]] = {}
    while len(clauses) < count:
        chosen = chance.sample(range(1, variables + 1), width)
        agrees = plant(chance, width)
        clause = tuple(x if planted[x - 1] is agree else -x for x, agree in zip(chosen, agrees, strict=True))
        clauses.setdefault(tuple(sorted(clause)), clause)
    return Formula(tuple(clauses.values()), planted)


def values_of(reply: str) -> dict[int, bool]:
    """The values that a reply gives to variables, wherever it does."""
    return {int(name): value in {"True", "1"} for name, value in ANSWER.findall(reply)}


class Sat(TextEnvironment):
    """3-SAT with 4.26 clauses a variable, where random formulas are hardest; 20, 50 and 100 variables in turn."""

    name = "sat"
    profile = "hard"
    system = "You solve satisfiability problems. You may think first; the last value that you give a variable counts."
    max_turns = 1
    max_tokens = 4096
    sizes: Sequence[int] = (20, 50, 100)
    """Numbers of variables, by the seed in turn."""

    width: int = 3
    plant: Plant = staticmethod(balanced)

    def count(self, variables: int) -> int:
        """How many clauses a formula has."""
        return round(4.26 * variables)

    def ask(self, formula: Formula) -> str:
        """The user's message: the three lines are Affine's interface."""
        signs = (OR.join(f"{'¬' * (literal < 0)}x{abs(literal)}" for literal in c) for c in formula.clauses)
        return (
            f"Find a satisfying assignment for the following {self.width}-SAT formula over variables "
            f"x1..x{len(formula.planted)}:\n{' ∧ '.join(f'({clause})' for clause in signs)}\n"
            "Provide your answer as comma-separated assignments like `x1=True, x2=False, ...`, "
            "or respond `UNSAT` if it has no solution."
        )

    def say(self, values: Sequence[bool]) -> str:
        """The reply that gives these values to x1, x2 and so on."""
        return ", ".join(f"x{name}={value}" for name, value in enumerate(values, 1))

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment.
        """
        check_owner(self, ref)
        variables = self.sizes[ref.seed % len(self.sizes)]
        count = self.count(variables)
        dealt = deal(ref, lambda chance: draw(chance, variables, self.width, count, self.plant), Formula.key)
        return SatEpisode(self, ref, dealt)


class SatCompatible(Sat):
    """10-SAT of 15 variables and 63 clauses: a test of the reply's form, as nearly every assignment satisfies it."""

    name = "sat-compatible"
    profile = "compatible"
    max_tokens = 1024
    sizes = (15,)
    width = 10
    plant = staticmethod(one_sure)

    def count(self, variables: int) -> int:
        return int(4.26 * variables)


class SatSmall(Sat):
    """2-SAT of 3, 4 and 5 variables in turn, in few words: for small models."""

    name = "sat-small"
    profile = "small"
    system = "Make every clause true. Reply like x1=1, x2=0, x3=1."
    max_tokens = 40
    sizes = (3, 4, 5)
    width = 2
    plant = staticmethod(one_sure)

    def count(self, variables: int) -> int:
        return 2 * variables - 1

    def ask(self, formula: Formula) -> str:
        signs = (" or ".join(f"{'not ' * (literal < 0)}x{abs(literal)}" for literal in c) for c in formula.clauses)
        return "; ".join(signs)

    def say(self, values: Sequence[bool]) -> str:
        return ", ".join(f"x{name}={int(value)}" for name, value in enumerate(values, 1))


class SatEpisode(TextEpisode):
    """One formula, answered once."""

    def __init__(self, environment: Sat, ref: ScenarioRef, dealt: Dealt[Formula]) -> None:
        self._formula = dealt.content
        self._say = environment.say
        self._values: dict[int, bool] = {}
        kind = f"n{len(self._formula.planted)}"
        super().__init__(environment, ref, dealt.digest, environment.ask(self._formula), kind)

    def _act(self, reply: str) -> Took:
        self._values = values_of(reply)
        return Took("", 1.0 if self.solved else 0.0, over=True)

    @property
    def solved(self) -> bool:
        """Whether the values make every clause true."""
        return self._formula.satisfied(self._values)

    def oracle(self) -> str:
        """The assignment that the formula was drawn around."""
        return self._say(self._formula.planted)

    def guess(self, chance: Random) -> str:
        """A value by chance for every variable."""
        return self._say([chance.random() < 0.5 for _ in self._formula.planted])
