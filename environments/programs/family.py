"""Families of small programs: a rule in words, a program that follows it, and inputs for it, drawn by chance.

A family is a function that draws its numbers and gives what was made of them. Programs read standard input and print;
they hold no comments, and their names do not tell what they compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from string import Template
from textwrap import dedent
from typing import NamedTuple

INPUTS = 8
"""How many inputs a task has: two are shown as examples, the others are hidden tests."""
EXAMPLES = 2
MOST_DRAWS = 400

LETTERS = "abcdefghijklmnopqrstuvwxyz"
COMMON = "aeioustrnl"


class Made(NamedTuple):
    """What a family draws: the rule in words, a program that follows it, and what draws one input."""

    statement: str
    program: str
    give: Callable[[Random], str]


Family = Callable[[Random], Made]


class Task(NamedTuple):
    """A program to write, or to find an input for. ``inputs`` are ``INPUTS`` different ones of ``give``."""

    kind: str
    family: str
    statement: str
    program: str
    give: Callable[[Random], str]
    inputs: tuple[str, ...]


def draw(families: Sequence[Family], chance: Random) -> Task:
    """A task of one of the families, by chance."""
    family = chance.choice(families)
    made = family(chance)
    inputs: dict[str, None] = {}
    for _ in range(MOST_DRAWS):
        inputs.setdefault(made.give(chance))
        if len(inputs) == INPUTS:
            break
    else:
        raise AssertionError(f"{family.__name__} has less than {INPUTS} inputs")
    kind = family.__module__.rpartition(".")[2]
    return Task(kind, family.__name__, made.statement, made.program, made.give, tuple(inputs))


def fill(template: str, **values: object) -> str:
    """A program from its template: ``$name`` stands for a value."""
    return Template(dedent(template).strip() + "\n").substitute({name: str(value) for name, value in values.items()})


def whole(low: int, high: int) -> Callable[[Random], str]:
    """One integer on a line."""
    return lambda chance: f"{chance.randint(low, high)}\n"


def row(chance: Random, count: tuple[int, int], span: tuple[int, int]) -> str:
    """Integers on a line: how many, and from where to where."""
    return " ".join(str(chance.randint(*span)) for _ in range(chance.randint(*count)))


def rows(count: tuple[int, int], span: tuple[int, int]) -> Callable[[Random], str]:
    """An input of one line of integers."""
    return lambda chance: row(chance, count, span) + "\n"


def word(chance: Random, count: tuple[int, int], letters: str = LETTERS) -> str:
    """A word of lower-case letters: how many."""
    return "".join(chance.choice(letters) for _ in range(chance.randint(*count)))


def words(number: tuple[int, int], count: tuple[int, int], letters: str = COMMON) -> Callable[[Random], str]:
    """An input of one line of words: how many, and of how many letters."""
    return lambda chance: " ".join(word(chance, count, letters) for _ in range(chance.randint(*number))) + "\n"


def ordinal(number: int) -> str:
    """``2nd`` for 2."""
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number, 'th') }"
