from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends import Backend, Place
from backends.choose import BACKENDS, choose, named
from backends.local import Local
from backends.settings import settings
from backends.trl import Trl
from rl.errors import InvalidInput, InvalidSettings
from worker.child import Child

ROOT = Path(__file__).parents[2]
SFT: dict[str, Any] = {"objective": "sft", "steps": 3, "optimizer": {"learning_rate": 1e-3}}
GRPO: dict[str, Any] = {"objective": "grpo", "optimizer": {"learning_rate": 1e-3}}


@pytest.fixture(autouse=True)
def _read_anew() -> Iterator[None]:
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.parametrize("config", [SFT, GRPO, SFT | {"observation_weight": 0.5}, GRPO | {"objective": "rloo"}])
def test_auto_says_what_it_chose_and_why(config: dict[str, Any]) -> None:
    assert choose("auto", config).manifest() == {
        "asked": "auto",
        "used": "local",
        "why": "it honours every setting of the config",
    }


def test_auto_passes_what_one_refuses_on_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Local, "refusals", lambda self, config: ["sft: not today"])
    assert choose("auto", SFT).manifest() == {
        "asked": "auto",
        "used": "trl",
        "why": "local refuses sft: not today; it honours every setting of the config",
    }
    with pytest.raises(InvalidSettings, match=r"local refuses sft: not today; trl refuses observation_weight = 0\.5"):
        choose("auto", SFT | {"observation_weight": 0.5})


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: str(backend.name))
def test_one_that_is_named_is_taken(backend: Backend) -> None:
    chosen = choose(backend.name, GRPO)
    assert chosen.backend is backend
    assert chosen.manifest() == {"asked": backend.name, "used": backend.name, "why": "TRAIN_BACKEND names it"}


def test_one_that_is_named_is_never_swapped_for_another() -> None:
    with pytest.raises(
        InvalidSettings, match="TRAIN_BACKEND = 'trl': trl refuses objective = weighted_sft: TRL is given"
    ):
        choose("trl", SFT | {"objective": "weighted_sft"})
    with pytest.raises(InvalidSettings, match="quantization = '4bit'"):
        choose("trl", GRPO | {"lora": {}, "quantization": "4bit"})


def test_a_config_that_is_no_trainings_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"config\.sft\.steps = "):
        choose("auto", SFT | {"steps": 0})


def test_a_stored_name_finds_its_backend() -> None:
    assert isinstance(named("local"), Local)
    assert isinstance(named("trl"), Trl)
    with pytest.raises(InvalidInput, match="backend = 'art': known backends: local, trl"):
        named("art")


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: str(backend.name))
def test_both_train_in_the_devices_child(backend: Backend, tmp_path: Path) -> None:
    child: Place = Child("cpu", tmp_path)
    assert backend.place(lambda: child) is child


@pytest.mark.parametrize(("value", "asked"), [(None, "local"), ("", "local"), ("trl", "trl"), ("auto", "auto")])
def test_the_variable_names_the_backend(monkeypatch: pytest.MonkeyPatch, value: str | None, asked: str) -> None:
    monkeypatch.delenv("TRAIN_BACKEND", raising=False)
    if value is not None:
        monkeypatch.setenv("TRAIN_BACKEND", value)
    assert settings().backend == asked


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ("art-serverless", "not available yet in this version; set local, trl or auto"),
        ("tlr", "set local, trl or auto"),
    ],
)
def test_an_unknown_backend_is_refused(monkeypatch: pytest.MonkeyPatch, value: str, remedy: str) -> None:
    monkeypatch.setenv("TRAIN_BACKEND", value)
    with pytest.raises(InvalidSettings, match=f"TRAIN_BACKEND = '{value}': {remedy}$"):
        settings()


def test_choosing_loads_neither_torch_nor_trl() -> None:
    code = "import backends.choose, sys; print(*sys.modules)"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {"celery", "db", "gpu", "sqlalchemy", "torch", "transformers", "trl"} == set()
