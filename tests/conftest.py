"""What every test shares: a printed seed, repeatable Hypothesis, and no silent skips under CI."""

from __future__ import annotations

import os
import random
from collections.abc import Generator

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=0, help="seed of the `seed` and `rng` fixtures")


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.getoption('seed')}"


@pytest.fixture(scope="session", autouse=True)
def _tasks_are_bound() -> None:
    """A task that is first looked at while no broker is named stays half bound for the life of the process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDIS_URL", os.environ.get("REDIS_URL", "redis://127.0.0.1:9/0"))
        import tasks  # noqa: F401 - registers them
        from worker import settings as worker_settings
        from worker.app import app

        assert [name for name, task in app.tasks.items() if task.request_stack is None] == []
        worker_settings.broker_url.cache_clear()
        worker_settings.settings.cache_clear()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("seed"))


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True)
def _global_randomness(seed: int) -> None:
    random.seed(seed)


def _skips_fail() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if skipped and _skips_fail() and item.get_closest_marker("platform") is None:
        report.outcome = "failed"
        report.longrepr = (
            f"skipped, and CI installs what tests need (mark it `platform` if it cannot): {_reason(report)}"
        )
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.outcome == "skipped" and _skips_fail():
        report.outcome = "failed"
        report.longrepr = f"a module skipped itself, and CI installs what tests need: {_reason(report)}"
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
