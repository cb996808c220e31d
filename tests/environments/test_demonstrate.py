from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

import environments
from environments.demonstrate import PART, Order, demonstrate, main, write_all
from rl.errors import InvalidInput, RlfleetError
from rl.records import Trajectory
from rl.windows import parse
from sources.jsonl import connect

HOUR = datetime(2025, 1, 15, 10, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
WINDOW = parse("2025-01-15T10:00")


def _order(environment: str = "sat-small", count: int = 3 * PART, first_seed: int = 0) -> Order:
    return Order(environment, first_seed, count, "mine", HOUR)


def _written(order: Order, out: Path, processes: int = 1) -> list[int]:
    return list(write_all(order, out, processes))


def test_the_source_reads_back_what_the_oracle_did(tmp_path: Path) -> None:
    order, out = _order("textcraft-small", 60, first_seed=7), tmp_path / "log.jsonl"
    seen = _written(order, out)
    assert (seen[0], seen[-1]) == (0, 60)
    assert seen == sorted(seen)
    rows = list(connect(f"jsonl://{out}").read(WINDOW))
    assert rows == [demonstrate(order, place) for place in range(60)]
    trajectories = [row for row in rows if isinstance(row, Trajectory)]
    assert [one.scenario_id for one in trajectories] == [f"textcraft-small/train/{seed}" for seed in range(7, 67)]
    assert {one.reward for one in trajectories} == {1.0}
    assert all(one.calls[0].model == "oracle" and not one.calls[0].has_tokens for one in trajectories)
    assert len({call.call_id for one in trajectories for call in one.calls}) == sum(len(o.calls) for o in trajectories)
    assert list(tmp_path.iterdir()) == [out]


def test_what_the_oracle_earns_is_kept_though_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from environments.sat import SatEpisode

    monkeypatch.setattr(SatEpisode, "oracle", lambda self: "x1=0")
    assert {demonstrate(_order(), place).reward for place in range(20)} <= {0.0, 1.0}
    assert any(demonstrate(_order(), place).reward == 0.0 for place in range(20))


def test_the_same_order_gives_the_same_bytes_however_many_play(tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    _written(_order(), one)
    _written(_order(), two, processes=2)
    assert one.read_bytes() == two.read_bytes()


HALF = """
import sys, time
from environments import demonstrate

work, counted = demonstrate._work, demonstrate._counted

def half(order, parts, places, done):
    work(order, parts, places[: len(places) // 2], done)
    demonstrate._counted = slowly
    work(order, parts, places[len(places) // 2 :], done)

def slowly(order, place, done):
    time.sleep(1)
    return counted(order, place, done)

if __name__ == "__main__":
    demonstrate._work = half
    demonstrate.main(sys.argv[1:])
"""
"""The command, but for the second half of the parts, each of which takes a minute."""


def test_what_was_killed_goes_on_with_the_parts_that_are_there(tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    order = _order("textcraft-small", 20 * PART)
    words = ["--environment", order.environment, "--scenarios", str(order.count), "--prefix", order.prefix]
    (script := tmp_path / "half.py").write_text(HALF)
    argv = [sys.executable, str(script), *words, "--hour", "2025-01-15T10:00", "--out", str(out), "--processes", "2"]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if int(line.split("/")[0]) > 3 * PART:
                break
        workers = psutil.Process(killed.pid).children(recursive=True)
        os.kill(killed.pid, signal.SIGKILL)
    assert psutil.wait_procs(workers, timeout=120)[1] == []
    assert not out.exists()
    parts = sorted(tmp_path.glob("out.jsonl.*.parts/*.jsonl"))
    assert 0 < len(parts) < 20
    before = {part: part.stat().st_mtime_ns for part in parts}

    going_on = write_all(order, out, 1)
    assert next(going_on) == PART * len(parts)
    assert {part: part.stat().st_mtime_ns for part in parts} == before
    assert list(going_on)[-1] == order.count
    _written(order, whole)
    assert out.read_bytes() == whole.read_bytes()


def test_parts_of_another_order_are_not_taken(tmp_path: Path) -> None:
    out = tmp_path / "log.jsonl"
    begun = write_all(_order(count=2 * PART), out, 1)
    assert next(begun) == 0
    begun.close()
    (left,) = tmp_path.glob("log.jsonl.*.parts")
    (left / "00000000.jsonl").write_text("of another\n")
    _written(_order(count=2 * PART, first_seed=1000), out)
    rows = list(connect(f"jsonl://{out}").read(WINDOW))
    assert rows == [demonstrate(_order(count=2 * PART, first_seed=1000), place) for place in range(2 * PART)]
    assert next(write_all(_order(count=2 * PART), out, 1)) == PART


def test_an_episode_of_a_mix_has_the_functions_of_its_own_environment() -> None:
    order = _order("trading-tools+webshop-tools+sat-small", count=6)
    offered: dict[str, set[str]] = {}
    for place in range(order.count):
        episode = demonstrate(order, place)
        names = {tool["function"]["name"] for call in episode.calls for tool in call.tools or []}
        offered.setdefault(str(episode.metadata["type"]).partition(":")[0], set()).update(names)
    tools = {name: {one["function"]["name"] for one in environments.load(name).tools} for name in offered}
    assert offered == tools
    assert len({frozenset(names) for names in offered.values()}) == 3


def test_more_than_a_finite_split_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"demonstrations\.scenarios = 400: sciworld has 390 train scenarios"):
        _written(_order("sciworld", 400), tmp_path / "log.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_fails_ends_all(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLFLEET_SANDBOX", "none")
    with pytest.raises(RlfleetError, match="a process that plays ded-small ended with 2"):
        _written(_order("ded-small", 2 * PART), tmp_path / "log.jsonl", processes=2)
    assert "environments.demonstrate: RLFLEET_SANDBOX = 'none'" in capfd.readouterr().err
    assert not (tmp_path / "log.jsonl").exists()


def test_wrong_input_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--environment", "chess", "--scenarios", "5", "--prefix", "x", "--hour", "2025-01-15T10:00"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--out", str(tmp_path / "log.jsonl")])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("environments.demonstrate: environment = 'chess'")
