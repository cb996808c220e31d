"""Runs for the sink ``wandb``, a service that they are sent to, and a host and a user that nobody must hear of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends import sink_settings, wandb_sink
from backends.sinks import Copied, Decided, Evaluated, Model, Run
from backends.steps import Step
from backends.wandb_sink import WandbSink
from tests.wandb_stand_in import KEY, Sent, StandIn, reap, wandb_service

RUN = "job-7-0123456789"
PATIENCE = 120.0
NAMES = (b"wyvern-of-the-fourth-rack", b"quillfeather-the-operator")
"""A host and a user of it, whom nothing else is called like."""
SCENARIOS = "gridworld validation: 100 scenarios from seed 0"


@pytest.fixture(autouse=True)
def children_end() -> Iterator[None]:
    yield
    reap()


@pytest.fixture(autouse=True)
def this_place_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python process that is started now believes itself on that host, of that user; it starts in ``cwd``."""
    site = tmp_path / "site"
    site.mkdir()
    host, user = (name.decode() for name in NAMES)
    (site / "sitecustomize.py").write_text(
        f"import getpass, os, platform, socket\n"
        f"socket.gethostname = socket.getfqdn = platform.node = lambda *_: {host!r}\n"
        f"getpass.getuser = os.getlogin = lambda: {user!r}\n"
    )
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(wandb_sink, "ROOT", site)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with wandb_service() as found:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", found.url)
        monkeypatch.setenv("WANDB_ENTITY", "acme")
        monkeypatch.delenv("WANDB_MODE", raising=False)
        sink_settings.sink_settings.cache_clear()
        yield found
    sink_settings.sink_settings.cache_clear()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "step-4"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights" * 1000)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "checkpoint.json").write_text('{"base": "/a/folder/of/ours"}')
    return folder


def a_run(last: int, checkpoint: Path | None = None, **values: Any) -> Run:
    steps = tuple(Step(step, {"loss": 1 / step}, 1000.0 + step) for step in range(1, last + 1))
    model = () if checkpoint is None else (Model("v1.0.1", checkpoint, "adapter", 4, "ab" * 32, ("ready", "stable")),)
    known: dict[str, Any] = {
        "key": RUN,
        "name": "v1.0.1",
        "group": "main/demo",
        "tags": ("v1.0.1",),
        "state": "succeeded",
        "params": {"line": "main", "config": {"objective": "grpo"}},
        "steps": steps,
        "evaluations": (Evaluated(4, SCENARIOS, 60.0, 100),),
        "decisions": (Decided(True, "paired-margin", "", 2000.0),),
        "models": model,
        "mark": {"job": 7, "step": last},
    }
    return Run(**known | values)


def copied(sink: WandbSink, run: Run) -> Copied:
    """Ask for a copy, and have it end."""
    sink.put(run)
    return arrived(sink, run)


def arrived(sink: WandbSink, run: Run) -> Copied:
    """What becomes of the run, which is asked for again where a child ended without it, as a due row does."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := list(sink.arrived()):
            (one,) = found
            return one
        if not any((sink._folder / name / f"{run.key}.json").exists() for name in ("orders", "working", "arrived")):
            sink.put(run)
        time.sleep(0.05)
    raise AssertionError((sink._folder / "child.log").read_text())


def steps_of(run: Sent) -> list[tuple[int, float]]:
    return [(line["_step"], line["loss"]) for line in run.history]


def expected(last: int) -> list[tuple[int, Any]]:
    return [(step, pytest.approx(1 / step)) for step in range(1, last + 1)]
