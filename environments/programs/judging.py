"""What a reply holds, an input or a program, and whether what a program printed is what was asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from environments import sandbox
from environments.episode import spoken
from environments.sandbox import Limits, Ran

TAG = re.compile(r"<(/?)input>", re.IGNORECASE | re.ASCII)
FENCE = "```"
PYTHON = frozenset(("python", "python3", "py"))

DRIVER = """

if __name__ == "__main__":
    import ast as _ast
    import sys as _sys
    _name, _given = _sys.stdin.read().split("\\n", 1)
    print(globals()[_name](*_ast.literal_eval(_given)))
"""
"""What calls a function of the program before it: its name and, on the next line, its arguments come as input."""


class Case(NamedTuple):
    """A hidden test: what is read, and what may be printed. ``function`` is called with it where there is one.

    The arguments of a function are a Python literal of a list.
    """

    given: str
    accepted: tuple[str, ...]
    function: str = ""


ANSWER_SECONDS = 60.0
"""For all tests of one program: one that sleeps through each of many tests would hold a worker up for long."""


class Grade(NamedTuple):
    """How many tests a program passed until the first that it did not, and how that one ended, or ``ok``."""

    passed: int
    total: int
    ended_by: str


def input_of(reply: str) -> str | None:
    """The last ``<INPUT>`` block outside of thoughts, with its lines' ends tidied; None where there is none."""
    said = spoken(reply)
    start, found = None, None
    for tag in TAG.finditer(said):
        if not tag[1]:
            start = tag.end()
        elif start is not None:
            found, start = said[start : tag.start()], None
    if found is None:
        return None
    lines = [line.rstrip() for line in found.replace("\r\n", "\n").split("\n")]
    if len(lines) > 1 and not lines[0]:
        del lines[0]  # what follows the tag on its own line
    return "\n".join(lines).rstrip("\n") + "\n"


def program_of(reply: str) -> str:
    """The last fenced block of Python outside of thoughts, else the last fenced block, else all that is spoken.

    A fence that is not closed runs to the end.
    """
    said = spoken(reply)
    blocks: list[tuple[str, list[str]]] = []
    inside = False
    for line in said.split("\n"):
        mark = line.strip()
        if mark.startswith(FENCE) and not (inside and mark == FENCE):
            blocks.append((mark[3:].strip().lower(), []))
            inside = True
        elif mark == FENCE:
            inside = False
        elif inside:
            blocks[-1][1].append(line)
    if not blocks:
        return said
    *_, chosen = [blocks[-1], *(block for block in blocks if block[0] in PYTHON)]
    return "\n".join(chosen[1]) + "\n"


def fenced(program: str) -> str:
    """The reply that is this program."""
    return f"{FENCE}python\n{program.rstrip()}\n{FENCE}"


def lines_of(text: str) -> str:
    """The text with nothing at the ends of its lines, nor empty lines at its own."""
    return "\n".join(line.rstrip() for line in text.replace("\r\n", "\n").split("\n")).rstrip()


def printed(ran: Ran, wanted: str) -> bool:
    """Whether a program ended well and printed ``wanted``: exactly, but for white space at both ends or of lines."""
    if ran.outcome != "ok" or ran.stderr:
        return False
    return ran.stdout == wanted or lines_of(ran.stdout).strip() == lines_of(wanted).strip()


def passed(ran: Ran, case: Case) -> bool:
    """Whether a program ended well and printed what the case asks for, but for white space at the ends of lines."""
    return ran.outcome == "ok" and not ran.stderr and lines_of(ran.stdout) in map(lines_of, case.accepted)


def grade(program: str, cases: Sequence[Case], limits: Limits) -> Grade:
    """Run a program on its cases until one is not passed: those that read in one launch, those that call in another.

    When ``ANSWER_SECONDS`` are over, no further case is begun: the program has ended by ``timeout``.

    Raises:
        SandboxUnavailable: programs cannot be run as safely as is required here.
    """
    if not program.strip():
        return Grade(0, len(cases), "")
    in_order = sorted(cases, key=lambda case: bool(case.function))
    done: list[Ran] = []
    for calls in (False, True):
        chosen = [case for case in in_order if bool(case.function) is calls]
        if chosen and not _end(done, in_order):
            text = program + DRIVER if calls else program
            inputs = [f"{case.function}\n{case.given}" if calls else case.given for case in chosen]
            enough = partial(_is_decided, tuple(done), in_order)
            done += sandbox.run_each(text, inputs, limits=limits, enough=enough)
    right = sum(passed(ran, case) for ran, case in zip(done, in_order, strict=False))
    return Grade(right, len(cases), _end(done, in_order) or "ok")


def _is_decided(before: Sequence[Ran], cases: Sequence[Case], runs: Sequence[Ran]) -> bool:
    return bool(_end([*before, *runs], cases))


def _end(runs: Sequence[Ran], cases: Sequence[Case]) -> str:
    """How the last run ended, where that settles what the program is worth; empty where it does not."""
    if not runs:
        return ""
    if not passed(runs[-1], cases[len(runs) - 1]):
        return runs[-1].outcome
    out_of_time = len(runs) < len(cases) and sum(ran.seconds for ran in runs) > ANSWER_SECONDS
    return "timeout" if out_of_time else ""
