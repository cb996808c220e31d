from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from environments import sandbox
from environments.abd import reply_with
from environments.dealing import split_of
from environments.programs import bank, build, graphs, lists, numbers, parsing, simulation, small, strings, tables
from environments.programs.bank import Collection, Solved, problem_digest, puzzles_of, solve
from environments.programs.family import INPUTS, Family, Made, Task, draw, fill, ordinal, whole
from environments.programs.judging import input_of, lines_of
from rl.errors import SandboxUnavailable
from rl.records import ScenarioRef

SPLITS = ("train", "validation", "held_out")
COLLECTIONS = [bank.programs(), bank.one_liners()]
each = pytest.mark.parametrize("collection", COLLECTIONS, ids=lambda collection: collection.name)


class Chosen(Random):
    """Gives a family the numbers that a test wants, in the order in which it asks for them."""

    def __new__(cls, *_: object) -> Chosen:
        return super().__new__(cls)

    def __init__(self, *values: object) -> None:
        super().__init__(0)
        self.values = list(values)

    def randint(self, low: int, high: int) -> int:
        value = self.values.pop(0)
        assert isinstance(value, int)
        assert low <= value <= high
        return value

    def choice(self, options: Any) -> Any:
        value = self.values.pop(0)
        assert value in options
        return value

    def random(self) -> float:
        value = self.values.pop(0)
        assert isinstance(value, float)
        return value


@pytest.mark.parametrize(
    ("family", "numbers", "said", "given", "printed"),
    [
        (numbers.digit_powers, (2, 3, 5), "to the power 2", "123\n", "47"),  # (1 + 4 + 9) * 3 + 5
        (numbers.common_parts, (2, 4), "times 2 and y be b plus 4", "3 4\n", "2 24"),  # gcd and lcm of 6 and 8
        (numbers.factored, (2, "x"), "prime factors of n + 2", "10\n", "2x2x3"),
        (numbers.written_in_base, (2, 1, 0.9), "n + 1 in base 2, most", "5\n", "110"),
        (numbers.written_in_base, (3, 1, 0.1), "n + 1 in base 3, least", "5\n", "02"),
        (numbers.up_and_down, (3, 1, 20), "multiply it by 3 and add 1", "6\n", "8 16"),  # 6 3 10 5 16 8 4 2 1
        (numbers.two_before, (1, 1, 97), "modulo 97", "1 1 7\n", "13"),
        (strings.shifted, (1, 0.9), "1 places later", "abz yo\n", "bca zp"),
        (strings.runs, (2, "-"), "at least 2 long", "aabccc\n", "a-2bc-3"),
        (strings.every_kth_word, (2, "/"), "every 2nd word", "abc def ghi\n", "abc/fed/ghi"),
        (strings.taken_in_turn, (1, 2), "Take 1 letter", "abc\nwxyz\n", "awxbyzc"),
        (strings.letter_values, (2, 997), "multiply what you have by 2", "abc\n", "11"),  # ((1 * 2) + 2) * 2 + 3
        (strings.read_by_columns, (2, 0.9), "rows of 2 letters", "abc de\n", "ace bd"),
        (lists.differences, (1, 1), "minus 1 times", "3 5 4\n", "2 -1"),
        (lists.by_rest, (3, 0.9), "divided by 3", "4 3 2 1\n", "3,1,4,2\n8"),
        (lists.best_window, (2, 0.9), "of several the first", "1 5 2 5\n", "7 1"),
        (graphs.distances, (1, -1, 1), "from node 1, or -1", "4 2\n1 2\n3 2\n", "0 1 2 -1"),
        (graphs.order_of_work, (0.9, ">"), "smallest number", "3 1\n3 1\n", "2>3>1"),
        (graphs.below_each, (1, 2), "is worth 2; any other is worth 1 more", "3\n1 1\n", "5 2 2"),
        (parsing.left_to_right, (100, 3), "a times 3 plus b", "9 + 8 * 7 @ 1\n", "58"),  # 17, 119 -> 19, 19 * 3 + 1
        (parsing.numeral_sums, (1, 0), "times 1, plus 0", "XIV XC\n", "104"),
        (simulation.counters, (2, 0), "2 counters", "5 3 4 1\n", "5 3 7 6"),
        (simulation.counted_out, (2, 1), "every 2nd letter", "abcde\n", "bdae\nc"),
        (simulation.remembered, (2, 0.9), "last use is longest ago", "abac\n", "1\nb\nac"),
        (tables.edited, (1, 1, 1), "replacing one by another costs 1", "abc\nad\n", "2\n2"),
        (tables.shared_letters, (2, "sum"), "2 times its length", "abc\nac\n", "4 7"),
        (small.times_plus, (3, 4), "3 * n + 4", "5\n", "19"),
        (small.cut, (2, 1, "x"), "without its first 2 letters, then x", "abc\n", "cx"),
    ],
)
def test_a_program_by_hand(family: Family, numbers: tuple[object, ...], said: str, given: str, printed: str) -> None:
    made = family(Chosen(*numbers))
    assert said in made.statement
    ran = sandbox.run(made.program, given)
    assert (ran.outcome, ran.stderr, lines_of(ran.stdout)) == ("ok", "", printed)


@pytest.mark.parametrize(("collection", "families", "programs"), [(COLLECTIONS[0], 40, 200), (COLLECTIONS[1], 10, 200)])
def test_the_file_has_many_different_programs(collection: Collection, families: int, programs: int) -> None:
    solved = collection.solved
    assert len({one.task.program for one in solved}) >= programs
    assert len({one.task.statement for one in solved}) == len(solved)
    assert len({one.task.family for one in solved}) >= families
    assert len({collection.kind(one.task) for one in solved}) >= 9


@each
def test_programs_tell_nothing_of_their_families(collection: Collection) -> None:
    for one in collection.solved:
        assert "#" not in re.sub(r"\"[^\"\n]*\"", "", one.task.program), one.task.family
        assert one.task.family not in one.task.program
        assert "$" not in one.task.program
        assert "$" not in one.task.statement


@each
def test_tasks_have_different_inputs_and_fair_tests(collection: Collection) -> None:
    for one in collection.solved:
        assert len(set(one.task.inputs)) == len(one.outputs) == INPUTS
        assert all(output.strip() for output in one.outputs)
        assert all(input_of(reply_with(given)) == given for given in one.task.inputs)
        told = [lines_of(output) for output in one.outputs]
        assert all(told.count(told[number]) == 1 for number in one.posed)
        assert len(one.cases) == INPUTS - 2
        assert one.cases[0].given == one.task.inputs[2]
    assert sum(one.fair for one in collection.solved) >= 0.95 * len(collection.solved)


@each
def test_some_programs_of_the_file_print_what_it_says(collection: Collection) -> None:
    for one in collection.solved[:: len(collection.solved) // 4]:
        assert solve(one.task) == one


@pytest.mark.slow
@each
def test_all_programs_of_the_file_print_what_it_says(collection: Collection) -> None:
    for one in collection.solved:
        assert solve(one.task) == one


def test_an_input_is_not_asked_for_when_another_one_does_as_well() -> None:
    inputs = ("6\n", "7\n", "1\n", "9\n", "3\n")
    task = Task("k", "f", "s", "print(max(int(input()), 3) // 2 * 2 + 1)\n", whole(1, 9), inputs)
    solved = solve(task)
    assert solved.outputs == ("7\n", "7\n", "3\n", "9\n", "3\n")
    assert solved.posed == ()  # 6 and 7, 1 and 3 are alike, and 9 leads to itself
    plus = solve(task._replace(program="print(int(input()) + 1)\n", inputs=("0\n", "1\n", "5\n")))
    assert plus.posed == (2,)  # 0 and 1 are trivial


def test_a_program_that_fails_is_no_task() -> None:
    task = Task("k", "f", "s", "print(1 // int(input()))\n", whole(0, 9), ("1\n", "0\n"))
    with pytest.raises(SandboxUnavailable, match=r"f ended by error: (.|\n)*ZeroDivisionError"):
        solve(task)


@pytest.mark.parametrize("slow", ["one of its inputs", "a trivial input", "its own output"])
def test_what_a_seed_is_does_not_depend_on_the_load(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was not decided by CPU time would be a puzzle on one machine and none on another."""
    monkeypatch.setattr(bank, "DRAWING", replace(bank.DRAWING, wall_seconds=1.0))
    read = {"one of its inputs": "5", "a trivial input": "1", "its own output": "6"}[slow]
    program = f"import time\nn = input()\nif n == {read!r}: time.sleep(60)\nprint(int(n) + 1)\n"
    task = Task("k", "f", "s", program, whole(2, 9), ("5\n", "8\n"))
    with pytest.raises(SandboxUnavailable, match="less than 1 s of CPU in 1 s: play fewer episodes at once"):
        solve(task)


def test_a_program_that_loops_on_a_trivial_input_is_a_task() -> None:
    program = "n = int(input())\nwhile n == 1: pass\nprint(n + 1)\n"
    assert solve(Task("k", "f", "s", program, whole(2, 9), ("5\n", "8\n"))).posed == (0, 1)


def test_a_family_with_too_few_inputs_is_refused() -> None:
    def family(chance: Random) -> Made:
        return Made("s", "p", whole(1, 3))

    with pytest.raises(AssertionError, match="family has less than 8 inputs"):
        draw([family], Random(0))


def test_templates_are_filled() -> None:
    assert fill("\n    print($a,\n        $b)\n", a=[1], b="x") == "print([1],\n    x)\n"
    assert [ordinal(number) for number in range(1, 6)] == ["1st", "2nd", "3rd", "4th", "5th"]


def test_a_file_is_written_as_it_is_read(tmp_path: Path) -> None:
    collection = Collection("small", (small.plus, small.ended), each=2, kind=lambda task: task.family)
    path = tmp_path / "small.json"
    assert build.write(collection, path) == 4
    kept = json.loads(path.read_text())
    tasks = collection.tasks()
    assert [bank.restored(task, kept) for task in tasks] == [solve(task) for task in tasks]
    whole_file = Path(build.__file__).with_name("small.json").read_text().split("\n")
    assert {line.rstrip(",") for line in path.read_text().split("\n")} <= {line.rstrip(",") for line in whole_file}


def test_a_file_of_other_programs_is_refused() -> None:
    with pytest.raises(KeyError):
        bank.restored(draw([small.plus], Random(0)), {})


def _drawn(collection: Collection, name: str, split: str, seed: int) -> Task:
    return next(bank.drawn(collection, ScenarioRef.model_validate({"environment": name, "split": split, "seed": seed})))


@each
def test_tasks_that_are_drawn_are_of_their_split(collection: Collection) -> None:
    hashes = {
        split: {problem_digest(_drawn(collection, "ded", split, seed)) for seed in range(10_000, 10_300)}
        for split in SPLITS
    }
    for split, found in hashes.items():
        assert {split_of(digest) for digest in found} == {split}
        assert {one.digest for one in collection.problems._by_split[split]} - found != set()
    assert not hashes["train"] & hashes["validation"]
    assert not (hashes["train"] | hashes["validation"]) & hashes["held_out"]


@each
def test_a_program_is_in_one_split_only(collection: Collection) -> None:
    puzzles = {split: collection.puzzles._by_split[split] for split in SPLITS}
    programs = {split: {one.content.solved.task.program for one in found} for split, found in puzzles.items()}
    written = {split: {one.content.task.program for one in collection.problems._by_split[split]} for split in SPLITS}
    for one, other in (("train", "validation"), ("train", "held_out"), ("validation", "held_out")):
        assert not (programs[one] | written[one]) & (programs[other] | written[other])
        assert not {p.digest for p in puzzles[one]} & {p.digest for p in puzzles[other]}
    for split in SPLITS:
        assert {split_of(one.digest) for one in puzzles[split]} == {split}


def test_puzzles_are_of_the_split_of_their_program() -> None:
    for one in COLLECTIONS[0].solved[:50]:
        split = split_of(problem_digest(one.task))
        for puzzle in puzzles_of(one):
            assert split_of(puzzle.digest) == split
            assert puzzle.output == one.outputs[puzzle.number]


def test_the_digest_of_a_puzzle_is_of_its_program_and_output() -> None:
    task = Task("k", "f", "s", "p", whole(1, 9), ("1\n", "2\n", "3\n"))
    one = Solved(task, ("x\n", "x\n", "y\n"), (0, 1, 2))
    digests = [bank.Puzzle(one, number).digest for number in range(3)]
    assert digests[0] == digests[1] != digests[2]
    other = Solved(task._replace(program="q"), one.outputs, one.posed)
    assert bank.Puzzle(other, 0).digest != digests[0]
