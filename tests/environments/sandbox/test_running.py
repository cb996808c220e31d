from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from environments import sandbox
from environments.sandbox.commands import Site
from environments.sandbox.records import Limits, Ran
from environments.sandbox.running import run_at, run_each_at
from rl.errors import InvalidInput

RESULT = "import os\nos.write(int(os.environ['RESULT_FD']), {!r})"


def test_a_program_reads_its_input_and_says_three_things(site: Site) -> None:
    program = f"import sys\nprint(input()[::-1])\nprint('so', file=sys.stderr)\n{RESULT.format(b'{}')}"
    ran = run_at(site, program, "héllo\n")
    assert (ran.outcome, ran.status, ran.stdout, ran.stderr, ran.result) == ("ok", 0, "olléh\n", "so\n", "{}")
    assert ran.level is site.level
    assert 0 < ran.seconds < 60


def test_a_result_that_was_not_written_is_none(site: Site) -> None:
    assert run_at(site, "").result is None


@pytest.mark.parametrize(
    ("program", "outcome", "status", "says"),
    [
        ("raise SystemExit", "ok", 0, ""),
        ("raise SystemExit(3)", "error", 3, ""),
        ("raise SystemExit('no')", "error", 1, "no\n"),
        ("raise SystemExit(-2)", "error", 254, ""),
        ("raise SystemExit(2**32)", "ok", 0, ""),
        ("raise SystemExit(2**70)", "error", 255, ""),
        ("1/0", "error", 1, '  File "program.py", line 1, in <module>\nZeroDivisionError: division by zero\n'),
        ("print(", "error", 1, "SyntaxError: '(' was never closed\n"),
        ("import os; os.abort()", "killed", -6, ""),
        ("import os; os._exit(7)", "error", 7, ""),
        ("raise MemoryError", "memory", 1, "MemoryError\n"),
        ("import json, math, re, random, collections, itertools, heapq, dataclasses", "ok", 0, ""),
        ("import threading; threading.Thread(target=print).start()", "ok", 0, ""),
        ("import atexit; atexit.register(print)", "ok", 0, ""),
        ("x = 'a\0b'", "error", 1, ""),
        ("x = '\ud800'", "error", 1, ""),
    ],
)
def test_how_it_ended_is_told(held: Site, program: str, outcome: str, status: int, says: str) -> None:
    ran = run_at(held, program)
    assert (ran.outcome, ran.status) == (outcome, status)
    assert ran.stderr.endswith(says)
    assert "launcher" not in ran.stderr


def test_each_input_has_a_run_of_its_own(site: Site) -> None:
    program = (
        "n = int(input())\nif n == 3: raise SystemExit(n)\nif n == 5: import os; os.kill(os.getpid(), 9)\nprint(n * n)"
    )
    runs = run_each_at(site, program, [str(n) for n in range(8)])
    assert [run.outcome for run in runs] == ["ok", "ok", "ok", "error", "ok", "killed", "ok", "ok"]
    assert [run.stdout for run in runs] == ["0\n", "1\n", "4\n", "", "16\n", "", "36\n", "49\n"]


def test_no_more_is_run_than_is_enough(site: Site) -> None:
    asked: list[int] = []

    def enough(runs: Sequence[Ran]) -> bool:
        asked.append(len(runs))
        return runs[-1].stdout == "4\n"

    runs = run_each_at(site, "print(int(input()) ** 2)", [str(n) for n in range(8)], enough=enough)
    assert ([run.stdout for run in runs], asked) == (["0\n", "1\n", "4\n"], [1, 2, 3])


def test_no_input_takes_no_launch(site: Site) -> None:
    assert run_each_at(site, "print(1)", []) == []


def test_what_one_run_leaves_no_other_finds(held: Site) -> None:
    program = "import os\nprint(os.listdir('/tmp'), os.listdir('.'))\nopen('/tmp/a', 'w'); os.mkdir('b')"
    assert {run.stdout for run in run_each_at(held, program, ["", "", ""])} == {"['.stdin'] []\n"}


def test_two_launches_print_a_set_in_the_same_order(site: Site) -> None:
    program = "print({str(n) for n in range(100)})"
    assert run_at(site, program).stdout == run_at(site, program).stdout


def test_the_environment_is_what_it_should_be(held: Site) -> None:
    program = """
import os, sys
print(sys.argv, os.getcwd(), os.getuid(), __name__, sorted(os.environ))
print(open('/dev/stdin').read())
"""
    names = ["HOME", "LANG", "PATH", "PYTHONHASHSEED", "RESULT_FD", "TMPDIR"]
    assert run_at(held, program, "in").stdout == f"['program.py'] /work 65534 __main__ {names}\nin\n"


def test_no_installed_package_can_be_read(held: Site) -> None:
    program = """
import os, sys
print([folder for folder, _, files in os.walk('/') if folder.endswith('-packages') and files])
print([path for path in sys.path if 'packages' in path or not path])
"""
    assert run_at(held, program).stdout == "[]\n[]\n"


def test_many_threads_run_programs_at_once(site: Site) -> None:
    before = set(threading.enumerate())
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda n: run_at(site, "print(int(input()) + 1)", str(n)), range(24)))
    assert [run.stdout for run in runs] == [f"{n + 1}\n" for n in range(24)]
    assert set(threading.enumerate()) <= before


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=st.text(max_size=60), stdin=st.text(max_size=60))
def test_any_text_is_a_program_that_runs_or_does_not(held: Site, program: str, stdin: str) -> None:
    assert run_at(held, program, stdin).outcome in {"ok", "error"}


@pytest.mark.parametrize("name", ["program", "stdin"])
def test_a_text_that_does_not_fit_is_refused(site: Site, name: str) -> None:
    texts = {"program": "", "stdin": "", name: "#" * 101}
    with pytest.raises(InvalidInput, match=f"{name} = '101 bytes': at most 100 bytes fit"):
        run_at(site, texts["program"], texts["stdin"], limits=Limits(file_bytes=100))


@pytest.mark.parametrize("name", ["wall_seconds", "cpu_seconds", "memory_bytes", "output_bytes", "file_bytes"])
def test_a_limit_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=name):
        Limits(**{name: 0})


def test_the_strongest_level_is_used() -> None:
    ran = sandbox.run("print(6 * 7)")
    assert (ran.stdout, ran.level) == ("42\n", sandbox.level())
    assert [run.stdout for run in sandbox.run_each("print(input())", ["a", "b"])] == ["a\n", "b\n"]
