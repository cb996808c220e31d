"""The page of results: what is run, what is not run again, and what the page says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.results import __main__ as command
from bench.results import page
from fleet.files import read_toml
from fleet.processes import ROOT
from rl.pipeline import Pipeline

SMALL = ROOT / "pipelines" / "small"


def _report(name: str = "webshop", rl: tuple[int, float, float] | None = (200, 0.63, 0.70)) -> dict[str, Any]:
    config = read_toml(SMALL / f"{name}.toml", Pipeline)
    told = {"version": f"{name}-v1.0.4", "n": 300, "tied": 3, "flattery": 0.0142}
    result = told | {"k": rl[0], "low": rl[1], "high": rl[2]} if rl else None
    return {
        "pipeline": name,
        "environment": config.held_out.environment,
        "results": {
            "base": {"model": "starter", "k": 3, "n": 300, "low": 0.0058, "high": 0.0221},
            "sft": {"version": f"{name}-v1.0.0", "k": 150, "n": 300, "low": 0.463, "high": 0.537},
            "rl": result,
        },
        "gains": {"sft": True, "rl": None if rl is None else rl[1] > 0.537},
        "rounds": 12,
        "seconds": {"sft": 60.2, "rl": 100.4},
        "machine": {"cores": 2, "system": "Linux", "architecture": "x86_64"},
        "config": config.model_dump(mode="json"),
    }


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pipelines that were carried out; textcraft fails."""
    names: list[str] = []

    def carried_out(file: Path, home: Path) -> dict[str, Any] | None:
        names.append(file.stem)
        home.mkdir(parents=True)
        return None if file.stem == "textcraft" else _report(file.stem)

    monkeypatch.setattr(command, "_carried_out", carried_out)
    return names


def test_finished_ones_are_not_run_again(ran: list[str], tmp_path: Path) -> None:
    words = ["--only", "webshop", "--out", str(tmp_path / "results.md"), "--folder", str(tmp_path / "work")]
    assert command.main(words) == 0
    assert command.main(words) == 0
    assert ran == ["webshop"]
    assert "| 200/300, 66.7% (63.0% to 70.0%) | yes | 3 (+1.4) | 12 | 161 s |" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "results.png").stat().st_size > 5_000
    assert command.main([*words, "--fresh"]) == 0
    assert ran == ["webshop", "webshop"]


def test_a_file_that_changed_begins_anew(ran: list[str], tmp_path: Path) -> None:
    file = tmp_path / "webshop.toml"
    file.write_text((SMALL / "webshop.toml").read_text())
    assert command.run(file, tmp_path / "work") is not None
    file.write_text(file.read_text().replace("rounds = ", "rounds = 1"))
    assert command.run(file, tmp_path / "work") is not None
    assert ran == ["webshop", "webshop"]


def test_one_that_fails_does_not_hold_up_the_others(
    ran: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("webshop", "textcraft"):
        (tmp_path / f"{name}.toml").write_text((SMALL / f"{name}.toml").read_text())
    words = ["--pipelines", str(tmp_path), "--out", str(tmp_path / "results.md"), "--folder", str(tmp_path / "work")]
    assert command.main(words) == 1
    assert ran == ["textcraft", "webshop"]
    assert "textcraft did not come to its end; the same command goes on with it" in capsys.readouterr().err
    assert "| `textcraft` |" not in (tmp_path / "results.md").read_text()
    assert json.loads((tmp_path / "work" / "webshop.json").read_text())["pipeline"] == "webshop"


def test_the_page_keeps_what_was_not_asked_for(ran: list[str], tmp_path: Path) -> None:
    for name in ("webshop", "trading"):
        (tmp_path / f"{name}.toml").write_text((SMALL / f"{name}.toml").read_text())
    words = ["--pipelines", str(tmp_path), "--out", str(tmp_path / "results.md"), "--folder", str(tmp_path / "work")]
    assert command.main([*words, "--only", "trading"]) == 0
    assert "| `webshop` |" not in (tmp_path / "results.md").read_text()
    assert command.main([*words, "--only", "webshop"]) == 0
    assert ran == ["trading", "webshop"]
    assert "| `trading` |" in (tmp_path / "results.md").read_text()
    (tmp_path / "trading.toml").write_text((SMALL / "trading.toml").read_text().replace("rounds = ", "rounds = 1"))
    assert command.main([*words, "--only", "webshop"]) == 0
    assert "| `trading` |" not in (tmp_path / "results.md").read_text()


def test_a_default_that_came_later_throws_nothing_away(ran: list[str], tmp_path: Path) -> None:
    file = SMALL / "webshop.toml"
    command.run(file, tmp_path)
    report = json.loads((tmp_path / "webshop.json").read_text())
    del report["config"]["demonstrations"]["first_seed"]
    (tmp_path / "webshop.json").write_text(json.dumps(report))
    assert command.run(file, tmp_path) == report
    assert ran == ["webshop"]


def test_one_that_releases_by_degrees_is_not_run_again(ran: list[str], tmp_path: Path) -> None:
    file = tmp_path / "webshop.toml"
    file.write_text((SMALL / "webshop.toml").read_text() + '\n[release]\nstrategy = "gradual"\n')
    config = read_toml(file, Pipeline)
    assert config.release.strategy == "gradual"
    (tmp_path / "work").mkdir()
    stored = _report() | {"config": config.model_dump(mode="json")}
    (tmp_path / "work" / "webshop.json").write_text(json.dumps(stored))
    assert command.run(file, tmp_path / "work") == stored
    assert ran == []


def test_a_result_without_episodes_is_drawn_without_a_bar(tmp_path: Path) -> None:
    report = _report()
    report["results"]["base"] |= {"k": 0, "n": 0, "low": 0.1, "high": 0.9}
    page.draw([report], tmp_path / "results.png")
    assert (tmp_path / "results.png").stat().st_size > 5_000


DRAINING = """
import signal, sys, time
def drain(*_):
    time.sleep(1.0)  # longer than the quarter of a second that subprocess.run waits
    open(sys.argv[1], "w").write("drained")
    sys.exit(130)
signal.signal(signal.SIGINT, drain)
print("ready", file=sys.stderr, flush=True)
time.sleep(60)
"""
CTRL_C = """
import subprocess, sys
from bench.results import __main__ as command

_, draining, folder = sys.argv
popen = subprocess.Popen
command.subprocess.Popen = lambda words, **named: popen([sys.executable, "-c", draining, folder + "/drained"], **named)
sys.exit(command.main(["--only", "webshop", "--folder", folder, "--out", folder + "/page.md"]))
"""


def test_ctrl_c_lets_the_pipeline_stop_in_order(tmp_path: Path) -> None:
    words = [sys.executable, "-c", CTRL_C, DRAINING, str(tmp_path)]
    pipes: dict[str, Any] = {"stderr": subprocess.PIPE, "text": True, "process_group": 0}
    with subprocess.Popen(words, cwd=ROOT, **pipes) as bench:
        assert bench.stderr is not None
        assert [bench.stderr.readline() for _ in range(2)] == ["bench.results: webshop\n", "ready\n"]
        os.killpg(bench.pid, signal.SIGINT)
        assert bench.wait(120) == 130
        assert bench.stderr.read() == "bench.results: stopped; the same command goes on from here\n"
    assert (tmp_path / "drained").read_text() == "drained"
    assert not (tmp_path / "page.md").exists()


def test_an_unknown_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--only = chess: no such pipeline"):
        command.main(["--only", "chess", "--folder", str(tmp_path)])


def test_the_page_counts_the_gains() -> None:
    found = [_report(), _report("textcraft", (160, 0.495, 0.57)), _report("webshop", None)]
    text = page.text(found, "results.png")
    assert "RL is above SFT in 1 of 3. Measured on 2 cores, Linux on x86_64, no GPU." in text
    row = (
        "| `webshop` | webshop-small | shopping | 3/300, 1.0% (0.6% to 2.2%) "
        "| 150/300, 50.0% (46.3% to 53.7%) | 200/300, 66.7% (63.0% to 70.0%) | yes | 3 (+1.4) | 12 | 161 s |"
    )
    assert row in text.splitlines()
    assert "| 160/300, 53.3% (49.5% to 57.0%) | no |" in text
    assert "| - | - | - | 12 | 161 s |" in text
    found[0]["results"]["rl"] |= {"tied": 1, "flattery": 0.0}
    assert "| yes | 1 | 12 | 161 s |" in page.text(found, "results.png")
    del found[0]["results"]["rl"]["tied"]
    assert "| yes | - | 12 | 161 s |" in page.text(found, "results.png")


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ("sat-small", "satisfiability"),
        ("sat-small+textcraft-small*2", "satisfiability, crafting"),
        ("babyai-goto", "a grid world"),
        ("reasoning-gym:leg_counting", "reasoning-gym:leg_counting"),
    ],
)
def test_kinds(environment: str, kind: str) -> None:
    assert page.kind(environment) == kind


def test_a_pipeline_has_a_home_and_ports_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/db")
    monkeypatch.setenv("RL_MODEL_VERSION", "pinned")
    environ = command._environ(tmp_path)
    assert environ["RLFLEET_HOME"] == str(tmp_path)
    assert environ["RLFLEET_GATEWAY_PORT"] != environ["RLFLEET_FLOWER_PORT"]
    assert not {"DATABASE_URL", "RL_MODEL_VERSION"} & environ.keys()
