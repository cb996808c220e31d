"""The recipe of the images: what it installs, who its processes are, and what never gets into the light one."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
RECIPE = (ROOT / "docker" / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
TORCH = {"accelerate", "bitsandbytes", "peft", "torch", "transformers", "triton", "trl"}


def _stages() -> dict[str, tuple[str, str]]:
    """Each stage's base and its text, in order."""
    parts = re.split(r"(?m)^FROM (\S+) AS (\S+)$", RECIPE)[1:]
    return {name: (base, text) for base, name, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True)}


def _argument(name: str) -> str:
    found = re.search(rf"(?m)^ARG {name}=(.*)$", RECIPE)
    assert found is not None
    return found[1].strip('"')


def _closure(extras: str) -> set[str]:
    """Every package that ``rlfleet[extras]`` brings, by pyproject.toml and by what the installed packages say."""
    ours = PROJECT["dependencies"] + [one for extra in extras.split(",") for one in EXTRAS[extra]]
    waiting, seen = [Requirement(one) for one in ours], set[tuple[str, frozenset[str]]]()
    while waiting:
        wanted = waiting.pop()
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if key in seen or not (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
            continue
        seen.add(key)
        for line in distribution(wanted.name).requires or []:
            need = Requirement(line)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)):
                need.marker = None
                waiting.append(need)
    return {name for name, _ in seen}


def test_nothing_that_the_light_image_installs_needs_torch() -> None:
    light = _closure(_argument("EXTRAS"))
    assert {"celery", "fastapi", "flower", "huggingface-hub", "minigrid", "obstore", "psycopg2-binary"} <= light
    assert light & TORCH == set()


def test_the_other_image_adds_torch_and_nothing_is_taken_from_it() -> None:
    assert TORCH - {"triton"} <= _closure(_argument("GPU_EXTRAS"))
    assert _stages()["build-gpu"][0] == "build-cpu"


def test_the_recipe_itself_refuses_torch_in_the_light_image() -> None:
    check = re.search(r'bin/python -c "(.*torch is here.*)"', _stages()["build-cpu"][1])
    assert check is not None
    with pytest.raises(SystemExit, match="torch is here"):
        exec(check[1])  # noqa: S102
    with pytest.raises(SystemExit) as ended:
        exec(check[1].replace("find_spec('torch')", "find_spec('no_such_package')"))  # noqa: S102
    assert ended.value.code is None


def test_the_extras_exist_and_every_installation_heeds_the_constraints() -> None:
    assert set(_argument("EXTRAS").split(",")) | set(_argument("GPU_EXTRAS").split(",")) <= set(EXTRAS)
    installations = re.findall(r"pip install (.*?) ", RECIPE)
    assert installations == ["-c", "-c"]
    assert RECIPE.count("pip install -c constraints.txt") == 2


def test_what_runs_is_not_root_and_was_built_elsewhere() -> None:
    stages = _stages()
    assert list(stages)[-1] == "cpu", "what a build without --target makes"
    for name in ("cpu", "gpu"):
        base, text = stages[name]
        assert base == "runtime"
        assert re.findall(r"(?m)^COPY (.*)$", text) == [f"--from=build-{name} /opt/rlfleet /opt/rlfleet"]
        assert "pip" not in text
        users = re.findall(r"(?m)^USER (\S+)$", stages["runtime"][1] + text)
        assert users[-1] == "10001:10001"
    assert "gcc" not in stages["runtime"][1] + stages["cpu"][1], "a compiler comes with Triton alone"


def test_the_base_is_pinned_and_the_label_has_the_version() -> None:
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", _argument("PYTHON"))
    assert {base for base, _ in _stages().values()} == {"${PYTHON}", "build-cpu", "runtime"}
    version = PROJECT["version"]
    assert f'image.version="{version}"' in RECIPE
    assert f"rlfleet-cpu:{version}" in RECIPE


def test_no_secret_can_get_into_a_layer() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert lines[1] == "*"
    assert not {name for name in let_through if name.startswith((".", "docker", "tests"))}
    assert not re.search(r"(?i)(key|password|secret|token)=", RECIPE)
