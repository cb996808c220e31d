from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.loop import __main__ as command
from bench.loop import report
from bench.loop.rows import Loop, Round, Span
from rl.errors import StartError

BEGINNING = datetime(2025, 1, 15, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGINNING + timedelta(seconds=seconds)


def span(began: float, ended: float) -> Span:
    return Span(at(began), at(began), at(ended))


def a_round(number: int, **fields: Any) -> Round:
    """A window whose last turn is at 10 and whose version is playable at 30."""
    known = {"episodes": 4, "tokens": 20, "prompt_tokens": 100, "last_turn": at(10), "version": f"v{number}"}
    spans = {"collect": span(8, 11), "score": span(12, 13), "train": span(15, 25), "evaluate": span(26, 28)}
    return Round(**{"window": f"run/demo/{number:04d}", "playable_at": at(30)} | known | spans | fields)


def a_loop(*rounds: Round, **fields: Any) -> Loop:
    empty_loop = Loop("demo", rounds, at(5), (), None, None, None, None, None)
    return replace(empty_loop, **fields)


def test_percentiles_are_nearest_ranks() -> None:
    seconds = [float(number) for number in range(100, 0, -1)]
    assert report.summary(seconds) == {"n": 100, "p50": 50.0, "p95": 95.0, "max": 100.0}
    assert report.summary([3.0, 1.0, 2.0]) == {"n": 3, "p50": 2.0, "p95": 3.0, "max": 3.0}
    assert report.summary([7.0]) == {"n": 1, "p50": 7.0, "p95": 7.0, "max": 7.0}
    assert report.summary([]) == {"n": 0, "p50": None, "p95": None, "max": None}


def test_the_last_window_of_a_run_waits_for_the_release_too() -> None:
    loop = a_loop(a_round(1), a_round(2, last_turn=at(40), playable_at=at(52)), released="v1", released_at=at(71.5))
    assert report.playable_seconds(loop) == [20, 12]
    assert report.released_seconds(loop) == [31.5]
    assert report.served_seconds(loop) == [20, 31.5]


def test_without_a_release_the_last_window_is_served_when_its_version_is_playable() -> None:
    loop = a_loop(a_round(1), a_round(2, last_turn=at(40), playable_at=at(52)))
    assert report.served_seconds(loop) == [20, 12]
    assert report.released_seconds(loop) == []


def test_a_version_that_never_answered_is_missing_and_the_gate_fails() -> None:
    silent = a_loop(a_round(1, playable_at=None), a_round(2))
    unreleased = a_loop(a_round(1), a_round(2), released="v2")
    for loop in (silent, unreleased):
        outcome = report.report([loop], [], wanted=2)
        assert (outcome["window_to_served"]["n"], outcome["passed"]) == (1, False)


@pytest.mark.parametrize(("seconds", "passed"), [(90.0, True), (90.001, False)])
def test_the_gate_is_the_95th_percentile(seconds: float, passed: bool) -> None:
    slow = [a_round(number, playable_at=at(10 + seconds)) for number in (1, 2)]
    loop = a_loop(*[a_round(number) for number in range(3, 21)], *slow)
    assert report.report([loop], [], wanted=20)["passed"] is passed
    one_slow = a_loop(*[a_round(number) for number in range(2, 21)], slow[0])
    assert report.report([one_slow], [], wanted=20)["passed"]


def test_a_run_that_broke_and_a_window_that_is_missing_fail_the_gate() -> None:
    loop = a_loop(a_round(1), a_round(2))
    assert report.report([loop], [], wanted=2)["passed"]
    assert not report.report([loop], ["seed 1: no engine"], wanted=2)["passed"]
    assert not report.report([loop], [], wanted=3)["passed"]
    assert not report.report([], [], wanted=0)["passed"]


def test_stages_and_the_waits_between() -> None:
    later = a_round(
        2, collect=span(25.5, 31), score=span(31.5, 32), train=span(36, 40), evaluate=None, last_turn=at(30.5)
    )
    held_out = (span(45, 47), span(47.5, 50))
    loop = a_loop(a_round(1), later, held_out=held_out, decide=span(50.25, 50.5), released="v1", released_at=at(51.5))
    seconds = {name: (value["n"], value["p50"], value["max"]) for name, value in report.stages([loop]).items()}
    assert seconds == {
        "collect_wait": (2, 0.5, 3.0),
        "collect": (2, 3.0, 5.5),
        "score_wait": (2, 0.5, 1.0),
        "score": (2, 0.5, 1.0),
        "train_wait": (2, 2.0, 4.0),
        "train": (2, 4.0, 10.0),
        "playable_wait": (2, -10.0, 5.0),
        "evaluate_wait": (1, 1.0, 1.0),
        "evaluate": (1, 2.0, 2.0),
        "held_out_wait": (1, 17.0, 17.0),
        "held_out": (1, 5.0, 5.0),
        "decide_wait": (1, 0.25, 0.25),
        "decide": (1, 0.25, 0.25),
        "released_wait": (1, 1.0, 1.0),
    }
    assert list(seconds) == list(report.STAGES)


def test_rates_count_from_the_claim_to_the_last_turn() -> None:
    rounds = [a_round(1), a_round(2, collect=span(20, 26), last_turn=at(26), episodes=8, tokens=60, prompt_tokens=300)]
    assert report.rates(rounds) == {
        "episodes_per_second": 1.5,
        "tokens_per_second": 10.0,
        "prompt_tokens_per_second": 50.0,
    }
    assert set(report.rates([]).values()) == {None}


@pytest.mark.parametrize(("playable", "status"), [(99.0, 0), (101.0, 1)])
def test_the_exit_status_is_the_gates(
    playable: float, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def play(seeds: list[int], *_: object) -> tuple[list[Loop], list[str]]:
        return [a_loop(*[a_round(number, playable_at=at(playable)) for number in (1, 2)]) for _ in seeds], []

    monkeypatch.setattr(command.run, "play", play)
    file = tmp_path / "loop.json"
    assert command.main(["--quick", "--runs", "2", "--seed", "5", "--json", str(file)]) == status
    said = capsys.readouterr()
    assert said.out == f"{file}\n"
    assert ("passed" if status == 0 else "failed") in said.err
    assert '"seeds": [\n  5,\n  6\n ]' in file.read_text()


def test_a_fleet_that_does_not_start_is_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def play(*_: object) -> tuple[list[Loop], list[str]]:
        raise StartError("the port is taken")

    monkeypatch.setattr(command.run, "play", play)
    assert command.main(["--quick"]) == 1
    assert "the port is taken" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--runs", "0"], ["--seed", "-1"], ["--seed", "998", "--runs", "3"]])
def test_runs_and_seeds_that_are_not_there_are_a_usage_error(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == 2


def test_the_table_leaves_out_what_there_is_none_of(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = report.report([a_loop(a_round(1))], [], wanted=1) | {"seeds": [0]}
    command.show(outcome, Console(stderr=True, width=100))
    rows = [[cell.strip() for cell in row.split("│")[1:-1]] for row in capsys.readouterr().err.splitlines()]
    assert ["window to served", "1", "20.00", "20.00", "20.00"] in rows
    assert ["window to released", "0", "", "", ""] in rows
