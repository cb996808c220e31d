from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import sandbox


def test_a_row_holds_ratios_to_the_bare_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = iter([0, 9, 0, 9, 0, 0.010, 0, 0.030, 0, 0.020, 0, 0.024])
    cpu = iter([0, 9, 0, 9, 0, 0.008, 0, 0.016, 0, 0.008, 0, 0.016])
    monkeypatch.setattr("time.perf_counter", lambda: next(wall))
    monkeypatch.setattr(sandbox, "_cpu", lambda: next(cpu))
    rows = sandbox.measured({sandbox.BARE: lambda: ["9\n"], "held": lambda: ["9\n"]}, rounds=2)
    assert rows["held"]["least_ms"] == pytest.approx(24)
    assert (rows["held"]["ratio"], rows["held"]["median_ratio"], rows["held"]["least_ratio"]) == (2.0, 1.8, 2.4)
    assert rows[sandbox.BARE]["ratio"] == 1


@pytest.mark.parametrize(("most", "status"), [(0.1, 1), (1000, 0)])
def test_the_exit_status_says_whether_the_bound_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, most: float, status: int
) -> None:
    monkeypatch.setattr(sandbox, "QUICK_ROUNDS", 1)
    monkeypatch.setattr(sandbox, "MOST", most)
    file = tmp_path / "report.json"
    assert sandbox.main(["--quick", "--json", str(file)]) == status
    report = json.loads(file.read_bytes())
    assert capsys.readouterr().out == f"{file}\n"
    assert report["passed"] is (status == 0)
    assert report["ratio"] == report["arms"][report["level"]]["ratio"] > 1
    assert report["arms"]["10 in ten launches"]["cpu_ms"] > report["arms"]["10 in one launch"]["cpu_ms"]
