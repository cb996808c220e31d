from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
TESTS = """
import pytest

def test_missing_tool():
    pytest.skip("no such tool")

@pytest.mark.platform
def test_missing_device():
    pytest.skip("no such device")

@pytest.mark.xfail(strict=True)
def test_known_fault():
    assert False
"""
INI = "[pytest]\nmarkers =\n    platform: may be skipped\n"


def _run(folder: Path, ci: str, tests: str = TESTS) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, folder / "conftest.py")
    (folder / "test_sample.py").write_text(tests)
    (folder / "pytest.ini").write_text(INI)
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--seed", "7"]
    return subprocess.run(argv, cwd=folder, env={**os.environ, "CI": ci}, capture_output=True, text=True, check=False)


def test_a_skip_is_a_skip_on_a_developers_machine(tmp_path: Path) -> None:
    run = _run(tmp_path, ci="")
    assert run.returncode == 0
    assert "2 skipped, 1 xfailed" in run.stdout.splitlines()[-1]
    assert "seed: 7" in run.stdout


def test_a_skip_fails_under_ci_unless_it_is_about_the_platform(tmp_path: Path) -> None:
    run = _run(tmp_path, ci="true")
    assert run.returncode == 1
    assert "1 failed, 1 skipped, 1 xfailed" in run.stdout.splitlines()[-1]
    assert "no such tool" in run.stdout


@pytest.mark.parametrize(("ci", "code"), [("", 5), ("true", 2)])
def test_a_module_that_skips_itself_fails_under_ci(tmp_path: Path, ci: str, code: int) -> None:
    run = _run(tmp_path, ci, "import pytest\n\npytest.importorskip('no_such_module_anywhere')\n")
    assert run.returncode == code
