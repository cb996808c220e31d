"""Tasks with what their programs print: some hundreds are kept in a file, any number more are drawn and run.

What a program prints is always found out by running it in the sandbox, never by other means. The first scenarios of a
split come from the file; a later one runs its program when it is opened, and the last thousand of those are remembered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from itertools import count
from random import Random
from typing import Any, NamedTuple

from environments import sandbox
from environments.dealing import Bank, Dealt, digest_of, split_of
from environments.programs import (
    graphs,
    grids,
    intervals,
    lists,
    numbers,
    parsing,
    simulation,
    small,
    strings,
    tables,
)
from environments.programs.family import EXAMPLES, Family, Task, draw
from environments.programs.judging import Case, lines_of
from environments.sandbox import Limits
from rl.errors import SandboxUnavailable
from rl.records import ScenarioRef

QUICK = Limits(wall_seconds=5.0, cpu_seconds=1, output_bytes=100_000)
"""The programs of the bank take milliseconds."""

DRAWING = replace(QUICK, wall_seconds=60.0)
"""For what decides which scenario a seed is: CPU time, which does not depend on who else uses the machine."""

TRIVIAL = ("", "0\n", "1\n", "a\n")
"""Inputs that nobody has to think about."""

LEAST_OUTPUTS = 3
"""How many different outputs the hidden tests of a task have at least."""


class Solved(NamedTuple):
    """A task with what its program prints for each input, and which of the inputs may be asked for."""

    task: Task
    outputs: tuple[str, ...]
    posed: tuple[int, ...]

    @property
    def cases(self) -> list[Case]:
        """The hidden tests."""
        pairs = zip(self.task.inputs, self.outputs, strict=True)
        return [Case(given, (output,)) for given, output in list(pairs)[EXAMPLES:]]

    @property
    def fair(self) -> bool:
        """Whether its tests tell programs apart."""
        return len({lines_of(output) for output in self.outputs[EXAMPLES:]}) >= LEAST_OUTPUTS


class Puzzle(NamedTuple):
    """A program, and which of its outputs is asked for."""

    solved: Solved
    number: int

    @property
    def output(self) -> str:
        return self.solved.outputs[self.number]

    @property
    def digest(self) -> str:
        """Of the program and the output: the same from another input is the same puzzle."""
        return digest_of([self.solved.task.program, self.output])


class Collection:
    """Families, and the file that holds what some hundreds of their programs print."""

    def __init__(self, name: str, families: tuple[Family, ...], each: int, kind: Callable[[Task], str]) -> None:
        """``each`` is how many tasks of a family the file holds, less those that were drawn before."""
        self.name, self.families, self.each, self.kind = name, families, each, kind

    def tasks(self) -> list[Task]:
        """The tasks of the file, all different."""
        found: dict[str, Task] = {}
        for family in self.families:
            for number in range(self.each):
                task = draw([family], Random(f"{self.name}/{family.__name__}/{number}"))
                found.setdefault(task.statement, task)
        return list(found.values())

    @cached_property
    def solved(self) -> list[Solved]:
        """The tasks of the file with what it says of them."""
        kept = json.loads(files("environments.programs").joinpath(f"{self.name}.json").read_text(encoding="utf-8"))
        return [restored(task, kept) for task in self.tasks()]

    @cached_property
    def problems(self) -> Bank[Solved]:
        """Programs to write."""
        return Bank({problem_digest(one.task): one for one in self.solved if one.fair})

    @cached_property
    def puzzles(self) -> Bank[Puzzle]:
        """Inputs to find; a program is in the same split as the problem to write it."""
        return Bank({puzzle.digest: puzzle for one in self.solved for puzzle in puzzles_of(one)})


def problem_digest(task: Task) -> str:
    """Of what is asked for, in words."""
    return digest_of([task.statement])


def task_digest(task: Task) -> str:
    """Of all that decides what a program of the file prints."""
    return digest_of([task.statement, task.program, task.inputs])


def puzzles_of(solved: Solved) -> Iterator[Puzzle]:
    """The puzzles of a program that belong to its own split."""
    split = split_of(problem_digest(solved.task))
    puzzles = (Puzzle(solved, number) for number in solved.posed)
    return (puzzle for puzzle in puzzles if split_of(puzzle.digest) == split)


def kept(solved: Solved) -> dict[str, Any]:
    """What the file holds of a task."""
    return {"outputs": solved.outputs, "posed": solved.posed}


def restored(task: Task, kept: dict[str, Any]) -> Solved:
    """A task with what the file says of it.

    Raises:
        KeyError: the file is of other tasks; ``python -m environments.programs.build`` makes it anew.
    """
    found = kept[task_digest(task)]
    return Solved(task, tuple(found["outputs"]), tuple(found["posed"]))


def solve(task: Task) -> Solved:
    """Run the program on its inputs, on trivial ones, and on what it printed itself.

    An input may be asked for if only it, of all these, leads to its output.

    Raises:
        SandboxUnavailable: a program that ends does not end well here, or wall time decides how one ends.
    """
    runs = _drawn_runs(task, [*task.inputs, *TRIVIAL])
    own, trivial = runs[: len(task.inputs)], runs[len(task.inputs) :]
    for ran in own:
        if ran.outcome != "ok" or ran.stderr:
            raise SandboxUnavailable(f"a program of {task.family} ended by {ran.outcome}: {ran.stderr[-300:]}")
    outputs = tuple(ran.stdout for ran in own)
    echoed = _drawn_runs(task, outputs)
    told = [lines_of(output) for output in outputs]
    shared = {lines_of(ran.stdout) for ran in trivial}
    posed = [
        number
        for number, text in enumerate(told)
        if text and text not in shared and told.count(text) == 1 and lines_of(echoed[number].stdout) != text
    ]
    return Solved(task, outputs, tuple(posed))


def _drawn_runs(task: Task, inputs: Sequence[str]) -> list[sandbox.Ran]:
    """The program on each input."""
    runs = sandbox.run_each(task.program, inputs, limits=DRAWING)
    if any(ran.outcome == "timeout" and ran.seconds >= DRAWING.wall_seconds for ran in runs):
        raise SandboxUnavailable(
            f"a program of {task.family} got less than {DRAWING.cpu_seconds} s of CPU in {DRAWING.wall_seconds:.0f} s: "
            "play fewer episodes at once on this machine"
        )
    return runs


def problem(collection: Collection, ref: ScenarioRef) -> Dealt[Solved]:
    """The program to write that ``ref`` names.

    Raises:
        SandboxUnavailable: it is not in the file, and programs cannot be run here.
    """
    return (
        collection.problems.deal(ref) if ref.seed < collection.problems.size(ref.split) else _problem(collection, ref)
    )


def puzzle(collection: Collection, ref: ScenarioRef) -> Dealt[Puzzle]:
    """The input to find that ``ref`` names.

    Raises:
        SandboxUnavailable: as ``problem``.
    """
    return collection.puzzles.deal(ref) if ref.seed < collection.puzzles.size(ref.split) else _puzzle(collection, ref)


def drawn(collection: Collection, ref: ScenarioRef) -> Iterator[Task]:
    """Tasks of the split of ``ref``, without end."""
    for attempt in count():
        task = draw(collection.families, Random(f"{ref.id}/{attempt}"))
        if split_of(problem_digest(task)) == ref.split:
            yield task


@lru_cache(maxsize=1000)
def _problem(collection: Collection, ref: ScenarioRef) -> Dealt[Solved]:
    found = next(one for one in map(solve, drawn(collection, ref)) if one.fair)
    return Dealt(found, problem_digest(found.task))


@lru_cache(maxsize=1000)
def _puzzle(collection: Collection, ref: ScenarioRef) -> Dealt[Puzzle]:
    found = next(one for task in drawn(collection, ref) for one in puzzles_of(solve(task)))
    return Dealt(found, found.digest)


@cache
def programs() -> Collection:
    """Programs of three to twenty-five lines."""
    modules = (numbers, strings, lists, grids, graphs, parsing, simulation, tables, intervals)
    families = tuple(family for module in modules for family in module.FAMILIES)
    return Collection("bank", families, each=6, kind=lambda task: task.kind)


@cache
def one_liners() -> Collection:
    """Programs of one line."""
    return Collection("small", small.FAMILIES, each=40, kind=lambda task: task.family)
