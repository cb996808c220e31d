from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends import Backend, Place
from backends.art import ArtServerless
from backends.choose import BACKENDS, choose, named
from backends.local import Local
from backends.settings import Asked, settings
from backends.trl import Trl
from rl.errors import InvalidInput, InvalidSettings
from rl.remote import Artifact
from worker.child import Child

ROOT = Path(__file__).parents[2]
SFT: dict[str, Any] = {"objective": "sft", "steps": 3, "optimizer": {"learning_rate": 1e-3}}
GRPO: dict[str, Any] = {"objective": "grpo", "optimizer": {"learning_rate": 1e-3}}
PLAIN: dict[str, Any] = GRPO | {"lora": {}, "mini_batches": 1}
THERE = Artifact("acme", "agents", "main", 3).uri


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
    chosen = choose(backend.name, PLAIN, THERE if isinstance(backend, ArtServerless) else "/a/folder")
    assert chosen.backend is backend
    assert chosen.manifest() == {"asked": backend.name, "used": backend.name, "why": "TRAIN_BACKEND names it"}


def test_one_that_is_named_is_never_swapped_for_another() -> None:
    with pytest.raises(
        InvalidSettings, match="TRAIN_BACKEND = 'trl': trl refuses objective = weighted_sft: TRL is given"
    ):
        choose("trl", SFT | {"objective": "weighted_sft"})
    with pytest.raises(InvalidSettings, match="quantization = '4bit'"):
        choose("trl", GRPO | {"lora": {}, "quantization": "4bit"})


def test_auto_takes_a_service_for_what_lies_there_alone() -> None:
    assert choose("auto", PLAIN, THERE).manifest() == {
        "asked": "auto",
        "used": "art-serverless",
        "why": "the version that it goes on from lies with that service; it honours every setting of the config",
    }
    assert choose("auto", PLAIN, "/a/folder").backend.name == "local"
    with pytest.raises(InvalidSettings, match=r"TRAIN_BACKEND = 'auto': art-serverless refuses mini_batches = 2"):
        choose("auto", PLAIN | {"mini_batches": 2}, THERE)


@pytest.mark.parametrize("parent", [None, "/a/folder"])
def test_a_service_goes_on_from_what_lies_there_alone(parent: str | None) -> None:
    with pytest.raises(InvalidSettings, match=r"goes on from .*: ART's service goes on only from .* `rlfleet adopt"):
        choose("art-serverless", PLAIN, parent)


@pytest.mark.parametrize("name", ["local", "trl"])
def test_what_lies_with_a_service_cannot_be_gone_on_from_here(name: Asked) -> None:
    with pytest.raises(InvalidSettings, match=r"step3, whose weights are not here: set art-serverless, or auto"):
        choose(name, PLAIN, THERE)


def test_a_config_that_is_no_trainings_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"config\.sft\.steps = "):
        choose("auto", SFT | {"steps": 0})


def test_a_stored_name_finds_its_backend() -> None:
    assert isinstance(named("local"), Local)
    assert isinstance(named("trl"), Trl)
    with pytest.raises(InvalidInput, match="backend = 'art': known backends: local, trl, art-serverless"):
        named("art")


@pytest.mark.parametrize("backend", BACKENDS[:2], ids=lambda backend: str(backend.name))
def test_both_train_in_the_devices_child(backend: Backend, tmp_path: Path) -> None:
    child: Place = Child("cpu", tmp_path)
    assert backend.place(lambda: child) is child


@pytest.mark.parametrize(
    ("value", "asked"),
    [(None, "local"), ("", "local"), ("trl", "trl"), ("auto", "auto"), ("art-serverless", "art-serverless")],
)
def test_the_variable_names_the_backend(monkeypatch: pytest.MonkeyPatch, value: str | None, asked: str) -> None:
    monkeypatch.delenv("TRAIN_BACKEND", raising=False)
    if value is not None:
        monkeypatch.setenv("TRAIN_BACKEND", value)
    assert settings().backend == asked


def test_an_unknown_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAIN_BACKEND", "tlr")
    with pytest.raises(InvalidSettings, match=r"TRAIN_BACKEND = 'tlr': set local, trl, art-serverless or auto$"):
        settings()


def test_choosing_loads_neither_torch_nor_trl() -> None:
    code = "import backends.choose, sys; print(*sys.modules)"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    heavy = {"art", "celery", "db", "gpu", "openai", "sqlalchemy", "torch", "transformers", "trl"}
    assert set(done.stdout.split()) & heavy == set()
