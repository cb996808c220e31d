from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments import sandbox
from environments.programs.bank import QUICK
from environments.programs.judging import (
    Case,
    Grade,
    fenced,
    grade,
    input_of,
    lines_of,
    passed,
    printed,
    program_of,
)
from environments.sandbox import Level, Limits, Ran
from environments.sandbox.records import Outcome

SHORT = Limits(wall_seconds=30.0, cpu_seconds=1, output_bytes=10_000)


def _ran(stdout: str, outcome: Outcome = "ok", stderr: str = "") -> Ran:
    return Ran(outcome, 0, stdout, stderr, None, Level.BUBBLEWRAP, 0.1)


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("<INPUT>5</INPUT>", "5\n"),
        ("I say <INPUT>5</INPUT>, no: <input>\n3 4  \n5\n\n</Input> indeed", "3 4\n5\n"),
        ("<INPUT></INPUT>", "\n"),
        ("<INPUT>\n\n7\n</INPUT>", "\n7\n"),
        ("<INPUT>a\r\nb\r\n</INPUT>", "a\nb\n"),
        ("<think><INPUT>5</INPUT></think>", None),
        ("<thinking>hm</thinking><INPUT> x</INPUT>", " x\n"),
        ("<INPUT>1</INPUT> <INPUT>2", "1\n"),
        ("<INPUT>1<INPUT>2</INPUT>", "2\n"),
        ("</INPUT>1<INPUT>", None),
        ("5", None),
        ("", None),
    ],
)
def test_the_input_of_a_reply(reply: str, text: str | None) -> None:
    assert input_of(reply) == text


@pytest.mark.parametrize(
    ("reply", "program"),
    [
        ("print(1)", "print(1)"),
        ("```python\nprint(1)\n```", "print(1)\n"),
        ("One:\n```python\na\n```\nor\n```Python\nb\nc\n```\nand\n```\nd\n```", "b\nc\n"),
        ("```\na\n```\n```sh\nb\n```", "b\n"),
        ("```py\na\n```", "a\n"),
        ("```python\na\nb", "a\nb\n"),
        ("```python\na\n```python\nb\n```", "b\n"),
        ("<think>```python\na\n```</think>\nprint(2)", "print(2)"),
        ("  ```python\n  a\n  ```", "  a\n"),
        ("```python\n```", "\n"),
        ("", ""),
    ],
)
def test_the_program_of_a_reply(reply: str, program: str) -> None:
    assert program_of(reply) == program


def test_a_fenced_program_is_read_back() -> None:
    assert program_of(fenced("a = 1\n\nprint(a)\n\n")) == "a = 1\n\nprint(a)\n"


@given(reply=st.text(alphabet="`<>/INPUTpython \n", max_size=200) | st.text())
def test_any_reply_can_be_read(reply: str) -> None:
    assert isinstance(program_of(reply), str)
    text = input_of(reply)
    assert text is None or text.endswith("\n")


@pytest.mark.parametrize("reply", ["<INPUT>" * 2800, "```\n" * 5000, "<think>" * 2800, "</INPUT>" * 2500])
def test_a_reply_of_many_marks_is_read_once(reply: str) -> None:
    assert input_of(reply) is None
    assert "`" not in program_of(reply)


@pytest.mark.parametrize(
    ("stdout", "wanted", "equal"),
    [
        ("5\n", "5\n", True),
        ("5", "5\n", True),
        ("  5\n\n", "5", True),
        ("a \r\nb\n", "a\nb", True),
        ("a b", "a  b", False),
        ("A", "a", False),
        ("", "5", False),
        ("5\n5\n", "5\n", False),
    ],
)
def test_what_was_printed(stdout: str, wanted: str, equal: bool) -> None:
    assert printed(_ran(stdout), wanted) is equal
    assert not printed(_ran(stdout, "error"), wanted)
    assert not printed(_ran(stdout, stderr="warning"), wanted)


@pytest.mark.parametrize(
    ("stdout", "equal"), [("1 \n2\n\n", True), ("1\n2", True), (" 1\n2", False), ("1\n\n2", False), ("x", True)]
)
def test_a_test_is_passed(stdout: str, equal: bool) -> None:
    case = Case("", ("1\n2\n", "x"))
    assert passed(_ran(stdout), case) is equal
    assert not passed(_ran(stdout, "timeout"), case)
    assert not passed(_ran(stdout, stderr="warning"), case)


def test_lines() -> None:
    assert lines_of(" a \r\n\nb\t\n\n") == " a\n\nb"


SQUARES = [Case(f"{number}\n", (f"{number**2}\n",)) for number in range(1, 5)]


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("print(int(input()) ** 2)", Grade(4, 4, "ok")),
        ("print(int(input()) * 2)", Grade(0, 4, "ok")),
        ("n = int(input())\nprint(n * n if n < 3 else 1 // 0)", Grade(2, 4, "error")),
        ("n = int(input())\nprint(n * n)\nimport sys\nprint('!', file=sys.stderr)", Grade(0, 4, "ok")),
        ("print(", Grade(0, 4, "error")),
        ("n = int(input())\nwhile n == 2: pass\nprint(n * n)", Grade(1, 4, "timeout")),
        ("n = int(input())\nprint('x' * 100_000 if n == 3 else n * n)", Grade(2, 4, "output")),
        ("n = int(input())\nprint(n * n)\nimport os\nos.kill(os.getpid(), 9)", Grade(0, 4, "killed")),
        ("bytearray(1 << 31)", Grade(0, 4, "memory")),
        ("\ud800", Grade(0, 4, "error")),
        (" \n", Grade(0, 4, "")),
    ],
)
def test_programs_are_graded(program: str, expected: Grade) -> None:
    assert grade(program, SQUARES, SHORT) == expected


def test_functions_are_called_with_their_arguments() -> None:
    cases = [
        Case("[3, 4]", ("7",), "add"),
        Case("['a', \"b'\"]", ("ab'",), "add"),
        Case("[[1], [2]]", ("[1, 2]", "1\n2"), "add"),
        Case("5\n", ("25",)),
        Case("[1]", ("1",), "missing"),
    ]
    program = "def add(a, b):\n    return a + b\n\ndef main():\n    print(int(input()) ** 2)\n"
    assert grade(program, cases, QUICK) == Grade(0, 5, "ok")  # reading comes first, and nothing calls main
    assert grade(program, [*cases[:3], cases[4]], QUICK) == Grade(3, 4, "error")
    assert grade(program, cases[:3], QUICK) == Grade(3, 3, "ok")
    assert grade(program + "main()", [cases[3]], QUICK) == Grade(1, 1, "ok")


def test_no_test_is_run_behind_one_that_is_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = _counted(monkeypatch)
    assert grade("while True: pass", SQUARES, SHORT) == Grade(0, 4, "timeout")
    assert runs == [1]


def test_what_one_answer_may_take_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that passes slowly: 40 s a test, two of which take longer than is allowed for all."""
    runs = _counted(monkeypatch, seconds=40.0)
    assert grade("print(int(input()) ** 2)", SQUARES, SHORT) == Grade(2, 4, "timeout")
    assert grade("print(int(input()) ** 2)", SQUARES[:2], SHORT) == Grade(2, 2, "ok")
    calls = [Case("[3]", ("9",), "square")]
    both = "import sys\ndef square(n): return n * n\nif not sys.argv[1:]: print(int(input()) ** 2)\n"
    assert grade(both, [*SQUARES[:2], *calls], SHORT) == Grade(2, 3, "timeout")
    assert runs == [2, 2, 2]


def _counted(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.1) -> list[int]:
    """How many runs each launch had. Each run is said to have taken so many seconds."""
    runs: list[int] = []
    real = sandbox.run_each

    def timed(done: Sequence[Ran]) -> list[Ran]:
        return [replace(ran, seconds=seconds) for ran in done]

    def counted(*arguments: Any, enough: Callable[[Sequence[Ran]], bool], **named: Any) -> list[Ran]:
        done = real(*arguments, enough=lambda ran: enough(timed(ran)), **named)
        runs.append(len(done))
        return timed(done)

    monkeypatch.setattr(sandbox, "run_each", counted)
    return runs
