from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from rl.errors import InvalidInput
from rl.openrlhf_shell import Word, commands


def texts(script: str, **given: str) -> list[list[str]]:
    return [[word.text for word in words] for words in commands(script, given)]


SCRIPTS = [
    ("run --a 1 \\\n  --b 2", ["run", "--a", "1", "--b", "2"]),
    ("run '$A # b' \"c  d\" e\\ f # g", ["run", "$A # b", "c  d", "e f"]),
    ("A=1; B='x y'\nrun $A ${B} \"$B\"", ["run", "1", "x", "y", "x y"]),
    ("export A=1\nexport B=$A\nrun $B", ["run", "1"]),
    ("A=x; A+=y; run $A", ["run", "xy"]),
    ("A=(--a 1\n  --b '2 3')\nA+=(--c)\nrun \"${A[@]}\"", ["run", "--a", "1", "--b", "2 3", "--c"]),
    ("run ${A:-fall back} ${B:-x}", ["run", "fall", "back", "x"]),
    ("run a 2>&1 | cat", ["run", "a"]),
    ('run 5$ \'a\'"b"c "\\""', ["run", "5$", "abc", '"']),
    ("run ''", ["run", ""]),
    ("E=''; run $E a", ["run", "a"]),
    (
        'A=4; B=$((256*2)); run $((A * $B + ${A})) "$((7 / 2))" $((-7 / 2)) $((-7 % 3)) $(( (1+2)*3 ))',
        ["run", "2052", "3", "-3", "-1", "9"],
    ),
]


@pytest.mark.parametrize(("script", "words"), SCRIPTS)
def test_words_are_those_that_bash_passes(script: str, words: list[str], tmp_path: Path) -> None:
    assert texts(script)[0] == words
    shell = ["bash", "--norc", "-c", "run() { printf '%s\\0' run \"$@\"; }\n" + script]
    passed = subprocess.run(shell, env={"PATH": os.defpath}, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert passed.stdout.split("\0")[:-1] == words


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("run --a 1 \\\r\n  --b 2", ["run", "--a", "1", "--b", "2"]),
        ("run a &> log", ["run", "a"]),
        ("run a > log && echo done", ["run", "a"]),
        ("run `date +%s` b", ["run", "`date +%s`", "b"]),
    ],
)
def test_redirections_are_left_out(script: str, words: list[str]) -> None:
    assert texts(script)[0] == words


def test_what_only_a_running_shell_knows_is_missing() -> None:
    script = 'D=$(dirname "$0")/x\nrun $D $HOME ${A##*/} "$@" "$(date "+%s )")"'
    assert commands(script) == [
        [
            Word("run"),
            Word('$(dirname "$0")/x', ('$(dirname "$0")',)),
            Word("$HOME", ("$HOME",)),
            Word("${A##*/}", ("${A##*/}",)),
            Word("$@", ("$@",)),
            Word('$(date "+%s )")', ('$(date "+%s )")',)),
        ]
    ]


def test_given_values_count_over_the_scripts_own() -> None:
    assert texts("A=1\nrun $A $B", A="2", B="3") == [["run", "2", "3"]]


def test_a_here_document_is_read_as_commands() -> None:
    assert texts("read -r -d '' it <<EOF\nrun --a \\\n  1\nEOF\ndeepspeed $it")[1] == ["run", "--a", "1"]


@pytest.mark.parametrize(("script", "line"), [("run 'a", 1), ('\nrun "a\nb', 2), ("run $(date", 1), ("run `date", 1)])
def test_what_is_never_closed_is_refused_with_its_line(script: str, line: int) -> None:
    with pytest.raises(InvalidInput, match=rf"line {line} = .*is never closed"):
        commands(script)
