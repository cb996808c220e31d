from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest_redis import broker, redis_url
from tests.worker.doubles import PATIENT, make_child
from worker import settings as worker_settings

__all__ = ["broker", "make_child", "redis_url"]


@pytest.fixture(autouse=True)
def _broker_may_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller's haste is not what tests in this process are about; one that is away still refuses at once."""
    monkeypatch.setattr("worker.task._timeouts", PATIENT)


@pytest.fixture(autouse=True)
def _settings_read_anew() -> Iterator[None]:
    worker_settings.settings.cache_clear()
    yield
    worker_settings.settings.cache_clear()
