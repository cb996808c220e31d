"""`rlfleet doctor` on the places that runs are copied to."""

from __future__ import annotations

import pytest

from backends import sink_settings
from db import mirrors as rows
from db.session import transaction
from fleet.doctor import mirrors
from fleet.doctor.finding import Finding
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty

HIDDEN = "hunter2" * 6


@pytest.fixture(autouse=True)
def _settings_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RLFLEET_SINKS", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    sink_settings.sink_settings.cache_clear()


def found(database: str) -> list[tuple[str, str, str]]:
    sink_settings.sink_settings.cache_clear()
    several: list[Finding] = list(mirrors.look({"DATABASE_URL": database}))
    return [(one.check, one.level, one.words) for one in several]


def test_sinks_are_named_and_places_that_are_behind(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with transaction() as session:
        empty(session)
    assert found(database) == [("sinks", "ok", "runs are copied to: jsonl"), ("mirrors", "ok", "none is behind")]
    monkeypatch.setenv("WANDB_API_KEY", HIDDEN)
    assert found(database)[0] == ("sinks", "ok", "runs are copied to: jsonl, wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    not_sent = "runs are copied to: jsonl, wandb; runs for wandb are recorded on this machine and not sent"
    assert found(database)[0] == ("sinks", "ok", not_sent)
    with transaction() as session:
        rows.failed(session, "wandb", "training", 7, "no answer from https://api.wandb.ai (ReadTimeout)")
    assert found(database)[1] == (
        "mirrors",
        "warn",
        "wandb is behind: 1 copies wait (no answer from https://api.wandb.ai (ReadTimeout))",
    )


def test_a_package_that_is_missing_and_a_sink_that_nobody_knows(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.doctor.mirrors.find_spec", lambda name: None)
    monkeypatch.setenv("RLFLEET_SINKS", "jsonl,tensorboard")
    assert found(database)[0] == ("sinks", "warn", "the package of the sink tensorboard is not installed")
    monkeypatch.setenv("RLFLEET_SINKS", "mlflow")
    ((check, level, words),) = found(database)
    assert (check, level) == ("sinks", "fail")
    assert words.startswith("RLFLEET_SINKS = 'mlflow'")
