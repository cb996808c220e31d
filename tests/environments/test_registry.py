from __future__ import annotations

import subprocess
import sys

import pytest

import environments
from environments.contract import Environment
from rl.errors import InvalidInput


def test_an_unknown_environment_is_refused_with_the_known_names() -> None:
    with pytest.raises(InvalidInput, match=r"environment = 'chess'.*babyai"):
        environments.load("chess")


@pytest.mark.parametrize("name", environments.KNOWN)
def test_every_known_environment_loads_under_its_name(name: str) -> None:
    environment: Environment = environments.load(name)
    assert environment.name == name
    assert environments.load(name) is environment


def test_the_folder_imports_without_what_its_environments_need() -> None:
    code = "import sys, environments, environments.play, environments.careless; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) & {"minigrid", "gymnasium", "pygame", "httpx", "torch"} == set()


def test_loading_babyai_prints_nothing() -> None:
    code = "import environments; environments.load('babyai-goto')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("", "")
