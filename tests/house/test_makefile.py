from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
TARGETS = {"help", "install", "demo", "all", "deploy", "up", "down", "check", "docs", "test", "test-slow", "bench"}
TARGETS |= {"audit", "faults"}


def _make(*argv: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    # Not as a make below `make test`, which would add lines of its own.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *argv], cwd=cwd, env=environ, capture_output=True, text=True, check=False)


def test_help_names_every_target() -> None:
    shown = set(re.findall(r"^  make (\S+) +\S", _make("help").stdout, re.MULTILINE))
    assert shown == TARGETS == set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_demo_passes_its_variables_on() -> None:
    assert _make("-n", "demo").stdout.splitlines()[-1].split() == [".venv/bin/rlfleet", "demo"]
    dry = _make("-n", "demo", "SEED=3", "JSON=out.json").stdout.splitlines()[-1]
    assert dry.split() == [".venv/bin/rlfleet", "demo", "--seed", "3", "--json", "'out.json'"]


def test_all_passes_its_variables_on() -> None:
    plain = [".venv/bin/rlfleet", "run", "pipelines/affine.toml"]
    assert _make("-n", "all").stdout.splitlines()[-1].split() == plain
    dry = _make("-n", "all", "BASE=a/b", "QUICK=1", "FRESH=1", "JSON=out.json").stdout.splitlines()[-1]
    written = [">", "'out.json.new'", "&&", "mv", "'out.json.new'", "'out.json'"]
    assert dry.split() == [*plain, "--base", "'a/b'", "--quick", "--fresh", "--json", *written]


def test_deploy_passes_its_variables_on() -> None:
    plain = [".venv/bin/rlfleet", "publish", "'v1.0.3'", "--hub", "'acme/agent'"]
    asked = ("-n", "deploy", "VERSION=v1.0.3", "HUB=acme/agent")
    assert _make(*asked).stdout.splitlines()[-1].split() == plain
    dry = _make(*asked, "PRIVATE=1", "MERGED=1", "JSON=out.json").stdout.splitlines()[-1]
    written = [">", "'out.json.new'", "&&", "mv", "'out.json.new'", "'out.json'"]
    assert dry.split() == [*plain, "--private", "--merged", "--json", *written]


def test_deploy_asks_for_both_names(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed").touch()
    run = _make("deploy", "VERSION=v1.0.3", cwd=tmp_path)
    assert run.returncode == 2
    assert run.stderr.startswith("name both: make deploy VERSION=v1.0.3 HUB=ORG/NAME\n")


def test_faults_passes_its_variables_on() -> None:
    assert _make("-n", "faults").stdout.splitlines()[-1].split() == [".venv/bin/python", "-m", "bench.faults"]
    dry = _make("-n", "faults", "SEED=3", "MINUTES=5", "JSON=out.json", "QUICK=1").stdout.splitlines()[-1]
    words = ["--seed", "3", "--minutes", "5", "--json", "'out.json'", "--quick"]
    assert dry.split() == [".venv/bin/python", "-m", "bench.faults", *words]


def test_bench_passes_its_variables_on() -> None:
    assert _make("-n", "bench").stdout.splitlines()[-1].split() == [".venv/bin/python", "-m", "bench"]
    dry = _make("-n", "bench", "QUICK=1", "JSON=out.json", "PARTS=jobs,loop").stdout.splitlines()[-1]
    words = ["--parts", "jobs,loop", "--quick", "--json", "'out.json'"]
    assert dry.split() == [".venv/bin/python", "-m", "bench", *words]


def test_an_old_python_is_refused_before_anything_is_created(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    run = _make("install", f"PYTHON={old}", cwd=tmp_path)
    assert run.returncode == 2
    assert run.stderr.startswith(f"PYTHON = {old}: Python 3.11 or newer is needed")
    assert not (tmp_path / ".venv").exists()
