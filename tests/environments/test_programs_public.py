from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from environments import settings
from environments.abd import AbdPublic
from environments.ded import DedPublic
from environments.programs import public
from environments.programs.judging import Case
from environments.programs.public import Rows, case_of, literal, text_of
from rl.errors import InvalidInput, InvalidRow, MissingDependency
from rl.records import ScenarioRef

SPLITS = ("train", "validation", "held_out")


def _tests(*tests: dict[str, Any]) -> str:
    return json.dumps({"language": "python", "test_cases": list(tests)})


def _io(given: Any, output: Any) -> dict[str, Any]:
    return {"type": "stdin_stdout", "input": given, "output": output, "fn_name": None}


def _row(number: int, **changes: Any) -> dict[str, Any]:
    row = {
        "program": f"print(int(input()) + {number})",
        "inputs": "5\n",
        "output": f"{5 + number}\n",
        "prompt": f"Read n. Print n + {number}.",
        "verification_info": _tests(_io("1\n", f"{1 + number}\n"), _io(["2"], [str(2 + number)])),
    }
    return {**row, **changes}


CALL = {"type": "function_call", "input": [[1, 2], 3], "output": [6], "fn_name": "total"}
ROWS = [
    *(_row(number) for number in range(8)),
    _row(0),  # the same again
    _row(10, verification_info=repr({"test_cases": [_io("1\n", "11\n")]})),  # a Python literal
    _row(11, verification_info=None, test_cases=[_io("1\n", "12\n"), {"type": "picture"}]),
    _row(12, verification_info=_tests(CALL), program="def total(a, b):\n    return sum(a) + b\n", output="x"),
    _row(13, verification_info=_tests()),
    _row(14, verification_info=_tests({"type": "picture", "input": "", "output": ""})),
    _row(15, verification_info="{broken"),
    _row(16, verification_info=_tests({**CALL, "fn_name": None})),
    _row(17, prompt=""),
    _row(18, program=None),
    _row(19, output=""),
    _row(20, verification_info=7),
    _row(21, verification_info=_tests({"type": "stdin_stdout", "input": "1\n"}), output=""),
    _row(22, verification_info=_tests(_io("1\n", "23\n"), _io("2\n", None)), output=""),
    _row(23, verification_info=_tests({**CALL, "output": None}), output=""),
    _row(24, verification_info=_tests(_io("1\n", ""), _io("2\n", " \n"), _io("3\n", [])), output=""),
    _row(25, verification_info=_tests(_io("1\n", ""), _io("2\n", "27\n"))),
]


@pytest.fixture(params=["jsonl", "parquet"])
def file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / f"programs.{request.param}"
    if request.param == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "{broken\n[1]\n\n")
    else:
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        rows = [{k: v if v is None else text_of(v) if k != "test_cases" else v for k, v in row.items()} for row in ROWS]
        parquet.write_table(arrow.Table.from_pylist([{"test_cases": None, **row} for row in rows]), path)
    monkeypatch.setenv("RLFLEET_PROGRAMS_DATA", str(path))
    settings.settings.cache_clear()
    yield path
    settings.settings.cache_clear()


def _refs(environment: AbdPublic | DedPublic) -> list[ScenarioRef]:
    return [
        ScenarioRef.model_validate({"environment": environment.name, "split": split, "seed": seed})
        for split in SPLITS
        for seed in range(environment.scenarios(split) or 0)
    ]


def test_rows_that_cannot_be_used_are_counted(file: Path) -> None:
    rows = Rows(file)
    assert sum(rows.problems.size(split) for split in SPLITS) == 13
    assert sum(rows.puzzles.size(split) for split in SPLITS) == 18
    lines = {"line is not JSON": 1, "line is not an object": 1} if file.suffix == ".jsonl" else {}
    assert rows.left_out == lines | {
        "ded: verification_info has no test of a known type": 2,
        "ded: verification_info is neither JSON nor a Python literal, or is too long": 1,
        "ded: verification_info names no function": 1,
        "ded: verification_info has a test without an output": 3,
        "ded: verification_info has no test that asks for output": 1,
        "ded: verification_info has no list of tests": 1,
        "ded: prompt must be text, not empty and not very long": 1,
        "ded: program must be text, not empty and not very long": 1,
        "abd: program must be text, not empty and not very long": 1,
        "abd: output must be text, not empty and not very long": 5,
    }


def test_programs_are_written_for_the_rows_prompts(file: Path) -> None:
    environment = DedPublic()
    refs = _refs(environment)
    assert len(refs) == 13
    episodes = [environment.open(ref) for ref in refs]
    assert len({episode.content_hash for episode in episodes}) == 13
    prompts = {episode.messages[1].content for episode in episodes}
    assert prompts == {f"Read n. Print n + {number}." for number in [*range(8), 10, 11, 12, 19, 25]}
    solved = {e.messages[1].content: e.step(e.oracle()).reward for e in episodes}
    assert {prompt for prompt, reward in solved.items() if reward != 1.0} == {"Read n. Print n + 25."}
    assert {environment.open(ref).step(environment.open(ref).guess(Random(1))).done for ref in refs[:3]} == {True}


def test_inputs_are_found_for_the_rows_programs(file: Path) -> None:
    environment = AbdPublic()
    refs = _refs(environment)
    assert len(refs) == 18
    for ref in refs[:6]:
        episode = environment.open(ref)
        assert episode.messages == environment.open(ref).messages
        assert episode.type == "public"
        assert episode.guess(Random(1)).startswith("<INPUT>")
        if "total" not in (episode.messages[1].content or ""):
            assert episode.step(episode.oracle()).reward == 1.0


def test_what_is_asked_for_is_what_the_program_prints() -> None:
    assert public.output_of(public.Puzzle("print(int(input()) + 1)", "4\n", "7\n")) == "5\n"
    assert public.output_of(public.Puzzle("print(int(input()) + 1)", "x\n", "7\n")) == "7\n"  # it does not end well


def test_a_test_of_each_kind() -> None:
    assert list(case_of(_io("1\n2", "3"), "c")) == [Case("1\n2", ("3",))]
    assert list(case_of(_io([["1", "2"], "3"], ["4", ["5"]]), "c")) == [Case("1\n2\n3", ("4\n5",))]
    assert list(case_of(CALL, "c")) == [Case("[[1, 2], 3]", ("[6]", "6"), "total")]
    assert list(case_of({**CALL, "input": "[1, 2]\n'x'\n"}, "c")) == [Case("[[1, 2], 'x']", ("[6]", "6"), "total")]
    assert list(case_of({**CALL, "output": True}, "c")) == [Case("[[1, 2], 3]", ("True",), "total")]
    assert list(case_of({"type": "picture"}, "c")) == []
    assert list(case_of("text", "c")) == []
    with pytest.raises(InvalidRow, match="no list of arguments"):
        list(case_of({**CALL, "input": 7}, "c"))


@pytest.mark.parametrize(
    "text", ["", "{", "__import__('os')", "[" * 100_000, "9" * 5000, "[1, 2", "x" * 2_000_000, "\x00"]
)
def test_text_that_is_no_literal_is_refused(text: str) -> None:
    with pytest.raises(InvalidRow, match="neither JSON nor a Python literal"):
        literal(text, "verification_info")


def test_a_seed_that_is_not_there_is_refused(file: Path) -> None:
    for environment in (AbdPublic(), DedPublic()):
        ref = ScenarioRef(environment=environment.name, split="train", seed=environment.scenarios("train") or 0)
        with pytest.raises(InvalidInput, match="scenarios of this split"):
            environment.open(ref)
        with pytest.raises(InvalidInput, match=r"environments\.load"):
            environment.open(ref.model_copy(update={"environment": "sat"}))


@pytest.mark.parametrize("environment", [AbdPublic(), DedPublic()], ids=lambda environment: environment.name)
def test_without_a_file_it_says_what_to_do(
    environment: AbdPublic | DedPublic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RLFLEET_PROGRAMS_DATA", raising=False)
    settings.settings.cache_clear()
    with pytest.raises(MissingDependency, match="set RLFLEET_PROGRAMS_DATA to its file"):
        environment.scenarios("train")
    monkeypatch.setenv("RLFLEET_PROGRAMS_DATA", str(tmp_path / "none.jsonl"))
    settings.settings.cache_clear()
    with pytest.raises(MissingDependency, match=r"none\.jsonl is missing"):
        environment.open(ScenarioRef(environment=environment.name, split="train", seed=0))
    settings.settings.cache_clear()


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "a.parquet").write_bytes(b"PAR?")
    for name in ("a.jsonl", "a.parquet"):
        with pytest.raises(InvalidInput, match="RLFLEET_PROGRAMS_DATA"):
            Rows(tmp_path / name)
